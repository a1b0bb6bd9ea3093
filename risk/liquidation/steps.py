"""The compiled policy that cuts a liquidation into steps, and lives a position through a path.

At a price where a position is not healthy the policy acts until it is, or until nothing is left:

1. If the costs of closing everything exceed the equity, everything is closed; the difference is
   the deficit.
2. If the position is in one of the `tiers_per_step` lowest tiers, or closing it would use up its
   equity, it is closed whole.
3. Otherwise it is cut to the cap of the tier `tiers_per_step` below its own. Market costs are paid
   first; the venue's fee on what was cut may not take what closing the rest here would cost.

A position's tier is the one its tested value falls in, and never above the one it was last cut to.

With a cascade the price that is tested is the path's, moved by what was closed before; amounts stay
valued at the path's price, and the difference is a market cost.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.liquidation.columns import (
    LIQUIDATED,
    STOPPED,
    SURVIVED,
    Events,
    Gaps,
    Held,
    Rules,
    Stairs,
)
from risk.liquidation.impact import impact_at, mean_impact

#: Columns of a rung: what it changes, and the state it leaves.
(
    RUNG_AT,  # adverse coordinate on the path
    RUNG_BEFORE,  # that of the position's rung before
    RUNG_PNL,
    RUNG_DROP,  # exposure that ends
    RUNG_COIN,  # exposure of coins handed back
    RUNG_DEFICIT,
    RUNG_VENUE,
    RUNG_COST,
    RUNG_NOTIONAL,
    RUNG_KIND,
    RUNG_BASE,  # closed by others before, US dollars at the mark
    RUNG_INTERCEPT,
    RUNG_SHARE,
    RUNG_TIER,
) = range(14)
N_COLUMNS = 14

TOP = 1 << 30

#: Positions that climb at a time: bounds the memory for their longest possible stairs.
_AT_ONCE = 1 << 14

_NEAREST_TO_ZERO = 1e-200

#: Equity left after closing, as a share of the value, that counts as used up. A fee that takes all
#: it may leaves exactly nothing, and rounding alone would decide whether the next step is a cut.
USED_UP = 1e-9


@njit(inline="always")
def tier_of(rules: Rules, rule: int, value: float) -> int:
    """Tier of a value in settle currency, 0 the lowest; a tier holds its cap, not its floor."""
    tier = 0
    while tier + 1 < rules.n_tiers[rule] and value > rules.floor[rule, tier + 1]:
        tier += 1
    return tier


@njit(inline="always")
def requirement(rules: Rules, rule: int, value: float) -> float:
    """Maintenance margin of a value, both in settle currency."""
    most = rules.rate[rule, 0] * value - rules.amount[rule, 0]
    for tier in range(1, rules.n_tiers[rule]):
        most = max(most, rules.rate[rule, tier] * value - rules.amount[rule, tier])
    return most


@njit(inline="always")
def next_trigger(held: Held, rules: Rules, p: int, intercept: float, share: float) -> float:
    """Adverse coordinate at which `share` of position `p` is liquidated; inf: never."""
    rule, head, unit = held.rule[p], held.head[p], held.unit[p]
    size = share * held.notional[p]
    rate, fixed = rules.trigger_fee[rule], 0.0
    if rules.is_fee_at_bankruptcy[rule]:
        fixed = rate * max(-head * intercept, 0.0)
        rate = 0.0
    if rules.is_entry_basis[rule]:
        fixed += requirement(rules, rule, share * held.entered[p] / unit) * unit
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


@njit(inline="always")
def moved(side: int, kappa: float, base: float) -> float:
    """Factor on the path's price once `base` is closed: falls lower it, rises raise it."""
    impact = impact_at(kappa, base)
    return 1.0 - impact if side == 0 else 1.0 + impact


