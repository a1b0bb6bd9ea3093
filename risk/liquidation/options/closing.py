"""Compiled closing of written options: a ladder over the backing per unit, climbed by stairs.

A writer is closed at the first stair at or above its backing, at that step's value. All rungs of a
ladder share the contract's rules, so that at one stair those that are bankrupt, and those that
cannot pay the fee, are the ones with less backing: differences of running sums give the rest.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.liquidation.closing import count_at_or_below
from risk.liquidation.options.columns import Bought, Contracts, Holdings, Valued, Written


@njit(inline="always")
def survives(
    c: Contracts, k: int, sign: float, units: float, margin: float, value: float, last: float
) -> float:
    """P&L in USD of units that are still there at the horizon, or were settled."""
    first = c.index_price[k] if c.is_inverse[k] else 1.0
    final = first * last if c.is_inverse[k] else 1.0
    gained = sign * units * (value * final - c.mark[k] * first)
    return gained + margin * (final - first)


@njit(inline="always")
def close_unit(
    c: Contracts, k: int, mark: float, ratio: float
) -> tuple[float, float, float, float, float]:
    """Price of a unit with its cost, cost and fee of a unit, its dollars, and those of the coin."""
    price = c.index_price[k] * ratio
    unit = 1.0 if c.is_inverse[k] else price
    cost = c.closing_fee[k] * unit
    return mark + cost, cost, c.liquidation_fee[k] * unit, price, price / unit


@njit
def add_bought(c: Contracts, bought: Bought, valued: Valued, pnl: np.ndarray) -> None:
    """Add bought options to the P&L (cell, scenario)."""
    for pair in range(len(bought.contract)):
        k, row = bought.contract[pair], pnl[bought.cell[pair]]
        for i in range(len(row)):
            row[i] += survives(
                c, k, 1.0, bought.units[pair], 0.0, valued.value[k, i], valued.last[k, i]
            )


@njit
def add_written(
    c: Contracts, written: Written, valued: Valued, outputs: tuple[np.ndarray, ...]
) -> None:
    """Add written options to the cube's variables (cell, scenario), in the order of its schema."""
    pnl, venue_gain, deficit, market_cost, liquidations, _, notional = outputs
    for ladder in range(len(written.contract)):
        k, cell = written.contract[ladder], written.cell[ladder]
        begin, end = written.start[ladder], written.start[ladder + 1]
        first = begin + ladder
        units, margin = written.units, written.margin
        all_units, all_margin = units[end + ladder], margin[end + ladder]
        row = pnl[cell]
        for i in range(len(row)):
            value, last = valued.value[k, i], valued.last[k, i]
            row[i] += survives(c, k, -1.0, all_units, all_margin, value, last)
        coin0 = c.index_price[k] if c.is_inverse[k] else 1.0
        before, done = -1, 0
        for s in range(valued.start[k], valued.start[k + 1]):
            i = valued.scenario[s]
            if i != before:
                before, done = i, 0
            hit = count_at_or_below(written.backing, begin, end, valued.level[s])
            if hit <= done:
                continue
            price, cost, fee, usd, coin = close_unit(c, k, valued.mark[s], valued.ratio[s])
            at, to = first + done, first + hit
            gone, held = units[to] - units[at], margin[to] - margin[at]
            broke = at + count_at_or_below(
                written.backing, begin + done, begin + hit, np.nextafter(price, -np.inf)
            )
            short = price * (units[broke] - units[at]) - (margin[broke] - margin[at])
            left = (margin[to] - margin[broke]) - price * (units[to] - units[broke])
            left, kept = max(left, 0.0), 0.0
            if c.to_holder[k]:
                poor = count_at_or_below(written.backing, begin + done, begin + hit, price + fee)
                poor = max(at + poor, broke)
                kept = (margin[to] - margin[poor]) - (price + fee) * (units[to] - units[poor])
                kept = min(max(kept, 0.0), left)
            last = valued.last[k, i]
            carry = last / valued.ratio[s] if c.is_inverse[k] else 1.0
            stake = (held - gone * c.mark[k]) * coin0
            pnl[cell, i] += kept * coin * carry - stake
            pnl[cell, i] -= survives(c, k, -1.0, gone, held, valued.value[k, i], last)
            deficit[cell, i] += max(short, 0.0) * coin
            venue_gain[cell, i] += (left - kept) * coin
            market_cost[cell, i] += gone * cost * coin
            notional[cell, i] += gone * usd
            liquidations[cell, i] += hit - done
            done = hit


@njit
def close_holding(
    c: Contracts, valued: Valued, holdings: Holdings, p: int, out: np.ndarray, hit: np.ndarray
) -> None:
    """One position in every scenario.

    `out` (5, scenario) takes P&L, venue gain, deficit, market cost and liquidated notional; `hit`
    (scenario,) whether it is liquidated.
    """
    k, units, margin = holdings.contract[p], holdings.units[p], holdings.margin[p]
    written = holdings.is_written[p]
    sign = -1.0 if written else 1.0
    out[:] = 0.0
    hit[:] = False
    for i in range(out.shape[1]):
        out[0, i] = survives(c, k, sign, units, margin, valued.value[k, i], valued.last[k, i])
    if not written:
        return
    backing = holdings.backing[p]
    coin0 = c.index_price[k] if c.is_inverse[k] else 1.0
    stake = (margin - units * c.mark[k]) * coin0
    for s in range(valued.start[k], valued.start[k + 1]):
        i = valued.scenario[s]
        if hit[i] or valued.level[s] < backing:
            continue
        hit[i] = True
        price, cost, fee, usd, coin = close_unit(c, k, valued.mark[s], valued.ratio[s])
        left = margin - units * price
        kept = max(left - units * fee, 0.0) if c.to_holder[k] else 0.0
        carry = valued.last[k, i] / valued.ratio[s] if c.is_inverse[k] else 1.0
        out[0, i] = kept * coin * carry - stake
        out[1, i] = (max(left, 0.0) - kept) * coin
        out[2, i] = max(-left, 0.0) * coin
        out[3, i] = units * cost * coin
        out[4, i] = units * usd


@njit
def close_holdings(
    c: Contracts, valued: Valued, holdings: Holdings, out: np.ndarray, hit: np.ndarray
) -> None:
    """`close_holding` of every position: `out` (position, 5, scenario), `hit`."""
    for p in range(len(out)):
        close_holding(c, valued, holdings, p, out[p], hit[p])
