"""The compiled loops: walk the ladders, correct for gaps, close one position.

Every loop runs in a fixed order without threads or fast-math, so the same inputs give the same
bits. `docs/design/0004-ladder.md` derives the sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of `hit`: what the k first rungs and the survivors behind them add up to.
HIT_PNL, HIT_SLOPE, HIT_DEFICIT, HIT_VENUE, HIT_COST, HIT_NOTIONAL, HIT_COUNT, HIT_STOPS = range(8)
# Columns of `landing`: prefix sums, in trigger order, of the plain rungs closed at a landing.
(
    LAND_HOLD0,
    LAND_HOLD1,
    LAND_VENUE0,
    LAND_VENUE1,
    LAND_EQUITY,
    LAND_COST,
    LAND_NOTIONAL,
    LAND_COIN,
) = range(8)

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
def walk_hits(
    start, asset, side, cell, first, hit, extreme, order, last,
    pnl, venue_gain, deficit, market_cost, liquidations, stops, notional,
):  # fmt: skip
    """Add every ladder's P&L and counts, closing at the triggers, to the (cell, scenario) outputs.

    `extreme` (asset, side, scenario) is sorted and `order` says which scenario each entry is, so
    one merge per ladder finds how many of its rungs each scenario hits.
    """
    n = last.shape[1]
    index = np.empty(n, np.int64)
    for ladder in range(len(asset)):
        a, s, c = asset[ladder], side[ladder], cell[ladder]
        begin, end = start[ladder], start[ladder + 1]
        k = begin
        for j in range(n):
            u = extreme[a, s, j]
            while k < end and first[k] <= u:
                k += 1
            index[order[a, s, j]] = k + ladder
        for i in range(n):
            row = hit[index[i]]
            pnl[c, i] += row[HIT_PNL] + row[HIT_SLOPE] * (last[a, i] - 1.0)
            deficit[c, i] += row[HIT_DEFICIT]
            venue_gain[c, i] += row[HIT_VENUE]
            market_cost[c, i] += row[HIT_COST]
            notional[c, i] += row[HIT_NOTIONAL]
            liquidations[c, i] += row[HIT_COUNT]
            stops[c, i] += row[HIT_STOPS]


@njit(cache=True, nogil=True)
def correct_gaps(
    start, asset, side, inverse, cell, width, first, hit, landing, fee_at, fee_sum, bankrupt_at,
    bankrupt_sum, single_start, single, is_single, margin, alpha, beta, equity, cost, fee,
    to_holder, full_notional, gap_start, gap_scenario, gap_before, gap_landing, last,
    small_window, pnl, venue_gain, deficit, market_cost, liquidations, stops, notional,
):  # fmt: skip
    """Move the rungs inside each gap from their triggers to the landing.

    Gaps are grouped by (asset, side): ``gap_start[2 * asset + side]``; before and landing are
    adverse coordinates. Returns how many windows were looked up and how many went one by one.
    """
    looked_up, one_by_one = 0, 0
    for ladder in range(len(asset)):
        a, s, c, inv = asset[ladder], side[ladder], cell[ladder], inverse[ladder]
        begin, end = start[ladder], start[ladder + 1]
        for g in range(gap_start[2 * a + s], gap_start[2 * a + s + 1]):
            u_before, u_landing = gap_before[g], gap_landing[g]
            k_before = count_at_or_below(first, begin, end, u_before)
            k_landing = count_at_or_below(first, begin, end, u_landing)
            window = k_landing - k_before
            if window == 0:
                continue
            i = gap_scenario[g]
            x = -u_landing if s == 0 else u_landing
            final = last[a, i]
            # USD at the horizon of one USD of leftover: returned coin keeps moving.
            carry = final / x if inv else 1.0
            past, at = begin + ladder + k_before, begin + ladder + k_landing

            coin = landing[at, LAND_COIN] - landing[past, LAND_COIN]
            pnl[c, i] -= hit[at, HIT_PNL] - hit[past, HIT_PNL] + coin * (final - 1.0)
            deficit[c, i] -= hit[at, HIT_DEFICIT] - hit[past, HIT_DEFICIT]
            venue_gain[c, i] -= hit[at, HIT_VENUE] - hit[past, HIT_VENUE]
            market_cost[c, i] -= hit[at, HIT_COST] - hit[past, HIT_COST]
            notional[c, i] -= hit[at, HIT_NOTIONAL] - hit[past, HIT_NOTIONAL]
            liquidations[c, i] -= hit[at, HIT_COUNT] - hit[past, HIT_COUNT]
            stops[c, i] -= hit[at, HIT_STOPS] - hit[past, HIT_STOPS]

            # Plain rungs closed before the gap but still solvent at its landing spoil the look-up.
            k_reach = count_at_or_below(first, begin, begin + k_before, u_landing - width[ladder])
            by_one = window <= small_window or k_before - k_reach >= window
            if by_one:
                one_by_one += 1
                from_single, to_single = 0, window
            else:
                looked_up += 1
                scale = 1.0 if inv else x
                j = begin + ladder + count_at_or_below(fee_at, begin, end, u_landing)
                below_fee = fee_sum[j, 0] + fee_sum[j, 1] * x
                j = begin + ladder + count_at_or_below(bankrupt_at, begin, end, u_landing)
                below_zero = bankrupt_sum[j, 0] + bankrupt_sum[j, 1] * x
                # Both sums also hold the rungs closed before the gap: take those out again.
                hold0, hold1 = landing[past, LAND_HOLD0], landing[past, LAND_HOLD1]
                gain0, gain1 = landing[past, LAND_VENUE0], landing[past, LAND_VENUE1]
                below_fee -= hold0 + hold1 * x
                below_zero -= hold0 + gain0 + (hold1 + gain1) * x
                for p in range(begin + k_reach, begin + k_before):
                    if is_single[p]:
                        continue
                    value = alpha[p] + beta[p] * x
                    if to_holder[p]:
                        below_fee += max(value - fee[p] * scale, 0.0)
                    below_zero += max(value, 0.0)
                below_zero = min(below_zero, 0.0)  # rounding must not invent a negative deficit
                held = landing[at, LAND_HOLD0] - hold0 + (landing[at, LAND_HOLD1] - hold1) * x
                gain = landing[at, LAND_VENUE0] - gain0 + (landing[at, LAND_VENUE1] - gain1) * x
                stake = landing[at, LAND_EQUITY] - landing[past, LAND_EQUITY]
                pnl[c, i] += (held - below_fee) * carry - stake
                deficit[c, i] -= below_zero
                venue_gain[c, i] += gain + below_fee - below_zero
                market_cost[c, i] += (landing[at, LAND_COST] - landing[past, LAND_COST]) * scale
                closed = landing[at, LAND_NOTIONAL] - landing[past, LAND_NOTIONAL]
                notional[c, i] += closed * scale
                s0, s1 = single_start[ladder], single_start[ladder + 1]
                from_single = count_at_or_below(single, s0, s1, begin + k_before - 1)
                to_single = count_at_or_below(single, s0, s1, begin + k_landing - 1)
                liquidations[c, i] += window - (to_single - from_single)
            for w in range(from_single, to_single):
                p = begin + k_before + w if by_one else single[single_start[ladder] + w]
                liquidated = margin[p] <= u_landing
                held, short, gain, paid, closed = close_out(
                    x, inv, alpha[p], beta[p], cost[p], fee[p], full_notional[p], to_holder[p],
                    liquidated,
                )  # fmt: skip
                pnl[c, i] += held * carry - equity[p]
                deficit[c, i] += short
                venue_gain[c, i] += gain
                market_cost[c, i] += paid
                if liquidated:
                    notional[c, i] += closed
                    liquidations[c, i] += 1.0
                else:
                    stops[c, i] += 1.0
    return looked_up, one_by_one


@njit(cache=True, nogil=True)
def sum_ladders(
    start, inverse, first, margin, alpha, beta, equity, exposure, cost, fee, full_notional,
    to_holder, side, is_single, fee_order, fee_at, bankrupt_order,
    hit, landing, fee_sum, bankrupt_sum,
):  # fmt: skip
    """Fill the running sums of every ladder, each from its own ends (never one global sum)."""
    for ladder in range(len(start) - 1):
        begin, end = start[ladder], start[ladder + 1]
        inv, s = inverse[ladder], side[ladder]
        survivors = 0.0
        for p in range(end - 1, begin - 1, -1):
            hit[p + ladder + 1, HIT_SLOPE] = survivors
            survivors += exposure[p]
        hit[begin + ladder, HIT_SLOPE] = survivors
        coins = 0.0
        for p in range(begin, end):
            row = p + ladder
            for column in range(8):
                if column != HIT_SLOPE:
                    hit[row + 1, column] = hit[row, column]
                landing[row + 1, column] = landing[row, column]
            if first[p] == np.inf:
                hit[row + 1, HIT_SLOPE] += coins
                continue
            x = -first[p] if s == 0 else first[p]
            liquidated = margin[p] <= first[p]
            held, short, gain, paid, closed = close_out(
                x, inv, alpha[p], beta[p], cost[p], fee[p], full_notional[p], to_holder[p],
                liquidated,
            )  # fmt: skip
            coin = held / x if inv else 0.0
            coins += coin
            hit[row + 1, HIT_SLOPE] += coins
            hit[row + 1, HIT_PNL] += (coin if inv else held) - equity[p]
            hit[row + 1, HIT_DEFICIT] += short
            hit[row + 1, HIT_VENUE] += gain
            hit[row + 1, HIT_COST] += paid
            if liquidated:
                hit[row + 1, HIT_NOTIONAL] += closed
                hit[row + 1, HIT_COUNT] += 1.0
            else:
                hit[row + 1, HIT_STOPS] += 1.0
            landing[row + 1, LAND_COIN] += coin
            if is_single[p]:
                continue
            fee0, fee1 = (fee[p], 0.0) if inv else (0.0, fee[p])
            if to_holder[p]:
                landing[row + 1, LAND_HOLD0] += alpha[p] - fee0
                landing[row + 1, LAND_HOLD1] += beta[p] - fee1
                landing[row + 1, LAND_VENUE0] += fee0
                landing[row + 1, LAND_VENUE1] += fee1
            else:
                landing[row + 1, LAND_VENUE0] += alpha[p]
                landing[row + 1, LAND_VENUE1] += beta[p]
            landing[row + 1, LAND_EQUITY] += equity[p]
            landing[row + 1, LAND_COST] += cost[p]
            landing[row + 1, LAND_NOTIONAL] += full_notional[p]
        for q in range(begin, end):
            row = q + ladder
            p, b = fee_order[q], bankrupt_order[q]
            fee_sum[row + 1] = fee_sum[row]
            bankrupt_sum[row + 1] = bankrupt_sum[row]
            if not is_single[p] and to_holder[p]:
                fee_sum[row + 1, 0] += alpha[p] - (fee[p] if inv else 0.0)
                fee_sum[row + 1, 1] += beta[p] - (0.0 if inv else fee[p])
            if not is_single[b]:
                bankrupt_sum[row + 1, 0] += alpha[b]
                bankrupt_sum[row + 1, 1] += beta[b]


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
