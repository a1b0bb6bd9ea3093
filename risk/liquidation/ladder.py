"""Ladders: the book as sorted rungs with running sums, so that a look-up prices every position.

A ladder holds the positions of one asset, direction, contract form and cube cell, sorted by the
price at which they close. For a scenario's extreme, everything at or before it is hit: one row of
the running sums gives the cell's P&L, counts, notional and deficit, however many positions it
holds. `docs/design/0004-ladder.md` has the algebra.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.liquidation.columns import Rungs
from risk.liquidation.sums import sum_ladders
from risk.liquidation.terms import Terms, close_out_terms, make_cells

#: Rungs whose trigger and bankruptcy lie further apart than this share of all rungs' are closed
#: one by one in gaps: one of them would make the look-up useless for its whole ladder.
_WIDE = 0.99


@dataclass(frozen=True)
class Ladders:
    """Sorted rungs, their running sums and the cells they add up to."""

    assets: tuple[str, ...]
    cells: pa.Table
    rungs: Rungs

    @property
    def n_cells(self) -> int:
        """Number of cube cells."""
        return self.cells.num_rows

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for column in self.rungs)

    def save(self, folder: Path) -> None:
        """Write one `.npy` per column, so that workers can map them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, column in self.rungs._asdict().items():
            np.save(folder / f"{name}.npy", column, allow_pickle=False)
        pq.write_table(self.cells, folder / "cells.parquet")
        (folder / "assets.json").write_text(json.dumps(self.assets))


def load_ladders(folder: Path) -> Ladders:
    """Map saved ladders read-only; nothing is copied into memory until it is used."""
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in Rungs._fields}
    assets = tuple(json.loads((folder / "assets.json").read_text()))
    return Ladders(assets, pq.read_table(folder / "cells.parquet"), Rungs(**columns))


def build_ladders(
    book: pa.Table, assets: Sequence[str], labels: Sequence[str], max_cells: int = 2000
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
    terms = close_out_terms(book, assets)
    cells, cell = make_cells(book, terms.row, labels, max_cells)
    side = (terms.direction < 0).astype("i1")
    key = ((cell.astype("i8") * len(assets) + terms.asset) * 2 + side) * 2 + terms.is_inverse
    keys, ladder = np.unique(key, return_inverse=True)
    # Ties keep book order, that is position id: the same bytes whatever order rows came in.
    order = _sort_within(ladder, terms.first)
    terms, ladder = terms.take(order), ladder[order]
    start = np.searchsorted(ladder, np.arange(len(keys) + 1)).astype("i8")
    keys, inverse = np.divmod(keys, 2)
    keys, side = np.divmod(keys, 2)
    cell, asset = np.divmod(keys, max(len(assets), 1))

    fee_at, bankrupt_at, is_single = _breakpoints(terms)
    width = np.zeros(len(keys))
    plain = np.flatnonzero(~is_single)
    np.maximum.at(width, ladder[plain], bankrupt_at[plain] - terms.first[plain])
    fee_order = _sort_within(ladder, fee_at)
    bankrupt_order = _sort_within(ladder, bankrupt_at)
    single = np.flatnonzero(is_single & np.isfinite(terms.first))
    rows = len(terms) + len(keys)
    cell_start = np.searchsorted(cell, np.arange(cells.num_rows + 1)).astype("i8")
    rungs = Rungs(
        walk_order=np.argsort(asset[cell_start[:-1]], kind="stable").astype("i8"),
        cell_start=cell_start,
        start=start,
        asset=asset.astype("i4"),
        side=side.astype("i1"),
        inverse=inverse.astype(bool),
        width=width,
        first=terms.first,
        margin=terms.margin,
        alpha=terms.alpha,
        beta=terms.beta,
        equity=terms.equity,
        cost=terms.cost,
        fee=terms.fee,
        notional=terms.notional,
        to_holder=terms.to_holder,
        is_single=is_single,
        single_start=np.searchsorted(single, start).astype("i8"),
        single=single.astype("i8"),
        fee_at=fee_at[fee_order],
        bankrupt_at=bankrupt_at[bankrupt_order],
        hot=np.zeros((rows, 5)),
        cold=np.zeros((rows, 2)),
        landing=np.zeros((rows, 8)),
        fee_sum=np.zeros((rows, 2)),
        bankrupt_sum=np.zeros((rows, 2)),
    )
    sum_ladders(rungs, terms.exposure, fee_order, bankrupt_order)
    return Ladders(tuple(assets), cells, rungs)


def _sort_within(ladder: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Stable order by (ladder, value); two sorts of one key are faster than one of two."""
    order = np.argsort(value, kind="stable")
    code = ladder[order]
    if len(code) and code.max() < 2**16:
        code = code.astype("u2")  # sorted by radix
    return order[np.argsort(code, kind="stable")]


def _breakpoints(terms: Terms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the fee can no longer be paid, where nothing is left, and which rungs stand alone.

    Both places are adverse coordinates, not before the rung's own trigger. Stops stand alone (the
    landing decides whether they are a stop or a liquidation), and so do rungs without a bankruptcy
    and the widest ones.
    """
    fee0 = np.where(terms.is_inverse, terms.fee, 0.0)
    fee1 = np.where(terms.is_inverse, 0.0, terms.fee)
    adverse = -terms.direction.astype("f8")

    def root(intercept: np.ndarray, slope: np.ndarray) -> np.ndarray:
        falls = slope * adverse < 0  # value must fall as the price moves against the holder
        place = -intercept / np.where(falls, slope, np.nan)
        place = np.where(falls & (place > 0), place * adverse, np.inf)
        return np.maximum(place, terms.first)

    bankrupt_at = root(terms.alpha, terms.beta)
    fee_at = np.where(terms.to_holder, root(terms.alpha - fee0, terms.beta - fee1), terms.first)
    alone = (terms.first != terms.margin) | ~np.isfinite(bankrupt_at) | ~np.isfinite(fee_at)
    plain = np.flatnonzero(~alone)
    if len(plain):
        reach = bankrupt_at[plain] - terms.first[plain]
        alone[plain[reach > np.quantile(reach, _WIDE, method="higher")]] = True
    return fee_at, bankrupt_at, alone
