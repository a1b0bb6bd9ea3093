"""Tails of cross-margined positions, one by one: every scenario is looked at, nothing is kept."""

from __future__ import annotations

import numpy as np
import xarray as xr

from risk.liquidation.columns import LIQUIDATED
from risk.liquidation.cross.book import (
    PoolOutcomes,
    leg_moves,
    pool_outcomes,
    position_legs,
)
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
    outcomes: PoolOutcomes | None,
    weight: np.ndarray,
    limits: tuple[float, ...],
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
    last = np.ascontiguousarray(drivers["last"].values.T)
    order = np.argsort(outcomes.leg, kind="stable")
    edges = np.searchsorted(outcomes.leg[order], np.arange(len(pools.legs) + 1))
    for place, leg in enumerate(legs.tolist()):
        mine = order[edges[leg] : edges[leg + 1]]
        at = outcomes.scenario[mine]
        pnl, deficit = leg_moves(pools, leg, last), np.zeros(last.shape[1])
        hit = np.zeros(last.shape[1], bool)
        pnl[at], deficit[at] = outcomes.amounts[mine, 0], outcomes.amounts[mine, 2]
        hit[at] = outcomes.status[mine] == LIQUIDATED
        found[:, place] = measure_single(pnl, deficit, hit, weight, limits)
    return pools.kinds[legs, ROW], found
