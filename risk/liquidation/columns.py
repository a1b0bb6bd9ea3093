"""The arrays the compiled loops work on: ladders, paths and gaps, and what their columns mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Columns of `hot`: what the k first rungs and the survivors behind them add up to. Four of the
# cube's variables need no other table.
HIT_PNL, HIT_SLOPE, HIT_DEFICIT, HIT_NOTIONAL, HIT_COUNTS = range(5)
# Columns of `cold`.
HIT_VENUE, HIT_COST = range(2)
# Columns of `landing`: prefix sums, in trigger order, of the plain rungs closed at a landing.
(
    LAND_HOLD0,
    LAND_HOLD1,
    LAND_VENUE0,
    LAND_VENUE1,
    LAND_EQUITY,
    LAND_COST,
    LAND_NOTIONAL,
    LAND_COIN,
) = range(8)

#: Liquidations and stops share one column: up to 2**26 of each are exact in a float64.
STOP_BITS = 26
STOP = 1 << STOP_BITS


class Rungs(NamedTuple):
    """Ladders sorted by cell, their rungs sorted by the price at which they close.

    `cell_start` (cell + 1,) says where a cell's ladders are, `start` (ladder + 1,) where a ladder's
    rungs are, and `walk_order` (cell,) visits the cells of one asset together, so that the asset's
    paths stay in the cache. Running sums have one row more per ladder than rungs: after the first k
    rungs of a ladder, row ``start[ladder] + ladder + k``.
    """

    walk_order: np.ndarray
    cell_start: np.ndarray
    start: np.ndarray
    # (ladder,)
    asset: np.ndarray
    side: np.ndarray  # 0 longs (closed by falls), 1 shorts (closed by rises)
    inverse: np.ndarray
    width: np.ndarray  # largest distance from a plain rung's trigger to its bankruptcy
    # (rung,), see `risk.liquidation.terms.Terms`
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
    single_start: np.ndarray  # (ladder + 1,) into `single`
    single: np.ndarray  # rungs that are closed one by one in every gap
    fee_at: np.ndarray  # where the fee can no longer be paid, sorted within each ladder
    bankrupt_at: np.ndarray  # where nothing is left, sorted within each ladder
    # (row of running sums, column)
    hot: np.ndarray
    cold: np.ndarray
    landing: np.ndarray
    fee_sum: np.ndarray
    bankrupt_sum: np.ndarray


class Paths(NamedTuple):
    """What the scenarios of a block do to each asset."""

    extreme: np.ndarray  # (asset, side, scenario), adverse coordinates in rising order
    order: np.ndarray  # which scenario each extreme is
    last: np.ndarray  # (asset, scenario)
    bucket: np.ndarray  # (asset, side, bucket + 1): how many extremes lie in lower buckets
    scale: np.ndarray  # (asset, side): buckets per unit of the coordinate


class Gaps(NamedTuple):
    """Gaps grouped by (asset, side) in adverse coordinates, in scenario and path order."""

    start: np.ndarray  # (2 * asset + side,), then the end
    scenario: np.ndarray
    before: np.ndarray
    landing: np.ndarray
