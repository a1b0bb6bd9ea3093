"""Tails of option positions, one by one: every scenario is looked at, and nothing is kept."""

from __future__ import annotations

import numpy as np

from risk.liquidation.options.closing import close_holding
from risk.liquidation.options.columns import Contracts, Holdings, Valued
from risk.liquidation.single import measure_single


def holding_probabilities(holdings: Holdings, valued: Valued, weight: np.ndarray) -> np.ndarray:
    """Weight of the scenarios that liquidate each option position (position,)."""
    found = np.zeros(len(holdings.row))
    for k in np.unique(holdings.contract):
        mine = np.flatnonzero(holdings.contract == k)
        stairs = slice(valued.start[k], valued.start[k + 1])
        scenario, level = valued.scenario[stairs], valued.level[stairs]
        # Levels rise within a scenario: its last stair is the highest.
        top = np.flatnonzero(np.append(scenario[1:] != scenario[:-1], True)[: len(scenario)])
        order = top[np.argsort(level[top], kind="stable")]
        above = np.append(np.cumsum(weight[scenario[order]][::-1])[::-1], 0.0)
        found[mine] = above[np.searchsorted(level[order], holdings.backing[mine])]
    return np.minimum(found, 1.0)


def measure_holdings(
    contracts: Contracts,
    holdings: Holdings,
    valued: Valued,
    weight: np.ndarray,
    limits: tuple[float, ...],
    found: np.ndarray,
) -> None:
    """Fill value at risk, shortfall, expected deficit and liquidation probability (4, position).

    See `risk.liquidation.single.measure_single` for `weight` and `limits`.
    """
    out, hit = np.empty((5, len(weight))), np.empty(len(weight), bool)
    for p in range(len(holdings.row)):
        close_holding(contracts, valued, holdings, p, out, hit)
        found[:, p] = measure_single(out[0], out[2], hit, weight, limits)
