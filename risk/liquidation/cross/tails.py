"""Tails of cross-margined positions, one by one: every scenario is looked at, nothing is kept."""

from __future__ import annotations

import numpy as np
import xarray as xr

from risk.compiled import njit
from risk.liquidation.columns import LIQUIDATED
from risk.liquidation.cross.book import add_move, position_legs
from risk.liquidation.cross.lives import pool_outcomes
from risk.liquidation.cross.outcomes import PoolOutcomes, PoolResults, results_of
from risk.liquidation.single import measure_single
from risk.margin.excess import ROW, Packed


def leg_probabilities(
    pools: Packed, drivers: xr.Dataset, outcomes: PoolOutcomes | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the book (position,) and the weight of the scenarios that liquidate each."""
    legs = position_legs(pools)
    if not len(legs):
        return legs, np.empty(0)
    if outcomes is None:
        outcomes = pool_outcomes(pools, drivers)
    hit = outcomes.status == LIQUIDATED
    weight = drivers.weight.values[outcomes.scenario[hit]]
    found = np.bincount(outcomes.leg[hit], weight, len(pools.legs))[legs]
    return pools.kinds[legs, ROW], np.minimum(found, 1.0)


def measure_legs(
    pools: Packed,
    drivers: xr.Dataset,
    outcomes: PoolOutcomes | PoolResults | None,
    weight: np.ndarray,
    limits: tuple[float, float, float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the book (position,) and their measures (4, position).

    In order value at risk, expected shortfall, expected deficit, liquidation probability; see
    `risk.liquidation.single.measure_single` for `weight` and `limits`.
    """
    legs = position_legs(pools)
    found = np.empty((4, len(legs)))
    if not len(legs):
        return legs, found
    if outcomes is None:
        outcomes = pool_outcomes(pools, drivers)
    results = results_of(outcomes) if isinstance(outcomes, PoolOutcomes) else outcomes
    last = np.ascontiguousarray(drivers["last"].values.T)
    is_equal = bool(np.ptp(weight) == 0)
    _measure_all(pools, last, results, weight, is_equal, limits, found)
    # The loop goes from pool to pool, the rows of the book are in another order.
    ahead = np.flatnonzero(pools.kinds[:, ROW] >= 0)
    return pools.kinds[legs, ROW], found[:, np.searchsorted(ahead, legs)]


@njit
def _measure_all(
    pools: Packed, last: np.ndarray, results: PoolResults, weight: np.ndarray, is_equal: bool,
    limits: tuple[float, float, float, float], found: np.ndarray,
) -> None:  # fmt: skip
    """Measure the positions, in the order of their legs."""
    pnl, loss, mass = np.empty(len(weight)), np.empty(len(weight)), np.empty(len(weight))
    unit = limits[3]
    start, order = _group(results.leg, len(pools.legs))
    place = 0
    for k in range(len(pools.start) - 1):
        for leg in range(pools.start[k], pools.start[k + 1]):
            if pools.kinds[leg, ROW] < 0:
                continue
            pnl[:] = 0.0
            add_move(pools, k, leg, last, pnl)
            short, liquidated = 0.0, 0.0
            for r in order[start[leg] : start[leg + 1]]:
                i = results.scenario[r]
                pnl[i] = results.pnl[r]
                short += results.deficit[r] * weight[i]
                if results.is_liquidated[r]:
                    liquidated += weight[i]
            found[0, place], found[1, place] = measure_single(
                pnl, weight, is_equal, limits, loss, mass
            )
            found[2, place], found[3, place] = short * unit, min(liquidated * unit, 1.0)
            place += 1


@njit
def _group(leg: np.ndarray, n_legs: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each leg's rows begin among all, then the end; and the rows leg by leg, in order."""
    start = np.zeros(n_legs + 1, np.int64)
    for one in leg:
        start[one + 1] += 1
    start = np.cumsum(start)
    order, at = np.empty(len(leg), np.int64), start[:-1].copy()
    for r in range(len(leg)):
        order[at[leg[r]]] = r
        at[leg[r]] += 1
    return start, order
