"""The books between two nights: closed, repriced, resized, refunded and opened, in this order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.margin.venues import VenueRules
from risk.snapshot import Snapshot


@dataclass(frozen=True)
class Book:
    """What `build_book` takes."""

    positions: pa.Table
    contracts: pa.Table
    tiers: pa.Table
    venues: dict[str, VenueRules]
    as_of: dt.date
    accounts: pa.Table | None


def book_of(snapshot: Snapshot) -> Book:
    """The book of a snapshot."""
    # Rows of two nights are compared in this order.
    positions = snapshot.positions.sort_by("position_id")
    return Book(
        positions,
        snapshot.contracts,
        snapshot.tiers,
        snapshot.venues,
        snapshot.as_of,
        snapshot.accounts,
    )


def books(start: Book, end: Book) -> Iterator[tuple[str, Book, str]]:
    """The books between two nights, one cause after the other; the last is the second night's."""
    # A position that changed sides or contract is another position.
    key = ["position_id", "venue", "symbol", "side"]
    old, new = (_keys(book.positions, key) for book in (start, end))
    stays, is_new = np.isin(old, new), ~np.isin(new, old)
    book = replace(start, positions=start.positions.filter(pa.array(stays)))
    yield "positions closed", book, f"{(~stays).sum():,} positions"

    book = replace(book, contracts=_at_prices(start.contracts, end.contracts), as_of=end.as_of)
    book = replace(
        book,
        tiers=_joined(start.tiers, end.tiers),
        venues=end.venues | start.venues,
    )
    yield "price level", book, f"marks of {end.as_of}"

    rules = replace(
        book,
        contracts=_joined(end.contracts, book.contracts),
        tiers=_joined(end.tiers, book.tiers),
        venues=start.venues | end.venues,
    )
    yield "margin rules", rules, "tiers, fees and venue rules"

    kept = end.positions.filter(pa.array(~is_new))
    sized = _with_scaled_margin(rules.positions, kept, end.contracts)
    changed = _n_changed(rules.positions, kept, ("contracts", "entry_price", "leverage",
                                                 "margin_mode", "stop_loss_price"))  # fmt: skip
    book = replace(rules, positions=sized)
    yield "size and leverage", book, f"{changed:,} positions"

    moved = int(
        pc.sum(pc.not_equal(sized["position_margin"], kept["position_margin"])).as_py() or 0
    )
    collateral = replace(rules, positions=kept, accounts=end.accounts)
    yield "collateral", collateral, f"{moved:,} positions"
    yield "positions opened", end, f"{is_new.sum():,} positions"


def listed_assets(snapshot: Snapshot) -> set[str]:
    """Assets of the contracts of a snapshot."""
    return set(snapshot.contracts["base"].to_pylist())


def _keys(table: pa.Table, columns: list[str]) -> np.ndarray:
    """One text per row that two tables can be compared by."""
    parts = [table[name].cast(pa.string()) for name in columns]
    return pc.binary_join_element_wise(*parts, "\x1f").to_numpy(zero_copy_only=False).astype(str)


def _joined(first: pa.Table, second: pa.Table) -> pa.Table:
    """The first table, and the second's contracts it does not have."""
    key = ["venue", "symbol"]
    extra = ~np.isin(_keys(second, key), _keys(first, key))
    return pa.concat_tables([first, second.filter(pa.array(extra))])


def _at_prices(old: pa.Table, new: pa.Table) -> pa.Table:
    """The old contracts at the new prices, and the new ones as they are."""
    key = ["venue", "symbol"]
    row_of = {name: row for row, name in enumerate(_keys(new, key))}
    rows = pa.array([row_of.get(name) for name in _keys(old, key)], pa.int64())
    found = pc.is_valid(rows)
    for name in ("mark_price", "mark_timestamp", "index_price"):
        latest = pc.if_else(found, new[name].take(rows), old[name])
        at = old.schema.get_field_index(name)
        old = old.set_column(at, old.schema.field(at), latest)
    return _joined(old, new)


def _with_scaled_margin(old: pa.Table, new: pa.Table, contracts: pa.Table) -> pa.Table:
    """The new positions with the old collateral, scaled as their entry value over leverage moved.

    Collateral that follows size and leverage is no collateral moved.
    """
    linear = dict(zip(_keys(contracts, ["venue", "symbol"]), contracts["linear"].to_pylist(),
                      strict=True))  # fmt: skip
    power = np.array([1.0 if linear[name] else -1.0 for name in _keys(new, ["venue", "symbol"])])
    entry = [_floats(table, "contracts") * _floats(table, "entry_price") ** power
             for table in (old, new)]  # fmt: skip
    leverage = _floats(old, "leverage") / _floats(new, "leverage")
    ratio = entry[1] / entry[0] * np.where(np.isfinite(leverage), leverage, 1.0)
    margin = pa.array(_floats(old, "position_margin") * ratio)
    at = new.schema.get_field_index("position_margin")
    return new.set_column(at, new.schema.field(at), margin)


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False).astype("f8")


def _n_changed(old: pa.Table, new: pa.Table, columns: tuple[str, ...]) -> int:
    """Rows that differ in some column; a null is a value."""
    differs = np.zeros(old.num_rows, bool)
    for name in columns:
        pairs = zip(old[name].to_pylist(), new[name].to_pylist(), strict=True)
        differs |= np.array([a != b for a, b in pairs], bool)
    return int(differs.sum())
