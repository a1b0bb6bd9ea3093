"""The compiled kernel of last resort: account pools through joint paths, one event at a time.

Inside a frame nobody knows when each asset was where. There are two rules. *Worst*: every asset at
its own worse end for the pool at one moment, then every asset at its other end; a pool that any
joint path could kill dies. *Together*: all lows at one moment and all highs at another, the worse
of the two first. Between them prices go on straight lines; then comes the end of the frame. Jumps
land at once and close where they land. `docs/methods/cross_margin.md` has the rules, their bounds
and their errors.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.drivers import AT_GAPS, AT_HIGH, AT_LAST, AT_LOW, JointPaths
from risk.liquidation.columns import LIQUIDATED, STOPPED, SURVIVED
from risk.liquidation.cross.bounds import (
    FAILS,
    LIVES,
    corner,
    ends,
    must_die,
    rides,
    state_at,
    survives,
)
from risk.margin.excess import (
    ALPHA,
    ASSET,
    BETA,
    CASH,
    CLOSED,
    CLOSING_FEE,
    COIN,
    COUNTED,
    DRIVER,
    FEE,
    HERE,
    HERE_ALPHA,
    HERE_BETA,
    HERE_MARK,
    HERE_SIZE,
    INVERSE,
    IS_LOW,
    IS_OPEN,
    NOW_ALPHA,
    NOW_BETA,
    PAID,
    ROW,
    SHARE,
    SIDE,
    SIZE,
    STOP,
    THERE,
    THERE_ALPHA,
    THERE_BETA,
    THERE_MARK,
    THERE_SIZE,
    TO_HOLDER,
    Packed,
    State,
    aim,
    aim_leg,
    along,
    arrive,
    excess,
    find_breach,
    is_breached,
    open_pool,
    worth,
)

# Columns of `out` (leg, column): USD; the P&L at the horizon.
PNL, VENUE, DEFICIT, COST, NOTIONAL = range(5)

#: Bits of what `live` returns: the pool was liquidated by the rule, could have been by the prices
#: alone, and some leg has a result that is not its exposure times the move.
DIED, COULD_DIE, TOUCHED = 1, 2, 4


@njit
def _close(
    pools: Packed, k: int, state: State, t: float, last: np.ndarray, out: np.ndarray,
    status: np.ndarray,
) -> None:  # fmt: skip
    """Liquidate everything that is open, and settle the pool.

    Market costs come first, then the venue's fee, which never makes a deficit, then the holder or
    the fund; a fund takes no more than the test counted. What the holder keeps stays in the
    currencies it lies in, and moves with them.
    """
    legs, kinds, now, coin = pools.legs, pools.kinds, state.legs, state.places[COIN]
    first, end = pools.start[k], pools.start[k + 1]
    here, there = state.places[HERE], state.places[THERE]
    total, counted, fees = pools.pool[k, CASH], pools.pool[k, CASH], 0.0
    dollars = pools.pool[k, CASH]
    for i in range(first, end):
        j, a = i - first, kinds[i, ASSET]
        value = worth(now, j, t)
        cost = 0.0
        if now[j, IS_OPEN] != 0.0:
            size = legs[i, SIZE] * along(now[j, HERE_SIZE], now[j, THERE_SIZE], t)
            cost = legs[i, CLOSING_FEE] * size
            fees += legs[i, FEE] * size
            now[j, PAID] += cost
            now[j, CLOSED] = size
            status[i] = LIQUIDATED
        total += value - cost
        counted += legs[i, COUNTED] * value - cost
        if kinds[i, INVERSE] != 0:
            coin[a] += value - cost
        else:
            dollars += value - cost
    short, venue = max(-total, 0.0), 0.0
    if total > 0.0:
        is_returned = pools.pool[k, TO_HOLDER] != 0.0
        venue = min(fees if is_returned else max(counted, 0.0), total)
    kept, base = max(dollars, 0.0), max(dollars, 0.0)
    for i in range(first, end):
        a = kinds[i, ASSET]
        if coin[a] > 0.0:
            base += coin[a]
            kept += coin[a] * (last[a] / along(here[a], there[a], t))
        coin[a] = 0.0
    left = max(total, 0.0) - venue
    final = left * (kept / base) if base > 0.0 else 0.0
    _share_out(pools, k, state, t, final, venue, short, out)


@njit
def _share_out(
    pools: Packed, k: int, state: State, t: float, final: float, venue: float, short: float,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Give every position its own gain and its share of what belongs to the whole pool."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    first, end = pools.start[k], pools.start[k + 1]
    rest = final - pools.pool[k, CASH]
    for i in range(first, end):
        j = i - first
        begun = legs[i, ALPHA] + legs[i, BETA]
        rest -= begun
        if kinds[i, ROW] < 0:
            continue
        own = worth(now, j, t) - begun
        own -= now[j, PAID] if now[j, CLOSED] > 0.0 else 0.0
        out[i, PNL] = own
        rest -= own
        out[i, COST], out[i, NOTIONAL] = now[j, PAID], now[j, CLOSED]
    for i in range(first, end):
        if kinds[i, ROW] >= 0:
            out[i, PNL] += legs[i, SHARE] * rest
            out[i, VENUE] = legs[i, SHARE] * venue
            out[i, DEFICIT] = legs[i, SHARE] * short


@njit
def _fire(
    pools: Packed, k: int, state: State, i: int, t: float, has_landed: bool, status: np.ndarray
) -> None:  # fmt: skip
    """Close position `i` by its stop; what it is worth stays in the pool."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    j, inverse = i - pools.start[k], kinds[i, INVERSE] != 0
    beta = along(now[j, HERE_BETA], now[j, THERE_BETA], t)
    size = along(now[j, HERE_SIZE], now[j, THERE_SIZE], t)
    if not has_landed:  # its mark is at the stop to the last digit
        level = abs(legs[i, STOP])
        if not inverse:
            beta = level - along(
                now[j, HERE_SIZE] - now[j, HERE_BETA], now[j, THERE_SIZE] - now[j, THERE_BETA], t
            )
            size = level
        elif now[j, HERE_SIZE] == 1.0 and now[j, THERE_SIZE] == 1.0:
            beta = level
    alpha = along(now[j, HERE_ALPHA], now[j, THERE_ALPHA], t)
    cost = legs[i, CLOSING_FEE] * legs[i, SIZE] * size
    _realise(pools, i, j, state, now[j, NOW_ALPHA] * alpha + now[j, NOW_BETA] * beta - cost, beta)
    now[j, PAID], status[i] = cost, STOPPED


