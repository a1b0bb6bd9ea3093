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
from risk.liquidation.columns import STOPPED, SURVIVED
from risk.liquidation.cross.bounds import (
    FAILS,
    LIVES,
    corner,
    rides,
    state_at,
    survives,
)
from risk.liquidation.cross.settling import close_pool, fire_stop, settle_ended, share_out
from risk.margin.excess import (
    ASSET,
    CASH,
    HERE,
    HERE_MARK,
    IS_LOW,
    IS_OPEN,
    SIDE,
    STOP,
    THERE_MARK,
    Packed,
    State,
    aim,
    aim_leg,
    arrive,
    excess,
    find_breach,
    is_breached,
    left_there,
    open_pool,
    worth,
)

#: Bits of what `live` returns: the pool was liquidated by the rule, could have been by the prices
#: alone, and some leg has a result that is not its exposure times the move.
DIED, COULD_DIE, TOUCHED = 1, 2, 4


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
        left = excess(pools, k, state, to)[0] if to < 1.0 else left_there(pools, k, state)
        if is_breached(pools, k, left):
            t = find_breach(pools, k, state, begin, to)
            close_pool(pools, k, state, t, last, out, status)
            return True
        if who < 0:
            break
        fire_stop(pools, k, state, who, to, False, status)
        begin = to
        if is_breached(pools, k, excess(pools, k, state, begin)[0]):
            close_pool(pools, k, state, begin, last, out, status)
            return True
    arrive(pools, k, state)
    return False