@njit(inline="always")
def slippage(side: int, inverse: bool, kappa: float, base: float, quantity: float) -> float:
    """Cost of closing `quantity` after `base`, as a fraction of its value on the path."""
    mean = mean_impact(kappa, base, quantity)
    if not inverse:
        return mean
    return mean / (1.0 - mean) if side == 0 else mean / (1.0 + mean)


@njit(inline="always")
def _cost_rate(
    held: Held, p: int, kappa: float, base: float, quantity: float, part: float
) -> float:
    if kappa > 0.0:
        impact = slippage(held.side[p], held.inverse[p], kappa, base, quantity)
    else:
        impact = held.impact[p] * np.sqrt(part)
    return held.closing_fee[p] + impact


@njit(inline="always")
def act(
    held: Held, rules: Rules, p: int, u: float, turn: float, base: float, kappa: float,
    intercept: float, share: float, tier: int, liquidated: bool,
) -> tuple:  # fmt: skip
    """Close or cut position `p` where the path is at `u` and `base` was closed before.

    `turn` is where its turn was, which a jump may have skipped: it values the coins closed.

    Returns
    -------
    intercept, share, tier : float, float, int
        What is left of it.
    deficit, venue gain, cost, notional : float
        US dollars at the path's price.
    quantity : float
        What was closed, US dollars at the mark.
    """
    rule, head, inverse = held.rule[p], held.head[p], held.inverse[p]
    x = -u if held.side[p] == 0 else u
    mark = x * moved(held.side[p], kappa, base)
    y, scale, tested_y, unit = x, 1.0, mark, 1.0
    if inverse:
        y, scale, tested_y = 1.0 / x, x, 1.0 / mark
        unit = 1.0 / (abs(turn) * moved(held.side[p], kappa, base))
    size = share * held.notional[p] * y
    quantity = share * held.notional[p] * unit
    equity = intercept + head * size
    cost = _cost_rate(held, p, kappa, base, quantity, share) * size
    room = equity - cost
    if room < 0.0:
        return 0.0, 0.0, 0, -room * scale, 0.0, cost * scale, size * scale, quantity
    if not liquidated:
        return room, 0.0, 0, 0.0, 0.0, cost * scale, size * scale, quantity
    tested = share * (
        held.entered[p] if rules.is_entry_basis[rule] else held.notional[p] * tested_y
    )
    tier = min(tier, tier_of(rules, rule, tested / held.unit[p]))
    step = rules.tiers_per_step[rule]
    if tier < step or room <= USED_UP * size:
        gain = min(held.fee[p] * size, room) if held.to_holder[p] else room
        return room - gain, 0.0, 0, 0.0, gain * scale, cost * scale, size * scale, quantity
    left = share * rules.floor[rule, tier - step + 1] * held.unit[p] / tested
    cut = (share - left) * held.notional[p]
    cost = _cost_rate(held, p, kappa, base, cut * unit, share - left) * cut * y
    gain = min(held.fee[p] * cut * y, room)
    intercept = equity - cost - gain - head * left * held.notional[p] * y
    return (
        intercept,
        left,
        tier - step,
        0.0,
        gain * scale,
        cost * scale,
        cut * y * scale,
        cut * unit,
    )


