"""The compiled policy that cuts a liquidation into steps, and lives a position through a path.

At a price where a position is not healthy the policy acts until it is, or until nothing is left:

1. If the costs of closing everything exceed the equity, everything is closed; the difference is
   the deficit.
2. If the position is in one of the `tiers_per_step` lowest tiers, it is closed whole.
3. Otherwise it is cut to the cap of the tier `tiers_per_step` below its own. Market costs are paid
   first; the venue's fee on what was cut may not take what closing the rest here would cost.

A position's tier is the one its tested value falls in, and never above the one it was last cut to.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from risk.liquidation.columns import LIQUIDATED, STOPPED, SURVIVED, Gaps, Held, Rules

#: Columns of the rungs that `climb` writes.
(
    RUNG_AT,
    RUNG_BEFORE,
    RUNG_PNL,
    RUNG_DROP,
    RUNG_COIN,
    RUNG_DEFICIT,
    RUNG_VENUE,
    RUNG_COST,
    RUNG_NOTIONAL,
    RUNG_KIND,
) = range(10)

_NEAREST_TO_ZERO = 1e-200
_TOP = 1 << 30


@njit(cache=True, nogil=True)
def tier_of(rules: Rules, rule: int, value: float) -> int:
    """Tier of a value in settle currency, 0 the lowest; a tier holds its cap, not its floor."""
    tier = 0
    while tier + 1 < rules.n_tiers[rule] and value > rules.floor[rule, tier + 1]:
        tier += 1
    return tier


@njit(cache=True, nogil=True)
def _requirement(rules: Rules, rule: int, value: float) -> float:
    most = rules.rate[rule, 0] * value - rules.amount[rule, 0]
    for tier in range(1, rules.n_tiers[rule]):
        most = max(most, rules.rate[rule, tier] * value - rules.amount[rule, tier])
    return most


@njit(cache=True, nogil=True)
def next_trigger(held: Held, rules: Rules, p: int, intercept: float, share: float) -> float:
    """Adverse coordinate at which `share` of position `p` is liquidated; inf: never."""
    rule, head, unit = held.rule[p], held.head[p], held.unit[p]
    size = share * held.notional[p]
    rate, fixed = rules.trigger_fee[rule], 0.0
    if rules.is_fee_at_bankruptcy[rule]:
        fixed = rate * max(-head * intercept, 0.0)
        rate = 0.0
    if rules.is_entry_basis[rule]:
        fixed += _requirement(rules, rule, share * held.entered[p] / unit) * unit
        y = (fixed - intercept) / (size * (head - rate))
    else:
        y = -np.inf * head
        for tier in range(rules.n_tiers[rule]):
            slope = size * (head - rate - rules.rate[rule, tier])
            root = (fixed - intercept - rules.amount[rule, tier] * unit) / slope
            y = max(y, root) if head > 0 else min(y, root)
    if y <= _NEAREST_TO_ZERO:
        return np.inf if head > 0 else -np.inf
    x = 1.0 / y if held.inverse[p] else y
    u = -x if held.side[p] == 0 else x
    return np.nextafter(u, np.inf) if rules.is_strict[rule] else u


@njit(cache=True, nogil=True)
def _act(
    held: Held, rules: Rules, p: int, u: float, intercept: float, share: float, tier: int,
    liquidated: bool,
) -> tuple:  # fmt: skip
    """Close or cut position `p` at `u`: its new state, then deficit, venue gain, cost, notional.

    The four amounts are in US dollars at that price.
    """
    rule, head = held.rule[p], held.head[p]
    x = -u if held.side[p] == 0 else u
    y, scale = (1.0 / x, x) if held.inverse[p] else (x, 1.0)
    size = share * held.notional[p] * y
    equity = intercept + head * size
    cost = (held.closing_fee[p] + held.impact[p] * np.sqrt(share)) * size
    room = equity - cost
    if room < 0.0:
        return 0.0, 0.0, 0, -room * scale, 0.0, cost * scale, size * scale
    if not liquidated:
        return room, 0.0, 0, 0.0, 0.0, cost * scale, size * scale
    tested = share * held.entered[p] if rules.is_entry_basis[rule] else size
    tier = min(tier, tier_of(rules, rule, tested / held.unit[p]))
    step = rules.tiers_per_step[rule]
    if tier < step:
        gain = min(held.fee[p] * size, room) if held.to_holder[p] else room
        return room - gain, 0.0, 0, 0.0, gain * scale, cost * scale, size * scale
    left = share * rules.floor[rule, tier - step + 1] * held.unit[p] / tested
    cut = (share - left) * held.notional[p] * y
    cost = (held.closing_fee[p] + held.impact[p] * np.sqrt(share - left)) * cut
    gain = min(held.fee[p] * cut, room)
    intercept = equity - cost - gain - head * left * held.notional[p] * y
    return intercept, left, tier - step, 0.0, gain * scale, cost * scale, cut * scale


@njit(cache=True, nogil=True)
def climb(held: Held, rules: Rules, p: int, rungs: np.ndarray, at: int, is_dry: bool) -> int:
    """Write the rungs of position `p`, from row `at`, and return how many there are.

    What survives the last step gets a rung that is never hit. With `is_dry` rungs are only counted.
    """
    inverse, worth = held.inverse[p], held.head[p] * held.notional[p]
    intercept, share, tier = held.intercept[p], 1.0, _TOP
    u, before, n = held.first[p], -np.inf, 0
    is_stop = held.first[p] < held.margin[p]
    while True:
        slope = intercept if inverse else worth * share
        if u == np.inf:
            if not is_dry:
                rungs[at + n] = 0.0
                rungs[at + n, RUNG_AT], rungs[at + n, RUNG_BEFORE] = u, before
                rungs[at + n, RUNG_DROP] = slope
            return n + 1
        value = intercept + worth * share
        intercept, share, tier, deficit, gain, cost, closed = _act(
            held, rules, p, u, intercept, share, tier, not is_stop
        )
        if not is_dry:
            row = rungs[at + n]
            row[RUNG_AT], row[RUNG_BEFORE] = u, before
            row[RUNG_PNL] = intercept + worth * share - value
            if share > 0.0:
                row[RUNG_DROP] = slope - (intercept if inverse else worth * share)
                row[RUNG_COIN] = 0.0
            else:
                row[RUNG_DROP] = slope
                row[RUNG_COIN] = intercept if inverse else 0.0
            row[RUNG_DEFICIT], row[RUNG_VENUE], row[RUNG_COST] = deficit, gain, cost
            row[RUNG_NOTIONAL] = 0.0 if is_stop else closed
            row[RUNG_KIND] = STOPPED if is_stop else LIQUIDATED if n == 0 else SURVIVED
        n += 1
        if share == 0.0:
            return n
        before = u
        u = max(next_trigger(held, rules, p, intercept, share), u)


def write_rungs(held: Held, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Rungs of every position, position by position: each one's owner, and (rung, column)."""
    count = np.empty(len(held.first), np.int64)
    _climb_all(held, rules, np.zeros(len(count), np.int64), np.empty((0, 10)), True, count)
    at = np.cumsum(count) - count
    rungs = np.empty((int(count.sum()), 10))
    _climb_all(held, rules, at, rungs, False, count)
    return np.repeat(np.arange(len(count)), count), rungs


