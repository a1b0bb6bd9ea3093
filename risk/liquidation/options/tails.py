"""Tails of option positions, one by one: every scenario is looked at, and nothing is kept."""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.liquidation.options.closing import close_unit, survives
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
    limits: tuple[float, float, float, float],
    found: np.ndarray,
) -> None:
    """Fill value at risk, shortfall, expected deficit and liquidation probability (4, position).

    See `risk.liquidation.single.measure_single` for `weight` and `limits`.
    """
    # Contract by contract: what it is worth in every scenario stays in the processor's cache.
    order = np.lexsort((holdings.is_written, holdings.contract))
    is_equal = bool(np.ptp(weight) == 0)
    _measure_all(contracts, holdings, order, valued, weight, is_equal, limits, found)


@njit
def _measure_all(
    c: Contracts, holdings: Holdings, order: np.ndarray, valued: Valued, weight: np.ndarray,
    is_equal: bool, limits: tuple[float, float, float, float], found: np.ndarray,
) -> None:  # fmt: skip
    """Measure the positions in this order, in which a contract's bought ones lie together."""
    pnl, loss, mass = np.empty(len(weight)), np.empty(len(weight)), np.empty(len(weight))
    unit = limits[3]
    known, value, shortfall = -1, 0.0, 0.0
    for p in order:
        k, units, margin = holdings.contract[p], holdings.units[p], holdings.margin[p]
        if not holdings.is_written[p]:
            # Never closed before the horizon: a multiple of what one unit loses.
            if k != known:
                _fill_survivors(c, k, 1.0, 1.0, 0.0, valued, pnl)
                value, shortfall = measure_single(pnl, weight, is_equal, limits, loss, mass)
                known = k
            found[0, p], found[1, p] = units * value, units * shortfall
            found[2, p], found[3, p] = 0.0, 0.0
            continue
        _fill_survivors(c, k, -1.0, units, margin, valued, pnl)
        short, liquidated = _close_hits(c, k, holdings, p, valued, weight, pnl)
        found[0, p], found[1, p] = measure_single(pnl, weight, is_equal, limits, loss, mass)
        found[2, p], found[3, p] = short * unit, min(liquidated * unit, 1.0)


@njit
def _fill_survivors(
    c: Contracts, k: int, sign: float, units: float, margin: float, valued: Valued, pnl: np.ndarray
) -> None:
    value, last = valued.value[k], valued.last[k]
    for i in range(len(pnl)):
        pnl[i] = survives(c, k, sign, units, margin, value[i], last[i])


@njit
def _close_hits(
    c: Contracts, k: int, holdings: Holdings, p: int, valued: Valued, weight: np.ndarray,
    pnl: np.ndarray,
) -> tuple[float, float]:  # fmt: skip
    """Put a written position's P&L where it is liquidated, as `close_holding` does.

    Returns the weighted deficits and the weight of those scenarios.
    """
    units, margin, backing = holdings.units[p], holdings.margin[p], holdings.backing[p]
    stake = (margin - units * c.mark[k]) * (c.index_price[k] if c.is_inverse[k] else 1.0)
    short, liquidated, hit = 0.0, 0.0, -1
    for s in range(valued.start[k], valued.start[k + 1]):
        i = valued.scenario[s]
        if i == hit or valued.level[s] < backing:
            continue
        hit = i  # a scenario's stairs lie together
        price, _, fee, _, coin = close_unit(c, k, valued.mark[s], valued.ratio[s])
        left = margin - units * price
        kept = max(left - units * fee, 0.0) if c.to_holder[k] else 0.0
        carry = valued.last[k, i] / valued.ratio[s] if c.is_inverse[k] else 1.0
        pnl[i] = kept * coin * carry - stake
        short += max(-left, 0.0) * coin * weight[i]
        liquidated += weight[i]
    return short, liquidated
