"""Tails of option positions, one by one: every scenario is looked at, and nothing is kept."""

from __future__ import annotations

import numpy as np
from numba import njit

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


@njit(cache=True, nogil=True)
def measure_holdings(
    c: Contracts, holdings: Holdings, valued: Valued, weight: np.ndarray, limits: np.ndarray,
    found: np.ndarray,
) -> None:  # fmt: skip
    """Fill value at risk, shortfall, expected deficit and liquidation probability (4, position).

    `weight` (scenario,) is in whole units; `limits` are the weight that may be worse than the value
    at risk, the same for the shortfall's edge, the shortfall's tail and the probability of a unit.
    """
    n = len(weight)
    var_limit, es_limit, es_tail, unit = limits[0], limits[1], limits[2], limits[3]
    is_equal = weight.min() == weight.max()
    most = min(int(max(var_limit, es_limit)) + 1, n)
    out, hit = np.empty((5, n)), np.empty(n, np.bool_)
    for p in range(len(holdings.row)):
        close_holding(c, valued, holdings, p, out, hit)
        deficit, chance = 0.0, 0.0
        for i in range(n):
            deficit += weight[i] * out[2, i]
            if hit[i]:
                chance += weight[i]
        loss = -out[0]
        if is_equal:
            worst = np.sort(np.partition(loss, n - most)[n - most :])[::-1]
            each = np.full(most, weight[0])
        else:
            order = np.argsort(-loss)
            worst, each = loss[order], weight[order]
        total, tail = 0.0, 0.0
        value_at_risk, is_known = worst[len(worst) - 1], False
        shortfall, is_full = 0.0, False
        for j in range(len(worst)):
            total += each[j]
            if not is_known and total > var_limit:
                value_at_risk, is_known = worst[j], True
            if not is_full:
                if total > es_limit:
                    shortfall += (es_tail - tail) * worst[j]
                    is_full = True
                else:
                    shortfall += each[j] * worst[j]
                    tail = total
        found[0, p] = value_at_risk
        found[1, p] = shortfall / es_tail
        found[2, p] = deficit * unit
        found[3, p] = min(chance * unit, 1.0)
