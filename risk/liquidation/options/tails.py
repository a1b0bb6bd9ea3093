"""Tails of option positions, one by one: every scenario is looked at, and nothing is kept."""

from __future__ import annotations

import numpy as np

from risk.liquidation.options.closing import close_holding
from risk.liquidation.options.columns import Contracts, Holdings, Valued


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

    `weight` (scenario,) is in whole units; `limits` are the weight that may be worse than the value
    at risk, the same for the shortfall's edge, the shortfall's tail and the probability of a unit.
    """
    n = len(weight)
    var_limit, es_limit, es_tail, unit = limits
    # With equal weights a few of the worst are enough.
    most = min(int(max(var_limit, es_limit)) + 1, n) if np.ptp(weight) == 0 else n
    out, hit = np.empty((5, n)), np.empty(n, bool)
    for p in range(len(holdings.row)):
        close_holding(contracts, valued, holdings, p, out, hit)
        loss = -out[0]
        worst = np.argpartition(loss, n - most)[n - most :] if most < n else np.arange(n)
        worst = worst[np.argsort(-loss[worst], kind="stable")]
        each, loss = weight[worst], loss[worst]
        total = np.cumsum(each)
        place = min(int(np.searchsorted(total, var_limit, side="right")), most - 1)
        edge = min(int(np.searchsorted(total, es_limit, side="right")), most - 1)
        inside = float(each[:edge].sum())
        found[0, p] = loss[place]
        found[1, p] = (
            np.sum(each[:edge] * loss[:edge]) + (es_tail - inside) * loss[edge]
        ) / es_tail
        found[2, p] = np.sum(weight * out[2]) * unit
        found[3, p] = min(float(np.sum(weight[hit])) * unit, 1.0)