@njit
def _realise(pools: Packed, i: int, j: int, state: State, value: float, coin: float) -> None:
    """Turn position `i` into what it is worth, in dollars or in coin at this ratio."""
    now, inverse = state.legs, pools.kinds[i, INVERSE] != 0
    now[j, NOW_ALPHA] = 0.0 if inverse else value
    now[j, NOW_BETA] = value / coin if inverse else 0.0
    now[j, IS_OPEN] = 0.0


@njit
def _drift(
    pools: Packed, k: int, state: State, last: np.ndarray, out: np.ndarray, status: np.ndarray
) -> bool:  # fmt: skip
    """Move where the pool aims, on a straight line; whether it is liquidated on the way."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    first, end = pools.start[k], pools.start[k + 1]
    begin = 0.0
    while True:
        to, who = 1.0, -1
        for i in range(first, end):
            j = i - first
            if now[j, IS_OPEN] == 0.0 or legs[i, STOP] == np.inf:
                continue
            sign = -1.0 if kinds[i, SIDE] == 0 else 1.0
            if sign * now[j, THERE_MARK] >= legs[i, STOP]:
                way = sign * (now[j, THERE_MARK] - now[j, HERE_MARK])
                t = (legs[i, STOP] - sign * now[j, HERE_MARK]) / way if way > 0.0 else begin
                t = min(max(t, begin), 1.0)
                if who < 0 or t < to:
                    to, who = t, i
        if is_breached(pools, k, excess(pools, k, state, to)[0]):
            t = find_breach(pools, k, state, begin, to)
            _close(pools, k, state, t, last, out, status)
            return True
        if who < 0:
            break
        _fire(pools, k, state, who, to, False, status)
        begin = to
        if is_breached(pools, k, excess(pools, k, state, begin)[0]):
            _close(pools, k, state, begin, last, out, status)
            return True
    arrive(pools, k, state)
    return False


@njit
def _jump(
    pools: Packed, k: int, state: State, last: np.ndarray, out: np.ndarray, status: np.ndarray
) -> bool:  # fmt: skip
    """Land where the pool aims, at once; whether it is liquidated there."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    if not is_breached(pools, k, excess(pools, k, state, 1.0)[0]):
        fired = False
        for i in range(pools.start[k], pools.start[k + 1]):
            j = i - pools.start[k]
            x = now[j, THERE_MARK]
            u = -x if kinds[i, SIDE] == 0 else x
            if now[j, IS_OPEN] != 0.0 and legs[i, STOP] <= u:
                _fire(pools, k, state, i, 1.0, True, status)
                fired = True
        arrive(pools, k, state)
        if not (fired and is_breached(pools, k, excess(pools, k, state, 1.0)[0])):
            return False
    _close(pools, k, state, 1.0, last, out, status)
    return True


