"""The compiled rule that closes one position, and the loops that go position by position.

Every loop runs in a fixed order without threads or fast-math, so the same inputs give the same
bits.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SURVIVED, STOPPED, LIQUIDATED = 0, 1, 2


@njit(cache=True, nogil=True, inline="always")
def close_out(x, inverse, alpha, beta, cost, fee, notional, to_holder, liquidated):
    """Close one position at ratio `x`.

    Returns
    -------
    holder, deficit, venue, cost, notional : float
        USD at the closing price.
    """
    scale = 1.0 if inverse else x
    value = alpha + beta * x
    if value < 0.0:
        return 0.0, -value, 0.0, cost * scale, notional * scale
    if not liquidated:
        venue = 0.0
    elif to_holder:
        venue = min(fee * scale, value)
    else:
        venue = value
    return value - venue, 0.0, venue, cost * scale, notional * scale


@njit(cache=True, nogil=True, inline="always")
def count_at_or_below(sorted_values, start, stop, value):
    """How many of ``sorted_values[start:stop]`` are at or below `value`."""
    low, high = start, stop
    while low < high:
        middle = (low + high) >> 1
        if sorted_values[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low - start


@njit(cache=True, nogil=True)
def close_positions(
    asset, side, inverse, first, margin, alpha, beta, equity, exposure, cost, fee, full_notional,
    to_holder, low, high, last, gap_start, gap_before, gap_landing,
    pnl, venue_gain, deficit, market_cost, notional, outcome,
):  # fmt: skip
    """Every position in one scenario; low, high and last are (asset,), outputs (position,)."""
    for p in range(len(first)):
        a, s, inv = asset[p], side[p], inverse[p]
        u = -low[a] if s == 0 else high[a]
        if first[p] > u:
            pnl[p] = exposure[p] * (last[a] - 1.0)
            venue_gain[p], deficit[p], market_cost[p], notional[p] = 0.0, 0.0, 0.0, 0.0
            outcome[p] = SURVIVED
            continue
        closing = first[p]
        for g in range(gap_start[2 * a + s], gap_start[2 * a + s + 1]):
            if gap_before[g] < first[p] <= gap_landing[g]:
                closing = gap_landing[g]
        x = -closing if s == 0 else closing
        liquidated = margin[p] <= closing
        held, short, gain, paid, closed = close_out(
            x, inv, alpha[p], beta[p], cost[p], fee[p], full_notional[p], to_holder[p], liquidated
        )
        pnl[p] = held * (last[a] / x if inv else 1.0) - equity[p]
        deficit[p], venue_gain[p], market_cost[p] = short, gain, paid
        notional[p] = closed if liquidated else 0.0
        outcome[p] = LIQUIDATED if liquidated else STOPPED


@njit(cache=True, nogil=True)
def count_liquidations(
    asset, side, first, margin, extreme, weight_sum, gap_start, gap_scenario, gap_before,
    gap_landing, weight, probability,
):  # fmt: skip
    """Probability of liquidation per position.

    `extreme` (asset, side, scenario) is sorted and `weight_sum` (asset, side, scenario + 1) holds
    the weight of the scenarios from each place to the end.
    """
    n = extreme.shape[2]
    for p in range(len(first)):
        a, s = asset[p], side[p]
        if first[p] == margin[p]:
            probability[p] = 0.0
            if first[p] < np.inf:
                low, high = 0, n
                while low < high:
                    middle = (low + high) >> 1
                    if extreme[a, s, middle] < first[p]:
                        low = middle + 1
                    else:
                        high = middle
                probability[p] = weight_sum[a, s, low]
        else:
            # A stop comes first: only a gap across both can still liquidate.
            total = 0.0
            for g in range(gap_start[2 * a + s], gap_start[2 * a + s + 1]):
                if gap_before[g] < first[p] and margin[p] <= gap_landing[g]:
                    total += weight[gap_scenario[g]]
            probability[p] = total
