"""The compiled rule that closes one position whole, and the loops that go position by position.

Every loop runs in a fixed order without threads or fast-math, so the same inputs give the same
bits.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.liquidation.columns import LIQUIDATED, STOPPED, SURVIVED, Gaps, Terms
from risk.liquidation.steps import live_through


@njit(inline="always")
def close_out(
    x: float, inverse: bool, alpha: float, beta: float, cost: float, fee: float, notional: float,
    to_holder: bool, liquidated: bool,
) -> tuple[float, float, float, float, float]:  # fmt: skip
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


@njit(inline="always")
def count_at_or_below(sorted_values: np.ndarray, start: int, stop: int, value: float) -> int:
    """How many of ``sorted_values[start:stop]`` are at or below `value`."""
    low, high = start, stop
    while low < high:
        middle = (low + high) >> 1
        if sorted_values[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low - start


@njit(inline="always")
def close_whole(
    closing: float, is_long: bool, margin: float, inv: bool, equity: float, exposure: float,
    rate: float, fee: float, size: float, to_holder: bool, last: float,
) -> tuple[float, float, float, float, float, int]:  # fmt: skip
    """Close a position whole at the adverse coordinate `closing`.

    Numbers alone: whoever takes columns here pays for counting who holds them, at every call.
    `rate` is the market cost's, `size` the notional at the mark, `last` the ratio at the horizon.

    Returns
    -------
    pnl, venue gain, deficit, market cost, liquidated notional : float
    status : int
    """
    x = -closing if is_long else closing
    liquidated = margin <= closing
    cost = rate * size
    alpha = equity - exposure - (cost if inv else 0.0)
    beta = exposure - (0.0 if inv else cost)
    left, short, gain, paid, closed = close_out(
        x, inv, alpha, beta, cost, fee * size, size, to_holder, liquidated
    )
    pnl = left * (last / x if inv else 1.0) - equity
    status = LIQUIDATED if liquidated else STOPPED
    return pnl, gain, short, paid, closed if liquidated else 0.0, status


@njit
def close_positions(
    terms: Terms, steps: tuple, which: np.ndarray, farthest: np.ndarray, last: np.ndarray,
    gaps: Gaps, out: np.ndarray, outcome: np.ndarray,
) -> None:  # fmt: skip
    """Every position in one scenario.

    `which` (position,) says where a position is in `steps`, -1 if it is closed whole; `farthest`
    is (asset, side), `last` (asset,). `out` (5, position) takes P&L, venue gain, deficit, market
    cost and liquidated notional.
    """
    for p in range(len(terms.first)):
        a, s, first = terms.asset[p], 0 if terms.direction[p] > 0 else 1, terms.first[p]
        u = farthest[a, s]
        if first > u:
            outcome[p] = SURVIVED
            out[:, p] = 0.0
            out[0, p] = terms.exposure[p] * (last[a] - 1.0)
            continue
        g0, g1 = gaps.start[2 * a + s], gaps.start[2 * a + s + 1]
        if which[p] >= 0:
            pnl, short, gain, paid, closed, status, _ = live_through(
                steps, which[p], gaps, g0, g1, u, last[a]
            )
        else:
            closing = first
            for g in range(g0, g1):
                if gaps.before[g] < first <= gaps.landing[g]:
                    closing = gaps.landing[g]
            pnl, gain, short, paid, closed, status = close_whole(
                closing, s == 0, terms.margin[p], terms.inverse[p], terms.equity[p],
                terms.exposure[p], terms.closing_fee[p] + terms.impact[p], terms.fee[p],
                terms.notional[p], terms.to_holder[p], last[a],
            )  # fmt: skip
        out[0, p], out[1, p], out[2, p], out[3, p], out[4, p] = pnl, gain, short, paid, closed
        outcome[p] = status


@njit
def count_liquidations(
    terms: Terms, extreme: np.ndarray, weight_sum: np.ndarray, gaps: Gaps, weight: np.ndarray,
    probability: np.ndarray,
) -> None:  # fmt: skip
    """Probability of liquidation per position.

    `extreme` (asset, side, scenario) is sorted and `weight_sum` (asset, side, scenario + 1) holds
    the weight of the scenarios from each place to the end.
    """
    n = extreme.shape[2]
    for p in range(len(terms.first)):
        a, s = terms.asset[p], 0 if terms.direction[p] > 0 else 1
        first, margin = terms.first[p], terms.margin[p]
        probability[p] = 0.0
        if first == margin:
            if first < np.inf:
                low, high = 0, n
                while low < high:
                    middle = (low + high) >> 1
                    if extreme[a, s, middle] < first:
                        low = middle + 1
                    else:
                        high = middle
                probability[p] = weight_sum[a, s, low]
        else:
            # A stop comes first: only a gap across both can still liquidate.
            for g in range(gaps.start[2 * a + s], gaps.start[2 * a + s + 1]):
                if gaps.before[g] < first and margin <= gaps.landing[g]:
                    probability[p] += weight[gaps.scenario[g]]