@njit(cache=True, nogil=True)
def _climb_all(
    held: Held, rules: Rules, at: np.ndarray, rungs: np.ndarray, is_dry: bool, count: np.ndarray
) -> None:
    for p in range(len(at)):
        count[p] = climb(held, rules, p, rungs, at[p], is_dry)


@njit(cache=True, nogil=True)
def live_through(
    held: Held, rules: Rules, p: int, gaps: Gaps, begin: int, end: int, farthest: float, last: float
) -> tuple:
    """Live position `p` through the gaps `begin` to `end` of one scenario and to its extreme.

    Returns
    -------
    pnl, deficit, venue gain, cost, notional : float
        USD; the P&L at the horizon.
    status : int
        `SURVIVED`, `STOPPED` or `LIQUIDATED`.
    gap : int
        The first gap at whose landing it was closed or cut; -1: none.
    """
    intercept, share, tier = held.intercept[p], 1.0, _TOP
    deficit, gain, cost, notional = 0.0, 0.0, 0.0, 0.0
    status, gap = SURVIVED, -1
    u = held.first[p]
    for g in range(begin, end + 1):
        before = gaps.before[g] if g < end else farthest
        landing = gaps.landing[g] if g < end else farthest
        while share > 0.0 and u <= landing:
            # Diffusion closes at the trigger, a jump at its landing.
            price = u if u <= before else landing
            liquidated = status == LIQUIDATED or held.margin[p] <= price
            if u > before and gap < 0:
                gap = g
            intercept, share, tier, short, won, paid, closed = _act(
                held, rules, p, price, intercept, share, tier, liquidated
            )
            deficit += short
            gain += won
            cost += paid
            if liquidated:
                notional += closed
            status = LIQUIDATED if liquidated else STOPPED
            if share > 0.0:
                u = max(next_trigger(held, rules, p, intercept, share), price)
    worth = held.head[p] * held.notional[p]
    pnl = -held.intercept[p] - worth
    if held.inverse[p]:
        pnl += intercept * last + worth * share
    else:
        pnl += intercept + worth * share * last
    return pnl, deficit, gain, cost, notional, status, gap
