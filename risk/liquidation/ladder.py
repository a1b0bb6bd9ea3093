"""Ladders: the book as sorted rungs with running sums, so that a look-up prices every position.

A ladder holds the positions of one asset, direction, contract form and cube cell, sorted by the
price at which they close. For a scenario's extreme, everything at or before it is hit: one row of
the running sums gives the cell's P&L, counts, notional and deficit, however many positions it
holds. `docs/design/0004-ladder.md` has the algebra.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.liquidation.columns import Held, Plain, Steps, Sums, Terms
from risk.liquidation.cross import CrossBook, read_pools
from risk.liquidation.grouping import distinct, sort_within
from risk.liquidation.impact import Impact
from risk.liquidation.index import index_ladders
from risk.liquidation.options import Options, build_options, read_options
from risk.liquidation.steps import RUNG_AT, RUNG_BEFORE, take_stairs
from risk.liquidation.sums import sum_plain, sum_steps
from risk.liquidation.terms import Closing, close_lines, close_out_terms, make_cells
from risk.margin.excess import ROW

#: Rungs whose trigger and bankruptcy lie further apart than this share of all rungs' are closed
#: one by one in gaps: one of them would make the look-up useless for its whole ladder.
_WIDE = 0.99


@dataclass(frozen=True)
class Ladders:
    """Sorted rungs, their running sums and the cells they add up to.

    `walk_order` (cell,) visits the cells of one asset together, so that its paths stay in the
    processor's cache.
    """

    assets: tuple[str, ...]
    cells: pa.Table
    walk_order: np.ndarray
    plain: Plain
    steps: Steps
    options: Options
    cross: CrossBook

    @property
    def n_cells(self) -> int:
        """Number of cube cells."""
        return self.cells.num_rows

    @property
    def n_ladders(self) -> int:
        """Number of ladders, those of positions with several rungs included."""
        return len(self.plain.sums.asset) + len(self.steps.sums.asset)

    @property
    def n_rungs(self) -> int:
        """Number of rungs."""
        return len(self.plain.sums.first) + len(self.steps.sums.first)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for _, column in self._columns())

    def save(self, folder: Path) -> None:
        """Write one `.npy` per column, so that workers can map them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, column in self._columns():
            # Aside and renamed: a worker left over from a killed start may have the old one mapped.
            draft = folder / f"{name}.tmp"
            with draft.open("wb") as file:
                np.save(file, column, allow_pickle=False)
            os.replace(draft, folder / f"{name}.npy")
        pq.write_table(self.cells, folder / "cells.parquet")
        (folder / "assets.json").write_text(json.dumps(self.assets))

    def _columns(self) -> Iterator[tuple[str, np.ndarray]]:
        yield "walk_order", self.walk_order
        yield from _flatten("plain", self.plain)
        yield from _flatten("steps", self.steps)
        yield from _flatten("options", self.options)
        yield from _flatten("cross", self.cross)


def load_ladders(folder: Path) -> Ladders:
    """Map saved ladders read-only; nothing is copied into memory until it is used."""

    def read(kind: type, prefix: str) -> Any:
        hints = get_type_hints(kind)
        return kind(
            *(
                np.load(folder / f"{prefix}.{name}.npy", mmap_mode="r")
                if hints[name] is np.ndarray
                else read(hints[name], f"{prefix}.{name}")
                for name in kind._fields  # type: ignore[attr-defined]
            )
        )

    return Ladders(
        tuple(json.loads((folder / "assets.json").read_text())),
        pq.read_table(folder / "cells.parquet"),
        np.load(folder / "walk_order.npy", mmap_mode="r"),
        read(Plain, "plain"),
        read(Steps, "steps"),
        read(Options, "options"),
        read(CrossBook, "cross"),
    )


def _flatten(prefix: str, columns: Any) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in columns._asdict().items():
        if isinstance(value, np.ndarray):
            yield f"{prefix}.{name}", value
        else:
            yield from _flatten(f"{prefix}.{name}", value)


