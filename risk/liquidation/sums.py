"""The compiled running sums of the ladders."""

from __future__ import annotations

import numpy as np
from numba import njit

from risk.liquidation.closing import close_out
from risk.liquidation.columns import (
    HIT_COST,
    HIT_COUNTS,
    HIT_DEFICIT,
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
    STOP,
)


@njit(cache=True, nogil=True)
def sum_ladders(rungs, exposure, fee_order, bankrupt_order):
    """Fill the running sums of every ladder, each from its own ends (never one global sum)."""
    hot, cold, landing = rungs.hot, rungs.cold, rungs.landing
    fee_sum, bankrupt_sum = rungs.fee_sum, rungs.bankrupt_sum
    first, alpha, beta, equity, fee = (
        rungs.first, rungs.alpha, rungs.beta, rungs.equity, rungs.fee
    )  # fmt: skip
    for ladder in range(len(rungs.start) - 1):
        begin, end = rungs.start[ladder], rungs.start[ladder + 1]
        inv, s = rungs.inverse[ladder], rungs.side[ladder]
        survivors = 0.0
        for p in range(end - 1, begin - 1, -1):
            hot[p + ladder + 1, HIT_SLOPE] = survivors
            survivors += exposure[p]
        hot[begin + ladder, HIT_SLOPE] = survivors
        coins = 0.0
        for p in range(begin, end):
            row = p + ladder
            for column in (HIT_PNL, HIT_DEFICIT, HIT_NOTIONAL, HIT_COUNTS):
                hot[row + 1, column] = hot[row, column]
            cold[row + 1] = cold[row]
            landing[row + 1] = landing[row]
            if first[p] == np.inf:
                hot[row + 1, HIT_SLOPE] += coins
                continue
            x = -first[p] if s == 0 else first[p]
            liquidated = rungs.margin[p] <= first[p]
            held, short, gain, paid, closed = close_out(
                x, inv, alpha[p], beta[p], rungs.cost[p], fee[p], rungs.notional[p],
                rungs.to_holder[p], liquidated,
            )  # fmt: skip
            coin = held / x if inv else 0.0
            coins += coin
            hot[row + 1, HIT_SLOPE] += coins
            hot[row + 1, HIT_PNL] += (coin if inv else held) - equity[p]
            hot[row + 1, HIT_DEFICIT] += short
            if liquidated:
                hot[row + 1, HIT_NOTIONAL] += closed
                hot[row + 1, HIT_COUNTS] += 1.0
            else:
                hot[row + 1, HIT_COUNTS] += STOP
            cold[row + 1, HIT_VENUE] += gain
            cold[row + 1, HIT_COST] += paid
            landing[row + 1, LAND_COIN] += coin
            if rungs.is_single[p]:
                continue
            fee0, fee1 = (fee[p], 0.0) if inv else (0.0, fee[p])
            if rungs.to_holder[p]:
                landing[row + 1, LAND_HOLD0] += alpha[p] - fee0
                landing[row + 1, LAND_HOLD1] += beta[p] - fee1
                landing[row + 1, LAND_VENUE0] += fee0
                landing[row + 1, LAND_VENUE1] += fee1
            else:
                landing[row + 1, LAND_VENUE0] += alpha[p]
                landing[row + 1, LAND_VENUE1] += beta[p]
            landing[row + 1, LAND_EQUITY] += equity[p]
            landing[row + 1, LAND_COST] += rungs.cost[p]
            landing[row + 1, LAND_NOTIONAL] += rungs.notional[p]
        for q in range(begin, end):
            row = q + ladder
            p, b = fee_order[q], bankrupt_order[q]
            fee_sum[row + 1] = fee_sum[row]
            bankrupt_sum[row + 1] = bankrupt_sum[row]
            if not rungs.is_single[p] and rungs.to_holder[p]:
                fee_sum[row + 1, 0] += alpha[p] - (fee[p] if inv else 0.0)
                fee_sum[row + 1, 1] += beta[p] - (0.0 if inv else fee[p])
            if not rungs.is_single[b]:
                bankrupt_sum[row + 1, 0] += alpha[b]
                bankrupt_sum[row + 1, 1] += beta[b]
