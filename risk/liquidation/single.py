"""Tail of one position whose every scenario is known."""

from __future__ import annotations

import numpy as np


def measure_single(
    pnl: np.ndarray,
    deficit: np.ndarray,
    hit: np.ndarray,
    weight: np.ndarray,
    limits: tuple[float, ...],
) -> tuple[float, float, float, float]:
    """Value at risk, shortfall, expected deficit and liquidation probability of one position.

    `weight` (scenario,) is in whole units; `limits` are the weight that may be worse than the value
    at risk, the same for the shortfall's edge, the shortfall's tail and the probability of a unit.
    """
    n = len(weight)
    var_limit, es_limit, es_tail, unit = limits
    # With equal weights a few of the worst are enough.
    most = min(int(max(var_limit, es_limit)) + 1, n) if np.ptp(weight) == 0 else n
    loss = -pnl
    worst = np.argpartition(loss, n - most)[n - most :] if most < n else np.arange(n)
    worst = worst[np.argsort(-loss[worst], kind="stable")]
    each, loss = weight[worst], loss[worst]
    total = np.cumsum(each)
    place = min(int(np.searchsorted(total, var_limit, side="right")), most - 1)
    edge = min(int(np.searchsorted(total, es_limit, side="right")), most - 1)
    inside = float(each[:edge].sum())
    return (
        float(loss[place]),
        float((np.sum(each[:edge] * loss[:edge]) + (es_tail - inside) * loss[edge]) / es_tail),
        float(np.sum(weight * deficit) * unit),
        min(float(np.sum(weight[hit])) * unit, 1.0),
    )
