"""What single positions lose in given scenarios, priced again and weighed together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.drivers import slice_drivers
from risk.liquidation import Impact, position_outcomes
from risk.liquidation.cross import PoolOutcomes, leg_outcomes, read_pools

#: Scenarios priced at once: bounds the memory.
_BATCH = 64

_LIQUIDATED = 2


def position_parts(
    book: pa.Table, drivers: xr.Dataset, share: np.ndarray, impact: Impact | None = None
) -> pa.Table:
    """Weighted sums over scenarios of every position's loss, deficit and liquidation.

    With the tail of the book's P&L as `share`, the losses are the positions' Euler contributions
    to its expected shortfall: re-evaluated, not estimated by bumps, so they add up.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`, or a part of it that holds pools whole or not at all.
    drivers : Dataset
        Driver record of the tail scenarios, at least one.
    share : ndarray (scenario,)
        Weight of each of them.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.

    Returns
    -------
    Table
        `row` in the book, `loss_usd`, `deficit_usd`, `liquidations`, one row per priced position.
    """
    n = drivers.sizes["scenario"]
    sums: np.ndarray | None = None
    row = np.empty(0, "i8")
    for start in range(0, n, _BATCH):
        part = slice_drivers(drivers, start, min(start + _BATCH, n))
        out = position_outcomes(book, part, impact)
        weight = share[start : start + _BATCH, None]
        found = np.stack(
            [
                (-out.pnl.values * weight).sum(axis=0),
                (out.deficit.values * weight).sum(axis=0),
                ((out.outcome.values == _LIQUIDATED) * weight).sum(axis=0),
            ]
        )
        sums = found if sums is None else sums + found
        row = out.row.values
    if sums is None:
        sums = np.zeros((3, 0))
    return pa.table(
        {"row": row, "loss_usd": sums[0], "deficit_usd": sums[1], "liquidations": sums[2]}
    )


def pool_parts(
    book: pa.Table,
    drivers: xr.Dataset,
    share: np.ndarray,
    impact: Impact | None = None,
    pooled: PoolOutcomes | None = None,
) -> pa.Table:
    """`position_parts` of the positions in pools alone; `pooled` if they were lived before."""
    pools = read_pools(book, list(drivers.asset.values), impact)
    row, amounts, status = leg_outcomes(pools, drivers, pooled)
    return pa.table(
        {
            "row": row,
            "loss_usd": -(share @ amounts[0]),
            "deficit_usd": share @ amounts[2],
            "liquidations": share @ (status == _LIQUIDATED),
        }
    )
