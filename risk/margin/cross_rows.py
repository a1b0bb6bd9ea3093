"""Cross-margined rows of the book: their pools at the mark, or why they cannot be priced."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from risk.margin.excess import pool_figures
from risk.margin.pooling import build_pools, find_balances, held_coins, holdings_text

_LIQUIDATABLE = "its cross-margin pool is already at or past its trigger at the mark"
_NEIGHBOUR = "another position of its cross-margin pool is not priced"

#: What an unpriced row does not say.
_NUMBERS = (
    "notional", "unrealized_pnl", "equity", "initial_margin", "maintenance_margin", "margin_ratio",
    "liquidation_price", "bankruptcy_price", "distance_to_liquidation", "notional_usd",
    "equity_usd", "exposure_usd", "trigger", "stop_trigger", "closing_fee_rate",
    "liquidation_fee_rate",
)  # fmt: skip


def margin_pools(
    book: pa.Table, is_cross: np.ndarray, accounts: pa.Table | None, contracts: pa.Table
) -> pa.Table:
    """Give the cross-margined rows of a book the figures of their pools.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`, its cross-margined rows priced as if they had no collateral.
    is_cross : ndarray of bool (position,)
    accounts : Table or None
        Schema ACCOUNTS: the balances behind the pools.
    contracts : Table
        Schema CONTRACTS, for the marks of the coins among them.

    Returns
    -------
    Table
        The same with `pool_holdings` set on every row of a pool that can be priced. There
        `equity`, `margin_ratio`, `margin_call`, `status` are the pool's, and the prices of
        liquidation and bankruptcy those of the row's asset with all other marks held; a pool is
        priced whole or not at all.
    """
    rows = np.flatnonzero(is_cross)
    if not len(rows):
        return book
    taken = book.select(["account", "venue", "status", "reason"]).take(pa.array(rows)).to_pylist()
    owners = [(one["account"], one["venue"]) for one in taken]
    reasons = [one["reason"] if one["status"] == "unpriced" else None for one in taken]
    balances, lost = find_balances(accounts, contracts)
    broken = {owner for owner, reason in zip(owners, reasons, strict=True) if reason}
    for i, owner in enumerate(owners):
        if reasons[i] is None:
            reasons[i] = _reason(owner, balances, lost, broken)
    priced = np.array([reason is None for reason in reasons], bool)
    texts = {owner: holdings_text(held) for owner, held in balances.items()}
    held = [texts[owner] if good else None for owner, good in zip(owners, priced, strict=True)]
    book = _put(book, rows, "pool_holdings", held)
    book = _put(book, rows, "status", ["ok" if good else "unpriced" for good in priced])
    book = _put(book, rows, "reason", reasons)
    gone = rows[~priced]
    for name in (*_NUMBERS, "margin_call", "leftover_to_holder"):
        book = _put(book, gone, name, [None] * len(gone))
    return _figures(book, rows[priced]) if priced.any() else book


def _reason(
    owner: tuple[str, str],
    balances: Mapping[tuple[str, str], object],
    lost: Mapping[tuple[str, str], str],
    broken: set[tuple[str, str]],
) -> str | None:
    """Why a pool as a whole cannot be priced."""
    if owner in lost:
        return f"cross margin with a balance in {lost[owner]}, which has no mark"
    if owner not in balances:
        return "cross margin without a valid balance in accounts"
    return _NEIGHBOUR if owner in broken else None


def _figures(book: pa.Table, rows: np.ndarray) -> pa.Table:
    """Put the pools' figures on their rows."""
    part = book.take(pa.array(rows))
    assets = sorted(held_coins(part) | set(part["asset"].cast(pa.string()).to_pylist()))
    pools = build_pools(book, rows, assets)
    found = pool_figures(pools)
    legs = np.flatnonzero(pools.row >= 0)
    legs = legs[np.argsort(pools.row[legs])]  # in the order of `rows`
    pool = (np.searchsorted(pools.start, np.arange(len(pools.row)), side="right") - 1)[legs]

    def column(name: str) -> np.ndarray:
        return part[name].to_numpy(zero_copy_only=False).astype("f8")

    mark, unit = column("mark_price"), column("notional_usd") / column("notional")
    equity, required = found["equity"][pool], found["required"][pool]
    is_liquidatable = found["is_liquidatable"][pool]
    initial = np.bincount(pool, column("initial_margin") * unit, pools.n_pools)[pool]
    trigger, bankrupt = found["trigger"][legs], found["bankrupt"][legs]
    ratio = np.divide(required, equity, out=np.full(len(equity), np.nan), where=equity > 0)
    distance = np.abs(trigger - 1.0)
    for name, values in (
        ("equity", equity / unit),
        ("equity_usd", equity),
        ("margin_ratio", np.where(np.isfinite(ratio), ratio, np.nan)),
        ("liquidation_price", trigger * mark),
        ("bankruptcy_price", bankrupt * mark),
        (
            "distance_to_liquidation",
            np.where(is_liquidatable, -np.nan_to_num(distance), distance),
        ),
        ("trigger", np.full(len(rows), np.nan)),
    ):
        book = _put(book, rows, name, values)
    book = _put(book, rows, "margin_call", equity < initial)
    past = rows[is_liquidatable]
    book = _put(book, past, "status", ["liquidatable"] * len(past))
    return _put(book, past, "reason", [_LIQUIDATABLE] * len(past))


def _put(book: pa.Table, rows: np.ndarray, name: str, values: object) -> pa.Table:
    """The book with some rows of a column replaced; NaN becomes null."""
    place = book.schema.get_field_index(name)
    field = book.schema.field(place)
    plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    column = book[name].cast(plain).combine_chunks()
    new = pa.array(values, plain, from_pandas=True)
    index = np.arange(len(column))
    index[rows] = len(column) + np.arange(len(rows))
    whole = pa.concat_arrays([column, new]).take(pa.array(index))
    return book.set_column(place, field, whole.cast(field.type))