def build_ladders(
    book: pa.Table,
    assets: Sequence[str],
    labels: Sequence[str],
    max_cells: int = 2000,
    impact: Impact | None = None,
) -> Ladders:
    """Build the ladders of a book.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`, sorted by position id; rows not ``ok`` are left out.
    assets : sequence of str
        The drivers' assets, in their order.
    labels : sequence of str
        Roll-up labels that make a cell.
    max_cells : int
        Most cells allowed.
    impact : Impact, optional
        What closing does to the price, see `risk.liquidation.impact`; nothing when absent.

    Returns
    -------
    Ladders

    Raises
    ------
    DataError
        If a priced position's asset has no driver.
    ConfigError
        If the labels give more than `max_cells` cells.
    """
    closing = close_out_terms(book, assets, impact)
    terms = closing.terms
    contracts, holdings = read_options(book, assets)
    pools = read_pools(book, assets, impact)
    pooled = np.flatnonzero(pools.kinds[:, ROW] >= 0)
    rows = [terms.row, holdings.row, pools.kinds[pooled, ROW]]
    ends = np.cumsum([len(part) for part in rows])
    cells, every_cell = make_cells(book, np.concatenate(rows), labels, max_cells)
    cell, option_cell, pool_cell = np.split(every_cell, ends[:2])
    own = np.setdiff1d(np.arange(len(cells)), cell)
    options = build_options(contracts, holdings, option_cell, own)
    leg_cell = np.full(len(pools.legs), -1, "i4")
    leg_cell[pooled] = pool_cell
    is_plain = terms.rule < 0
    key = (cell.astype("i8") * len(assets) + terms.asset) * 2 + (terms.direction < 0)
    whole = terms if is_plain.all() else terms.take(np.flatnonzero(is_plain))
    plain = _plain(whole, key[is_plain], len(assets), len(cells))
    steps = _steps(closing, key[~is_plain], len(assets), len(cells))
    asset = np.zeros(len(cells), "i8")
    for sums in (steps.sums, plain.sums):
        used = np.flatnonzero(np.diff(sums.cell_start))
        asset[used] = sums.asset[sums.cell_start[used]]
    order = np.argsort(asset, kind="stable").astype("i8")
    return Ladders(tuple(assets), cells, order, plain, steps, options, CrossBook(pools, leg_cell))


