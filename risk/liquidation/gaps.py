"""The compiled correction for gaps: rungs a jump skips close at its landing, not at their triggers.

Everything is a difference of running sums where the algebra of `docs/design/0004-ladder.md` allows
it; what it does not cover is closed one by one. Both are exact.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.liquidation.closing import close_out, count_at_or_below
from risk.liquidation.columns import (
    HIT_COST,
    HIT_COUNTS,
    HIT_NOTIONAL,
    HIT_PNL,
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
    Gaps,
    Paths,
    Plain,
    Steps,
)
from risk.liquidation.steps import climb_to, live_through


@njit
def correct_gaps(
    ladder: int, plain: Plain, gaps: Gaps, last: np.ndarray, small_window: int, is_wide: bool,
    totals: tuple[np.ndarray, ...],
) -> tuple[int, int]:  # fmt: skip
    """Move the rungs of one ladder inside each gap from their triggers to the landing.

    Returns how many windows were looked up and how many went one by one.
    """
    sums, landing = plain.sums, plain.landing
    a, s, inv = sums.asset[ladder], sums.side[ladder], plain.inverse[ladder]
    begin, end = sums.start[ladder], sums.start[ladder + 1]
    first, hot, cold = sums.first, sums.hot, sums.cold
    pnl, deficit, notional, counts, venue_gain, market_cost = totals
    looked_up, one_by_one = 0, 0
    for g in range(gaps.start[2 * a + s], gaps.start[2 * a + s + 1]):
        u_before, u_landing = gaps.before[g], gaps.landing[g]
        k_before = count_at_or_below(first, begin, end, u_before)
        k_landing = count_at_or_below(first, begin, end, u_landing)
        window = k_landing - k_before
        if window == 0:
            continue
        i = gaps.scenario[g]
        x = -u_landing if s == 0 else u_landing
        final = last[a, i]
        # USD at the horizon of one USD of leftover: returned coin keeps moving.
        carry = final / x if inv else 1.0
        past, at = begin + ladder + k_before, begin + ladder + k_landing

        coin = landing[at, LAND_COIN] - landing[past, LAND_COIN]
        pnl[i] -= hot[at, HIT_PNL] - hot[past, HIT_PNL] + coin * (final - 1.0)
        deficit[i] -= sums.short[at] - sums.short[past]
        notional[i] -= hot[at, HIT_NOTIONAL] - hot[past, HIT_NOTIONAL]
        counts[i] -= hot[at, HIT_COUNTS] - hot[past, HIT_COUNTS]
        if is_wide:
            venue_gain[i] -= cold[at, HIT_VENUE] - cold[past, HIT_VENUE]
            market_cost[i] -= cold[at, HIT_COST] - cold[past, HIT_COST]

        # Plain rungs closed before the gap but still solvent at its landing spoil the look-up.
        k_reach = count_at_or_below(first, begin, begin + k_before, u_landing - plain.width[ladder])
        by_one = window <= small_window or k_before - k_reach >= window
        if by_one:
            one_by_one += 1
            from_single, to_single = 0, window
        else:
            looked_up += 1
            scale = 1.0 if inv else x
            j = begin + ladder + count_at_or_below(plain.fee_at, begin, end, u_landing)
            below_fee = plain.fee_sum[j, 0] + plain.fee_sum[j, 1] * x
            j = begin + ladder + count_at_or_below(plain.bankrupt_at, begin, end, u_landing)
            below_zero = plain.bankrupt_sum[j, 0] + plain.bankrupt_sum[j, 1] * x
            # Both sums also hold the rungs closed before the gap: take those out again.
            hold0, hold1 = landing[past, LAND_HOLD0], landing[past, LAND_HOLD1]
            gain0, gain1 = landing[past, LAND_VENUE0], landing[past, LAND_VENUE1]
            below_fee -= hold0 + hold1 * x
            below_zero -= hold0 + gain0 + (hold1 + gain1) * x
            for p in range(begin + k_reach, begin + k_before):
                if plain.is_single[p]:
                    continue
                value = plain.alpha[p] + plain.beta[p] * x
                if plain.to_holder[p]:
                    below_fee += max(value - plain.fee[p] * scale, 0.0)
                below_zero += max(value, 0.0)
            below_zero = min(below_zero, 0.0)  # rounding must not invent a negative deficit
            held = landing[at, LAND_HOLD0] - hold0 + (landing[at, LAND_HOLD1] - hold1) * x
            gain = landing[at, LAND_VENUE0] - gain0 + (landing[at, LAND_VENUE1] - gain1) * x
            stake = landing[at, LAND_EQUITY] - landing[past, LAND_EQUITY]
            pnl[i] += (held - below_fee) * carry - stake
            deficit[i] -= below_zero
            closed = landing[at, LAND_NOTIONAL] - landing[past, LAND_NOTIONAL]
            notional[i] += closed * scale
            if is_wide:
                venue_gain[i] += gain + below_fee - below_zero
                paid = landing[at, LAND_COST] - landing[past, LAND_COST]
                market_cost[i] += paid * scale
            s0, s1 = plain.single_start[ladder], plain.single_start[ladder + 1]
            from_single = count_at_or_below(plain.single, s0, s1, begin + k_before - 1)
            to_single = count_at_or_below(plain.single, s0, s1, begin + k_landing - 1)
            counts[i] += window - (to_single - from_single)
        for w in range(from_single, to_single):
            p = begin + k_before + w if by_one else plain.single[plain.single_start[ladder] + w]
            liquidated = plain.margin[p] <= u_landing
            held, short, gain, paid, closed = close_out(
                x, inv, plain.alpha[p], plain.beta[p], plain.cost[p], plain.fee[p],
                plain.notional[p], plain.to_holder[p], liquidated,
            )  # fmt: skip
            pnl[i] += held * carry - plain.equity[p]
            deficit[i] += short
            if liquidated:
                notional[i] += closed
                counts[i] += 1.0
            else:
                counts[i] += STOP
            if is_wide:
                venue_gain[i] += gain
                market_cost[i] += paid
    return looked_up, one_by_one


@njit
def correct_steps(
    ladder: int, steps: Steps, gaps: Gaps, paths: Paths, is_wide: bool,
    totals: tuple[np.ndarray, ...],
) -> int:  # fmt: skip
    """Live the positions with a rung inside a gap again, one by one: the policy acts at landings.

    Their whole result is replaced, later rungs and later gaps included. Returns how many.
    """
    sums = steps.sums
    pnl, deficit, notional, counts, venue_gain, market_cost = totals
    a, s = sums.asset[ladder], sums.side[ladder]
    begin, end = sums.start[ladder], sums.start[ladder + 1]
    g0, g1 = gaps.start[2 * a + s], gaps.start[2 * a + s + 1]
    parts = (steps.held, steps.rules, steps.stairs, steps.events)
    lived = 0
    head = g0
    for g in range(g0, g1):
        i = gaps.scenario[g]
        if gaps.scenario[head] != i:
            head = g
        tail = g + 1
        while tail < g1 and gaps.scenario[tail] == i:
            tail += 1
        past = begin + count_at_or_below(sums.first, begin, end, gaps.before[g])
        at = begin + count_at_or_below(sums.first, begin, end, gaps.landing[g])
        for rung in range(past, at):
            if steps.previous[rung] > gaps.before[g]:
                continue  # its owner has an earlier rung inside this gap
            p, u, last = steps.owner[rung], paths.farthest[a, s, i], paths.last[a, i]
            new = live_through(parts, p, gaps, head, tail, u, last)
            if new[6] != g:
                continue  # an earlier gap of the path changed it already
            old = climb_to(steps.held, steps.stairs, p, u, last)
            lived += 1
            pnl[i] += new[0] - old[0]
            deficit[i] += new[1] - old[1]
            notional[i] += new[4] - old[4]
            for status, change in ((new[5], 1), (old[5], -1)):
                if status == LIQUIDATED:
                    counts[i] += change
                elif status == STOPPED:
                    counts[i] += change * STOP
            if is_wide:
                venue_gain[i] += new[2] - old[2]
                market_cost[i] += new[3] - old[3]
    return lived
