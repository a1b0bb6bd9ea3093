"""The compiled running sums of the ladders."""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.liquidation.closing import close_out
from risk.liquidation.columns import (
    HIT_COST,
    HIT_COUNTS,
    HIT_NOTIONAL,
    HIT_PNL,
    HIT_SLOPE,
    HIT_VENUE,
    LAND_COIN,
    LAND_COST,
    LAND_EQUITY,
    LAND_HOLD0,
    LAND_HOLD1,
    LAND_NOTIONAL,
    LAND_VENUE0,
    LAND_VENUE1,
    LIQUIDATED,
    STOP,
    STOPPED,
    Plain,
    Sums,
)
from risk.liquidation.steps import (
    RUNG_COIN,
    RUNG_COST,
    RUNG_DEFICIT,
    RUNG_DROP,
    RUNG_KIND,
    RUNG_NOTIONAL,
    RUNG_PNL,
    RUNG_VENUE,
)


@njit
def sum_plain(
    plain: Plain, exposure: np.ndarray, fee_order: np.ndarray, bankrupt_order: np.ndarray
) -> None:
    """Fill the running sums of every ladder, each from its own ends (never one global sum)."""
    sums, landing = plain.sums, plain.landing
    hot, cold, first = sums.hot, sums.cold, sums.first
    fee_sum, bankrupt_sum = plain.fee_sum, plain.bankrupt_sum
    alpha, beta, equity, fee = plain.alpha, plain.beta, plain.equity, plain.fee
    for ladder in range(len(sums.start) - 1):
        begin, end = sums.start[ladder], sums.start[ladder + 1]
        inv, s = plain.inverse[ladder], sums.side[ladder]
        survivors = 0.0
        for p in range(end - 1, begin - 1, -1):
            hot[p + ladder + 1, HIT_SLOPE] = survivors
            survivors += exposure[p]
        hot[begin + ladder, HIT_SLOPE] = survivors
        coins = 0.0
        for p in range(begin, end):
            row = p + ladder
            for column in (HIT_PNL, HIT_NOTIONAL, HIT_COUNTS):
                hot[row + 1, column] = hot[row, column]
            sums.short[row + 1] = sums.short[row]
            cold[row + 1] = cold[row]
            landing[row + 1] = landing[row]
            if first[p] == np.inf:
                hot[row + 1, HIT_SLOPE] += coins
                continue
            x = -first[p] if s == 0 else first[p]
            liquidated = plain.margin[p] <= first[p]
            held, short, gain, paid, closed = close_out(
                x, inv, alpha[p], beta[p], plain.cost[p], fee[p], plain.notional[p],
                plain.to_holder[p], liquidated,
            )  # fmt: skip
            coin = held / x if inv else 0.0
            coins += coin
            hot[row + 1, HIT_SLOPE] += coins
            hot[row + 1, HIT_PNL] += (coin if inv else held) - equity[p]
            sums.short[row + 1] += short
            if liquidated:
                hot[row + 1, HIT_NOTIONAL] += closed
                hot[row + 1, HIT_COUNTS] += 1.0
            else:
                hot[row + 1, HIT_COUNTS] += STOP
            cold[row + 1, HIT_VENUE] += gain
            cold[row + 1, HIT_COST] += paid
            landing[row + 1, LAND_COIN] += coin
            if plain.is_single[p]:
                continue
            fee0, fee1 = (fee[p], 0.0) if inv else (0.0, fee[p])
            if plain.to_holder[p]:
                landing[row + 1, LAND_HOLD0] += alpha[p] - fee0
                landing[row + 1, LAND_HOLD1] += beta[p] - fee1
                landing[row + 1, LAND_VENUE0] += fee0
                landing[row + 1, LAND_VENUE1] += fee1
            else:
                landing[row + 1, LAND_VENUE0] += alpha[p]
                landing[row + 1, LAND_VENUE1] += beta[p]
            landing[row + 1, LAND_EQUITY] += equity[p]
            landing[row + 1, LAND_COST] += plain.cost[p]
            landing[row + 1, LAND_NOTIONAL] += plain.notional[p]
        sums.is_short[ladder] = sums.short[end + ladder] > 0.0
        for q in range(begin, end):
            row = q + ladder
            p, b = fee_order[q], bankrupt_order[q]
            fee_sum[row + 1] = fee_sum[row]
            bankrupt_sum[row + 1] = bankrupt_sum[row]
            if not plain.is_single[p] and plain.to_holder[p]:
                fee_sum[row + 1, 0] += alpha[p] - (fee[p] if inv else 0.0)
                fee_sum[row + 1, 1] += beta[p] - (0.0 if inv else fee[p])
            if not plain.is_single[b]:
                bankrupt_sum[row + 1, 0] += alpha[b]
                bankrupt_sum[row + 1, 1] += beta[b]


@njit
def sum_steps(sums: Sums, rungs: np.ndarray) -> None:
    """Fill the running sums of ladders from their sorted rungs (rung, column), see `climb`."""
    hot, cold = sums.hot, sums.cold
    for ladder in range(len(sums.start) - 1):
        begin, end = sums.start[ladder], sums.start[ladder + 1]
        survivors = 0.0
        for p in range(end - 1, begin - 1, -1):
            hot[p + ladder + 1, HIT_SLOPE] = survivors
            survivors += rungs[p, RUNG_DROP]
        hot[begin + ladder, HIT_SLOPE] = survivors
        coins = 0.0
        for p in range(begin, end):
            row = p + ladder
            coins += rungs[p, RUNG_COIN]
            hot[row + 1, HIT_SLOPE] += coins
            hot[row + 1, HIT_PNL] = hot[row, HIT_PNL] + rungs[p, RUNG_PNL]
            sums.short[row + 1] = sums.short[row] + rungs[p, RUNG_DEFICIT]
            hot[row + 1, HIT_NOTIONAL] = hot[row, HIT_NOTIONAL] + rungs[p, RUNG_NOTIONAL]
            kind = rungs[p, RUNG_KIND]
            count = STOP if kind == STOPPED else 1 if kind == LIQUIDATED else 0
            hot[row + 1, HIT_COUNTS] = hot[row, HIT_COUNTS] + count
            cold[row + 1, HIT_VENUE] = cold[row, HIT_VENUE] + rungs[p, RUNG_VENUE]
            cold[row + 1, HIT_COST] = cold[row, HIT_COST] + rungs[p, RUNG_COST]
        sums.is_short[ladder] = sums.short[end + ladder] > 0.0