@njit
def _jump(
    pools: Packed, k: int, state: State, last: np.ndarray, out: np.ndarray, status: np.ndarray
) -> bool:  # fmt: skip
    """Land where the pool aims, at once; whether it is liquidated there."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    if not is_breached(pools, k, left_there(pools, k, state)):
        fired = False
        for i in range(pools.start[k], pools.start[k + 1]):
            j = i - pools.start[k]
            x = now[j, THERE_MARK]
            u = -x if kinds[i, SIDE] == 0 else x
            if now[j, IS_OPEN] != 0.0 and legs[i, STOP] <= u:
                fire_stop(pools, k, state, i, 1.0, True, status)
                fired = True
        arrive(pools, k, state)
        if not (fired and is_breached(pools, k, left_there(pools, k, state))):
            return False
    close_pool(pools, k, state, 1.0, last, out, status)
    return True


@njit
def turn(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int
) -> bool:  # fmt: skip
    """Aim at what the instruments do after frame `f`; whether they do anything to this pool."""
    n = len(paths.ride_state)
    if n == 0 or paths.ride_state[f + 1] == paths.ride_state[f] or not rides(pools, k):
        return False
    aim(pools, k, state, state.places[HERE], paths.ride, paths.ride_state[f + 1], s)
    return True


@njit
def _frame(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> bool:  # fmt: skip
    """One frame by the rule; whether the pool is liquidated in it."""
    low, high, ride, states = paths.low[s, f], paths.high[s, f], paths.ride, paths.ride_state
    aim(pools, k, state, low, ride, state_at(states, f, AT_LOW), s)
    at_low = left_there(pools, k, state)
    aim(pools, k, state, high, ride, state_at(states, f, AT_HIGH), s)
    at_high = left_there(pools, k, state)
    for turn in range(2):
        if (turn == 0) == (at_low <= at_high):
            points, extreme, at, gaps = paths.falls, low, AT_LOW, AT_GAPS
        else:
            points, extreme, at = paths.rises, high, AT_HIGH
            gaps = AT_GAPS + 2 * paths.falls.shape[1]
        for g in range(points.shape[1]):
            before = state_at(states, f, gaps + 2 * g)
            landing = state_at(states, f, gaps + 2 * g + 1)
            aim(pools, k, state, points[0, g, s, f], ride, before, s)
            if _drift(pools, k, state, last, out, status):
                return True
            aim(pools, k, state, points[1, g, s, f], ride, landing, s)
            if _jump(pools, k, state, last, out, status):
                return True
        aim(pools, k, state, extreme, ride, state_at(states, f, at), s)
        if _drift(pools, k, state, last, out, status):
            return True
    aim(pools, k, state, paths.last[s, f], ride, state_at(states, f, AT_LAST), s)
    return _drift(pools, k, state, last, out, status)


@njit
def _worst_frame(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> bool:  # fmt: skip
    """One frame with every asset at its worse end at once; whether the pool is liquidated in it.

    `corner` has just seen it.
    """
    kinds, now, places, ride, states = (
        pools.kinds, state.legs, state.places, paths.ride, paths.ride_state,
    )  # fmt: skip
    low, high = paths.low[s, f], paths.high[s, f]
    first, end = pools.start[k], pools.start[k + 1]
    most = max(paths.falls.shape[1], paths.rises.shape[1])
    for turn in range(2):
        for g in range(most):
            for landing in range(2):
                for i in range(first, end):
                    a = kinds[i, ASSET]
                    is_low = (places[IS_LOW, a] != 0.0) == (turn == 0)
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
                    at = state_at(states, f, at)
                    aim_leg(kinds, i, now, i - first, places, x, ride, at, s)
                if landing == 0 and _drift(pools, k, state, last, out, status):
                    return True
                if landing == 1 and _jump(pools, k, state, last, out, status):
                    return True
        for i in range(first, end):
            a = kinds[i, ASSET]
            is_low = (places[IS_LOW, a] != 0.0) == (turn == 0)
            x, at = (low[a], AT_LOW) if is_low else (high[a], AT_HIGH)
            at = state_at(states, f, at)
            aim_leg(kinds, i, now, i - first, places, x, ride, at, s)
        if _drift(pools, k, state, last, out, status):
            return True
    aim(pools, k, state, paths.last[s, f], paths.ride, state_at(paths.ride_state, f, AT_LAST), s)
    return _drift(pools, k, state, last, out, status)


@njit
def land(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, at: int, g: int
) -> bool:  # fmt: skip
    """Aim at where jump `g` lands, instruments in state `at`; whether it moves the pool."""
    kinds, now, places, first = pools.kinds, state.legs, state.places, pools.start[k]
    x, moved = 0.0, False
    for i in range(first, pools.start[k + 1]):
        a = kinds[i, ASSET]
        if i == first or kinds[i - 1, ASSET] != a:
            x = places[HERE, a]
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
        aim_leg(kinds, i, now, i - first, places, x, paths.ride, at, s)
    return moved


@njit
def take_up(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int
) -> None:  # fmt: skip
    """Begin pool `k` where frame `f` of scenario `s` begins: nothing has happened to it before."""
    open_pool(pools, k, state)
    if f == 0:
        return
    at = state_at(paths.ride_state, f, AT_LAST)
    aim(pools, k, state, paths.last[s, f - 1], paths.ride, at, s)
    arrive(pools, k, state)
    place = s * paths.low.shape[1] + f - 1
    for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
        if land(pools, k, state, paths, s, at, g):
            arrive(pools, k, state)


@njit
def live(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, low: np.ndarray,
    high: np.ndarray, last: np.ndarray, out: np.ndarray, status: np.ndarray, is_worst: bool,
    quiet: int,
) -> int:  # fmt: skip
    """Live pool `k` through scenario `s`, whose day has these extremes and this end (asset,).

    `is_worst` says which rule orders the prices inside a frame. Nothing happens to the pool in the
    first `quiet` frames, see `risk.liquidation.cross.reach.quiet_frames`: it is taken up after
    them.

    Returns
    -------
    int
        `DIED`, `COULD_DIE` and `TOUCHED`; 0 where every leg gained its exposure times the move and
        `out` and `status` were left alone.
    """
    if quiet == 0 and survives(pools, k, paths, s, low, high):
        return 0
    take_up(pools, k, state, paths, s, quiet)
    first, end = pools.start[k], pools.start[k + 1]
    for i in range(first, end):
        for column in range(out.shape[1]):
            out[i, column] = 0.0
        status[i] = SURVIVED
    could, n_frames = False, paths.low.shape[1]
    for f in range(quiet, n_frames):
        worst, at = corner(pools, k, state, paths, s, f), state_at(paths.ride_state, f, AT_LAST)
        if worst == LIVES:
            aim(pools, k, state, paths.last[s, f], paths.ride, at, s)
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
            if not land(pools, k, state, paths, s, at, g):
                continue
            if _jump(pools, k, state, last, out, status):
                return DIED | COULD_DIE | TOUCHED
        if turn(pools, k, state, paths, s, f):
            if _jump(pools, k, state, last, out, status):
                return DIED | COULD_DIE | TOUCHED
            settle_ended(pools, k, state, paths, f)
    touched = False
    for i in range(first, end):
        touched |= status[i] == STOPPED
    if touched:
        at = state_at(paths.ride_state, n_frames, AT_LAST)
        aim(pools, k, state, last, paths.ride, at, s)
        final = pools.pool[k, CASH]
        for i in range(first, end):
            final += worth(state.legs, i - first, 1.0)
        share_out(pools, k, state, 1.0, final, 0.0, 0.0, out)
    return (COULD_DIE if could else 0) | (TOUCHED if touched else 0)