@njit
def _turn(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int
) -> bool:  # fmt: skip
    """Aim at what the instruments do after frame `f`; whether they do anything to this pool."""
    n = len(paths.ride_state)
    if n == 0 or paths.ride_state[f + 1] == paths.ride_state[f] or not rides(pools, k):
        return False
    aim(pools, k, state, state.places[HERE], paths.ride, paths.ride_state[f + 1], s)
    return True


@njit
def _settle(pools: Packed, k: int, state: State, paths: JointPaths, f: int) -> None:
    """Settle the positions whose instrument ends with frame `f`, where they are."""
    kinds, now, first = pools.kinds, state.legs, pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j, r = i - first, kinds[i, DRIVER] - paths.low.shape[2]
        if r >= 0 and now[j, IS_OPEN] != 0.0 and paths.ride_end[r] == f:
            _realise(pools, i, j, state, worth(now, j, 0.0), now[j, HERE_BETA])


@njit
def _frame(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> bool:  # fmt: skip
    """One frame by the rule; whether the pool is liquidated in it."""
    low, high = paths.low[s, f], paths.high[s, f]
    aim(pools, k, state, low, paths.ride, state_at(paths, f, AT_LOW), s)
    at_low = excess(pools, k, state, 1.0)[0]
    aim(pools, k, state, high, paths.ride, state_at(paths, f, AT_HIGH), s)
    at_high = excess(pools, k, state, 1.0)[0]
    for turn in range(2):
        if (turn == 0) == (at_low <= at_high):
            points, extreme, at, gaps = paths.falls, low, AT_LOW, AT_GAPS
        else:
            points, extreme, at = paths.rises, high, AT_HIGH
            gaps = AT_GAPS + 2 * paths.falls.shape[1]
        for g in range(points.shape[1]):
            aim(
                pools, k, state, points[0, g, s, f], paths.ride, state_at(paths, f, gaps + 2 * g), s
            )
            if _drift(pools, k, state, last, out, status):
                return True
            aim(
                pools,
                k,
                state,
                points[1, g, s, f],
                paths.ride,
                state_at(paths, f, gaps + 2 * g + 1),
                s,
            )
            if _jump(pools, k, state, last, out, status):
                return True
        aim(pools, k, state, extreme, paths.ride, state_at(paths, f, at), s)
        if _drift(pools, k, state, last, out, status):
            return True
    aim(pools, k, state, paths.last[s, f], paths.ride, state_at(paths, f, AT_LAST), s)
    return _drift(pools, k, state, last, out, status)


@njit
def _worst_frame(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> bool:  # fmt: skip
    """One frame with every asset at its worse end at once; whether the pool is liquidated in it."""
    kinds = pools.kinds
    low, high = paths.low[s, f], paths.high[s, f]
    first, end = pools.start[k], pools.start[k + 1]
    _find_worse(pools, k, state, paths, s, f)
    most = max(paths.falls.shape[1], paths.rises.shape[1])
    for turn in range(2):
        for g in range(most):
            for landing in range(2):
                for i in range(first, end):
                    a = kinds[i, ASSET]
                    is_low = (state.places[IS_LOW, a] != 0.0) == (turn == 0)
                    points = paths.falls if is_low else paths.rises
                    gaps = AT_GAPS if is_low else AT_GAPS + 2 * paths.falls.shape[1]
                    n = points.shape[1]
                    # Fewer gaps than others come last; until then the asset waits at its first.
                    if n == 0:
                        x, at = (low[a], AT_LOW) if is_low else (high[a], AT_HIGH)
                    elif g < most - n:
                        x, at = points[0, 0, s, f, a], gaps
                    else:
                        mine = g - (most - n)
                        x, at = points[landing, mine, s, f, a], gaps + 2 * mine + landing
                    aim_leg(pools, i, i - first, state, x, paths, state_at(paths, f, at), s)
                if landing == 0 and _drift(pools, k, state, last, out, status):
                    return True
                if landing == 1 and _jump(pools, k, state, last, out, status):
                    return True
        for i in range(first, end):
            a = kinds[i, ASSET]
            is_low = (state.places[IS_LOW, a] != 0.0) == (turn == 0)
            x, at = (low[a], AT_LOW) if is_low else (high[a], AT_HIGH)
            aim_leg(pools, i, i - first, state, x, paths, state_at(paths, f, at), s)
        if _drift(pools, k, state, last, out, status):
            return True
    aim(pools, k, state, paths.last[s, f], paths.ride, state_at(paths, f, AT_LAST), s)
    return _drift(pools, k, state, last, out, status)


@njit
def _find_worse(pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int) -> None:
    """Mark the assets that leave pool `k` less at their low than at their high."""
    kinds, first, end = pools.kinds, pools.start[k], pools.start[k + 1]
    i = first
    while i < end:
        a, more = kinds[i, ASSET], 0.0
        while i < end and kinds[i, ASSET] == a:
            at_low, at_high = ends(pools, state, i, i - first, paths, s, f)
            more += at_high
            more -= at_low
            i += 1
        state.places[IS_LOW, a] = 1.0 if more >= 0.0 else 0.0


@njit
def _land(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int, g: int
) -> bool:  # fmt: skip
    """Aim at where jump `g` after frame `f` lands; whether it moves any of the pool's assets."""
    kinds, here, first = pools.kinds, state.places[HERE], pools.start[k]
    at, x, moved = state_at(paths, f, AT_LAST), 0.0, False
    for i in range(first, pools.start[k + 1]):
        a = kinds[i, ASSET]
        if i == first or kinds[i - 1, ASSET] != a:
            x = here[a]
            low, high = paths.jump_start[g], paths.jump_start[g + 1]
            while low < high:
                middle = (low + high) >> 1
                if paths.jump_asset[middle] < a:
                    low = middle + 1
                else:
                    high = middle
            if low < paths.jump_start[g + 1] and paths.jump_asset[low] == a:
                x = paths.jump_to[low]
                moved = True
        aim_leg(pools, i, i - first, state, x, paths, at, s)
    return moved


@njit
def live(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, low: np.ndarray,
    high: np.ndarray, last: np.ndarray, out: np.ndarray, status: np.ndarray, is_worst: bool,
    quiet: int = 0,
) -> int:  # fmt: skip
    """Live pool `k` through scenario `s`, whose day has these extremes and this end (asset,).

    `is_worst` says which rule orders the prices inside a frame. Nothing happens to the pool in the
    first `quiet` frames, see `risk.liquidation.cross.bounds.quiet_frames`: it is taken up in the
    last of them.

    Returns
    -------
    int
        `DIED`, `COULD_DIE` and `TOUCHED`; 0 where every leg gained its exposure times the move and
        `out` and `status` were left alone.
    """
    now = state.legs
    if survives(pools, k, paths, s, low, high):
        return 0
    open_pool(pools, k, state)
    first, end = pools.start[k], pools.start[k + 1]
    for i in range(first, end):
        out[i, :] = 0.0
        status[i] = SURVIVED
    could, n_frames = False, paths.low.shape[1]
    for f in range(max(quiet - 1, 0), n_frames):
        worst = corner(pools, k, state, paths, s, f)
        if worst == LIVES:
            aim(pools, k, state, paths.last[s, f], paths.ride, state_at(paths, f, AT_LAST), s)
            arrive(pools, k, state)
        else:
            could |= worst == FAILS
            if is_worst:
                died = _worst_frame(pools, k, state, paths, s, f, last, out, status)
            else:
                died = _frame(pools, k, state, paths, s, f, last, out, status)
            if died:
                return DIED | COULD_DIE | TOUCHED
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            if _land(pools, k, state, paths, s, f, g) and _jump(pools, k, state, last, out, status):
                return DIED | COULD_DIE | TOUCHED
        if _turn(pools, k, state, paths, s, f):
            if _jump(pools, k, state, last, out, status):
                return DIED | COULD_DIE | TOUCHED
            _settle(pools, k, state, paths, f)
    touched = False
    for i in range(first, end):
        touched |= status[i] == STOPPED
    if touched:
        aim(pools, k, state, last, paths.ride, state_at(paths, n_frames, AT_LAST), s)
        final = pools.pool[k, CASH]
        for i in range(first, end):
            final += worth(now, i - first, 1.0)
        _share_out(pools, k, state, 1.0, final, 0.0, 0.0, out)
    return (COULD_DIE if could else 0) | (TOUCHED if touched else 0)


@njit
def dies_surely(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, quiet: int = 0
) -> bool:
    """Whether pool `k` dies in scenario `s` however its assets move together inside the frames.

    `quiet` is as for `live`.
    """
    open_pool(pools, k, state)
    n_frames = paths.low.shape[1]
    for f in range(max(quiet - 1, 0), n_frames):
        worst = corner(pools, k, state, paths, s, f)
        if worst != LIVES and must_die(pools, k, state, paths, s, f):
            return True
        aim(pools, k, state, paths.last[s, f], paths.ride, state_at(paths, f, AT_LAST), s)
        if worst != LIVES and is_breached(pools, k, excess(pools, k, state, 1.0)[0]):
            return True
        arrive(pools, k, state)
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            if _land(pools, k, state, paths, s, f, g):
                if is_breached(pools, k, excess(pools, k, state, 1.0)[0]):
                    return True
                arrive(pools, k, state)
        if _turn(pools, k, state, paths, s, f):
            if is_breached(pools, k, excess(pools, k, state, 1.0)[0]):
                return True
            arrive(pools, k, state)
            _settle(pools, k, state, paths, f)
    return False
