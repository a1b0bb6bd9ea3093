"""Ladders: the book as sorted rungs with running sums, so that a look-up prices every position.

A ladder holds the positions of one asset, direction, contract form and cube cell, sorted by the
price at which they close. For a scenario's extreme, everything at or before it is hit: one row of
the running sums gives the cell's P&L, counts, notional and deficit, however many positions it
holds. `docs/design/0004-ladder.md` has the algebra, `reference` tests the brute force.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.liquidation.kernel import sum_ladders
from risk.liquidation.terms import Terms, close_out_terms, make_cells

#: Rungs whose trigger and bankruptcy lie further apart than this share of all rungs' are closed
#: one by one in gaps: one of them would make the look-up useless for its whole ladder.
_WIDE = 0.99


@dataclass(frozen=True)
class Ladders:
    """Sorted rungs, their running sums and the cells they add up to.

    Columns on (ladder,) say what a ladder is, `start` (ladder + 1,) where its rungs are; columns
    on (rung,) describe the positions; running sums have one row more per ladder than rungs.
    """

    assets: tuple[str, ...]
    cells: pa.Table
    start: np.ndarray
    asset: np.ndarray
    side: np.ndarray  # 0 longs (closed by falls), 1 shorts (closed by rises)
    inverse: np.ndarray
    cell: np.ndarray
    width: np.ndarray  # largest distance from a plain rung's trigger to its bankruptcy
    first: np.ndarray
    margin: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    equity: np.ndarray
    cost: np.ndarray
    fee: np.ndarray
    notional: np.ndarray
    to_holder: np.ndarray
    is_single: np.ndarray
    single_start: np.ndarray
    single: np.ndarray
    fee_at: np.ndarray
    bankrupt_at: np.ndarray
    hit: np.ndarray
    landing: np.ndarray
    fee_sum: np.ndarray
    bankrupt_sum: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of cube cells."""
        return self.cells.num_rows

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        columns = (getattr(self, field.name) for field in fields(self))
        return sum(column.nbytes for column in columns if isinstance(column, np.ndarray))

    def save(self, folder: Path) -> None:
        """Write one `.npy` per column, so that workers can map them."""
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            column = getattr(self, field.name)
            if isinstance(column, np.ndarray):
                np.save(folder / f"{field.name}.npy", column, allow_pickle=False)
        pq.write_table(self.cells, folder / "cells.parquet")
        (folder / "assets.json").write_text(json.dumps(self.assets))


def load_ladders(folder: Path) -> Ladders:
    """Map saved ladders read-only; nothing is copied into memory until it is used."""
    columns = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    assets = tuple(json.loads((folder / "assets.json").read_text()))
    return Ladders(assets=assets, cells=pq.read_table(folder / "cells.parquet"), **columns)


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
    # Ties keep book order, that is position id: the same bytes whatever order rows came in.
    order = np.lexsort((terms.first, cell, terms.is_inverse, side, terms.asset))
    terms, cell, side = terms.take(order), cell[order], side[order]
    begins = np.zeros(len(terms), bool)
    begins[:1] = True
    for key in (terms.asset, side, terms.is_inverse, cell):
        begins[1:] |= key[1:] != key[:-1]
    head = np.flatnonzero(begins)
    start = np.append(head, len(terms)).astype("i8")
    ladder = np.repeat(np.arange(len(head)), np.diff(start))

    fee_at, bankrupt_at, is_single = _breakpoints(terms)
    width = np.zeros(len(head))
    plain = np.flatnonzero(~is_single)
    np.maximum.at(width, ladder[plain], bankrupt_at[plain] - terms.first[plain])
    fee_order = np.lexsort((fee_at, ladder))
    bankrupt_order = np.lexsort((bankrupt_at, ladder))
    single = np.flatnonzero(is_single & np.isfinite(terms.first))
    rows = len(terms) + len(head)
    hit, landing = np.zeros((rows, 8)), np.zeros((rows, 8))
    fee_sum, bankrupt_sum = np.zeros((rows, 2)), np.zeros((rows, 2))
    sum_ladders(
        start, terms.is_inverse[head], terms.first, terms.margin, terms.alpha, terms.beta,
        terms.equity, terms.exposure, terms.cost, terms.fee, terms.notional, terms.to_holder,
        side[head], is_single, fee_order, fee_at, bankrupt_order,
        hit, landing, fee_sum, bankrupt_sum,
    )  # fmt: skip
    return Ladders(
        assets=tuple(assets),
        cells=cells,
        start=start,
        asset=terms.asset[head],
        side=side[head],
        inverse=terms.is_inverse[head],
        cell=cell[head],
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
        hit=hit,
        landing=landing,
        fee_sum=fee_sum,
        bankrupt_sum=bankrupt_sum,
    )


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