def _plain(terms: Terms, key: np.ndarray, n_assets: int, n_cells: int) -> Plain:
    """Ladders of positions that are closed whole."""
    keys, ladder = distinct(key * 2 + terms.inverse, 4 * n_cells * n_assets)
    # Ties keep book order, that is position id: the same bytes whatever order rows came in.
    order = sort_within(ladder, len(keys), terms.first)
    terms, ladder = terms.take(order), ladder[order]
    sums = _empty_sums(keys // 2, ladder, terms.first, n_assets, n_cells)

    alpha, beta, cost, fee = close_lines(terms)
    fee_at, bankrupt_at, is_single = _breakpoints(terms, alpha, beta, fee)
    width = np.zeros(len(keys))
    looked_up = np.flatnonzero(~is_single)
    np.maximum.at(width, ladder[looked_up], bankrupt_at[looked_up] - terms.first[looked_up])
    fee_order = sort_within(ladder, len(keys), fee_at)
    bankrupt_order = sort_within(ladder, len(keys), bankrupt_at)
    single = np.flatnonzero(is_single & np.isfinite(terms.first))
    rows = len(sums.hot)
    plain = Plain(
        sums=sums,
        inverse=(keys % 2).astype(bool),
        width=width,
        margin=terms.margin,
        alpha=alpha,
        beta=beta,
        equity=terms.equity,
        cost=cost,
        fee=fee,
        notional=terms.notional,
        to_holder=terms.to_holder,
        is_single=is_single,
        single_start=np.searchsorted(single, sums.start).astype("i8"),
        single=single.astype("i8"),
        fee_at=fee_at[fee_order],
        bankrupt_at=bankrupt_at[bankrupt_order],
        landing=np.zeros((rows, 8)),
        fee_sum=np.zeros((rows, 2)),
        bankrupt_sum=np.zeros((rows, 2)),
    )
    sum_plain(plain, terms.exposure, fee_order, bankrupt_order)
    return plain


def _steps(closing: Closing, key: np.ndarray, n_assets: int, n_cells: int) -> Steps:
    """Ladders of positions that are cut in steps."""
    keys, ladder = distinct(key, 2 * n_cells * n_assets)
    # Positions that one gap hits lie together in memory.
    near = sort_within(ladder, len(keys), closing.held.first)
    held, ladder = Held(*(column[near] for column in closing.held)), ladder[near]
    stairs = take_stairs(closing.stairs, near)
    owner, rungs = np.repeat(np.arange(len(key)), np.diff(stairs.start)), stairs.rung
    # Rungs of one position that share a trigger keep their order.
    order = sort_within(ladder[owner], len(keys), rungs[:, RUNG_AT])
    owner, rungs = owner[order], rungs[order]
    first = np.ascontiguousarray(rungs[:, RUNG_AT])
    sums = _empty_sums(keys, ladder[owner], first, n_assets, n_cells)
    sum_steps(sums, rungs)
    before = np.ascontiguousarray(rungs[:, RUNG_BEFORE])
    return Steps(sums, owner, before, held, closing.rules, stairs, closing.events)


def _empty_sums(
    keys: np.ndarray, ladder: np.ndarray, first: np.ndarray, n_assets: int, n_cells: int
) -> Sums:
    """Ladders named by ``(cell * n_assets + asset) * 2 + side``; `ladder` and `first` by rung."""
    keys, side = np.divmod(keys, 2)
    cell, asset = np.divmod(keys, max(n_assets, 1))
    rows = len(first) + len(keys)
    start = np.searchsorted(ladder, np.arange(len(keys) + 1)).astype("i8")
    side = side.astype("i1")
    lower_start, lower = index_ladders(start, side, first)
    return Sums(
        cell_start=np.searchsorted(cell, np.arange(n_cells + 1)).astype("i8"),
        start=start,
        asset=asset.astype("i4"),
        side=side,
        first=first,
        hot=_aligned(rows, 4),
        short=np.zeros(rows),
        is_short=np.zeros(len(keys), bool),
        cold=np.zeros((rows, 2)),
        lower_start=lower_start,
        lower=lower,
    )


def _aligned(rows: int, columns: int) -> np.ndarray:
    """Zeros that begin where a line of the cache does, as those of a mapped file."""
    room = np.zeros(rows * columns + 8)
    begin = -room.ctypes.data % 64 // room.itemsize
    return room[begin : begin + rows * columns].reshape(rows, columns)


def _breakpoints(
    terms: Terms, alpha: np.ndarray, beta: np.ndarray, fee: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the fee can no longer be paid, where nothing is left, and which rungs stand alone.

    Both places are adverse coordinates, not before the rung's own trigger. Stops stand alone (the
    landing decides whether they are a stop or a liquidation), and so do rungs without a bankruptcy
    and the widest ones.
    """
    fee0 = np.where(terms.inverse, fee, 0.0)
    fee1 = np.where(terms.inverse, 0.0, fee)
    adverse = -terms.direction.astype("f8")

    def root(intercept: np.ndarray, slope: np.ndarray) -> np.ndarray:
        falls = slope * adverse < 0  # value must fall as the price moves against the holder
        place = -intercept / np.where(falls, slope, np.nan)
        place = np.where(falls & (place > 0), place * adverse, np.inf)
        return np.maximum(place, terms.first)

    bankrupt_at = root(alpha, beta)
    fee_at = np.where(terms.to_holder, root(alpha - fee0, beta - fee1), terms.first)
    alone = (terms.first != terms.margin) | ~np.isfinite(bankrupt_at) | ~np.isfinite(fee_at)
    plain = np.flatnonzero(~alone)
    if len(plain):
        reach = bankrupt_at[plain] - terms.first[plain]
        alone[plain[reach > np.quantile(reach, _WIDE, method="higher")]] = True
    return fee_at, bankrupt_at, alone