@njit
def step(
    held: Held, rules: Rules, p: int, u: float, base: float, kappa: float, is_stop: bool,
    before: np.ndarray, rung: np.ndarray,
) -> float:  # fmt: skip
    """Act on position `p` and write the rung; `before` is its rung before, all NaN for none.

    Returns the quantity closed, US dollars at the mark.
    """
    is_new = np.isnan(before[RUNG_SHARE])
    intercept, share, tier = held.intercept[p], 1.0, TOP
    if not is_new:
        intercept, share, tier = before[RUNG_INTERCEPT], before[RUNG_SHARE], int(before[RUNG_TIER])
    worth, inverse = held.head[p] * held.notional[p], held.inverse[p]
    slope, value = intercept if inverse else worth * share, intercept + worth * share
    rung[:] = 0.0
    rung[RUNG_AT], rung[RUNG_BASE] = u, base
    rung[RUNG_BEFORE] = -np.inf if is_new else before[RUNG_AT]
    quantity = 0.0
    if u < np.inf:
        intercept, share, tier, deficit, gain, cost, closed, quantity = act(
            held, rules, p, u, u, base, kappa, intercept, share, tier, not is_stop
        )
        rung[RUNG_PNL] = intercept + worth * share - value
        rung[RUNG_DEFICIT], rung[RUNG_VENUE], rung[RUNG_COST] = deficit, gain, cost
        rung[RUNG_NOTIONAL] = 0.0 if is_stop else closed
        rung[RUNG_KIND] = STOPPED if is_stop else LIQUIDATED if is_new else SURVIVED
    if share > 0.0 and u < np.inf:
        rung[RUNG_DROP] = slope - (intercept if inverse else worth * share)
    else:
        # The end: everything is closed, or what survives is never hit.
        rung[RUNG_DROP] = slope
        rung[RUNG_COIN] = intercept if inverse and share == 0.0 else 0.0
    rung[RUNG_INTERCEPT], rung[RUNG_SHARE], rung[RUNG_TIER] = intercept, share, tier
    return quantity


def climb(held: Held, rules: Rules) -> Stairs:
    """Rungs of every position on its own; what survives the last step is never hit."""
    most = int(rules.n_tiers.max(initial=0)) + 1
    count = np.zeros(len(held.first), np.int64)
    parts = [np.empty((0, N_COLUMNS))]
    for start in range(0, len(count), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        rungs = np.empty((len(count[some]), most, N_COLUMNS))
        _climb(Held(*(column[some] for column in held)), rules, rungs, count[some])
        parts.append(rungs[np.arange(most) < count[some, None]])
    return Stairs(np.append(0, np.cumsum(count)), np.concatenate(parts))


def take_stairs(stairs: Stairs, index: np.ndarray) -> Stairs:
    """The stairs of the positions at `index`, in that order."""
    count = np.diff(stairs.start)[index]
    start = np.append(0, np.cumsum(count))
    row = np.arange(start[-1]) + np.repeat(stairs.start[:-1][index] - start[:-1], count)
    return Stairs(start, stairs.rung[row])


@njit
def _climb(held: Held, rules: Rules, rungs: np.ndarray, count: np.ndarray) -> None:
    for p in range(len(count)):
        before, u = np.full(N_COLUMNS, np.nan), held.first[p]
        while True:
            rung = rungs[p, count[p]]
            is_stop = count[p] == 0 and held.first[p] < held.margin[p]
            step(held, rules, p, u, 0.0, 0.0, is_stop, before, rung)
            count[p] += 1
            if u == np.inf or rung[RUNG_SHARE] == 0.0:
                break
            u = max(next_trigger(held, rules, p, rung[RUNG_INTERCEPT], rung[RUNG_SHARE]), u)
            before = rung


@njit(inline="always")
def _locate(events: Events, asset: int, side: int, trigger: float) -> tuple[float, float]:
    """Where on the path a price is reached, and what the cascade has closed before."""
    begin, end = events.start[2 * asset + side], events.start[2 * asset + side + 1]
    low, high = begin, end
    while low < high:
        middle = (low + high) >> 1
        if events.trigger[middle] < trigger:
            low = middle + 1
        else:
            high = middle
    if low == begin:
        return trigger, 0.0
    base = events.base[low - 1]
    level = trigger / moved(side, events.kappa[asset], base)
    return max(level, events.level[low - 1]), base


@njit(inline="always")
def climb_to(
    held: Held, stairs: Stairs, p: int, farthest: float, last: float
) -> tuple[float, float, float, float, float, int]:
    """P&L, deficit, venue gain, cost, notional and status of position `p` on its own stairs."""
    intercept, share = held.intercept[p], 1.0
    deficit, gain, cost, notional, status = 0.0, 0.0, 0.0, 0.0, SURVIVED
    for k in range(stairs.start[p], stairs.start[p + 1]):
        rung = stairs.rung[k]
        if rung[RUNG_AT] > farthest:
            break
        deficit += rung[RUNG_DEFICIT]
        gain += rung[RUNG_VENUE]
        cost += rung[RUNG_COST]
        notional += rung[RUNG_NOTIONAL]
        if rung[RUNG_KIND] != SURVIVED:
            status = int(rung[RUNG_KIND])
        intercept, share = rung[RUNG_INTERCEPT], rung[RUNG_SHARE]
    worth = held.head[p] * held.notional[p]
    end = intercept * last + worth * share if held.inverse[p] else intercept + worth * share * last
    return end - held.intercept[p] - worth, deficit, gain, cost, notional, status


@njit
def live_through(
    steps: tuple, p: int, gaps: Gaps, begin: int, end: int, farthest: float, last: float
) -> tuple:
    """Live position `p` through the gaps `begin` to `end` of one scenario and to its extreme.

    `steps` is (held, rules, stairs, events). Up to the first gap that skips one of its rungs the
    position climbs its stairs; from there on the policy acts where it lands.

    Returns
    -------
    pnl, deficit, venue gain, cost, notional : float
        USD; the P&L at the horizon.
    status : int
        `SURVIVED`, `STOPPED` or `LIQUIDATED`.
    gap : int
        The first gap at whose landing it was closed or cut; -1: none.
    """
    held, rules, stairs, events = steps
    asset, side = held.asset[p], held.side[p]
    kappa = events.kappa[asset]
    intercept, share, tier = held.intercept[p], 1.0, TOP
    deficit, gain, cost, notional = 0.0, 0.0, 0.0, 0.0
    status, gap = SURVIVED, -1
    level, base = 0.0, 0.0
    k, top = stairs.start[p], stairs.start[p + 1]
    for g in range(begin, end + 1):
        before = gaps.before[g] if g < end else farthest
        landing = gaps.landing[g] if g < end else farthest
        if gap < 0:
            while k < top and stairs.rung[k, RUNG_AT] <= before:
                rung = stairs.rung[k]
                deficit += rung[RUNG_DEFICIT]
                gain += rung[RUNG_VENUE]
                cost += rung[RUNG_COST]
                notional += rung[RUNG_NOTIONAL]
                if rung[RUNG_KIND] != SURVIVED:
                    status = int(rung[RUNG_KIND])
                intercept, share, tier = (
                    rung[RUNG_INTERCEPT],
                    rung[RUNG_SHARE],
                    int(rung[RUNG_TIER]),
                )
                k += 1
            if k == top or stairs.rung[k, RUNG_AT] > landing:
                continue
            gap, level, base = g, stairs.rung[k, RUNG_AT], stairs.rung[k, RUNG_BASE]
        while share > 0.0 and level <= landing:
            # Diffusion closes at the trigger, a jump at its landing.
            price = level if level <= before else landing
            liquidated = status == LIQUIDATED or held.margin[p] <= price
            intercept, share, tier, short, won, paid, closed, quantity = act(
                held, rules, p, price, level, base, kappa, intercept, share, tier, liquidated
            )
            deficit += short
            gain += won
            cost += paid
            notional += closed if liquidated else 0.0
            status = LIQUIDATED if liquidated else STOPPED
            if share > 0.0:
                trigger = next_trigger(held, rules, p, intercept, share)
                level, earlier = _locate(events, asset, side, trigger)
                level, base = max(level, price), max(earlier, base + quantity)
    worth = held.head[p] * held.notional[p]
    pnl = -held.intercept[p] - worth
    if held.inverse[p]:
        pnl += intercept * last + worth * share
    else:
        pnl += intercept + worth * share * last
    return pnl, deficit, gain, cost, notional, status, gap
