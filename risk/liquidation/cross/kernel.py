"""The compiled kernel of last resort: account pools through joint paths, one event at a time.

Inside a frame nobody knows when each asset was where. The rule is *together*: all lows at one
moment and all highs at another, the worse of the two first, on straight lines between; then the
end of the frame. Jumps land at once and close where they land. `docs/methods/cross_margin.md` has
the rule, its bounds and its errors.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from risk.drivers import JointPaths
from risk.liquidation.columns import LIQUIDATED, STOPPED, SURVIVED
from risk.margin.pools import (
    Pools,
    State,
    along,
    excess,
    find_breach,
    is_breached,
    open_pool,
    requirement,
)

# Columns of `out` (leg, column): USD; the P&L at the horizon.
PNL, VENUE, DEFICIT, COST, NOTIONAL = range(5)

#: Bits of what `live` returns: the pool was liquidated by the rule, could have been by the prices
#: alone, and some leg has a result that is not its exposure times the move.
DIED, COULD_DIE, TOUCHED = 1, 2, 4


@njit(cache=True, nogil=True)
def survives(
    pools: Pools, k: int, state: State, low: np.ndarray, high: np.ndarray
) -> bool:  # fmt: skip
    """Whether pool `k` lives, with no stop hit, wherever its assets are between low and high."""
    total, i, end, first = pools.cash[k], pools.start[k], pools.start[k + 1], pools.start[k]
    while i < end:
        a = pools.asset[i]
        down, up = low[a], high[a]
        at_low, at_high = 0.0, 0.0
        while i < end and pools.asset[i] == a:
            j = i - first
            at_low += pools.counted[i] * (state.alpha[j] + state.beta[j] * down)
            at_high += pools.counted[i] * (state.alpha[j] + state.beta[j] * up)
            if state.is_open[j]:
                if pools.stop[i] <= (-down if pools.side[i] == 0 else up):
                    return False
                at_low -= requirement(pools, i, down)[0]
                at_high -= requirement(pools, i, up)[0]
            i += 1
        total += min(at_low, at_high)
    return total > 0.0


@njit(cache=True, nogil=True)
def _must_die(pools: Pools, k: int, state: State, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether pool `k` dies on every joint path that visits each asset's low and high.

    When one asset is at its worse end, the others help as much as they ever can. Stops are left
    out.
    """
    first, end = pools.start[k], pools.start[k + 1]
    best = pools.cash[k]
    for i in range(first, end):
        best += _helps(pools, state, i, i - first, low, high)
    i = first
    while i < end:
        a = pools.asset[i]
        at_low, at_high, help_ = 0.0, 0.0, 0.0
        while i < end and pools.asset[i] == a:
            j = i - first
            at_low += _left(pools, state, i, j, low[a])
            at_high += _left(pools, state, i, j, high[a])
            help_ += _helps(pools, state, i, j, low, high)
            i += 1
        if is_breached(pools, k, best - help_ + min(at_low, at_high)):
            return True
    return False


@njit(cache=True, nogil=True, inline="always")
def _left(pools: Pools, state: State, i: int, j: int, x: float) -> float:
    value = pools.counted[i] * (state.alpha[j] + state.beta[j] * x)
    return value - requirement(pools, i, x)[0] if state.is_open[j] else value


@njit(cache=True, nogil=True, inline="always")
def _helps(
    pools: Pools, state: State, i: int, j: int, low: np.ndarray, high: np.ndarray
) -> float:  # fmt: skip
    a = pools.asset[i]
    return max(_left(pools, state, i, j, low[a]), _left(pools, state, i, j, high[a]))


@njit(cache=True, nogil=True)
def _close(
    pools: Pools, k: int, state: State, there: np.ndarray, t: float, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> None:  # fmt: skip
    """Liquidate everything that is open, and settle the pool.

    Market costs come first, then the venue's fee, which never makes a deficit, then the holder or
    the fund; a fund takes no more than the test counted. What the holder keeps stays in the
    currencies it lies in, and moves with them.
    """
    first, end, here = pools.start[k], pools.start[k + 1], state.here
    worth, counted, fees = pools.cash[k], pools.cash[k], 0.0
    dollars = pools.cash[k]
    for i in range(first, end):
        j, a = i - first, pools.asset[i]
        x = along(here[a], there[a], t)
        value = state.alpha[j] + state.beta[j] * x
        cost = 0.0
        if state.is_open[j]:
            size = pools.notional[i] * (1.0 if pools.inverse[i] else x)
            cost = pools.closing_fee[i] * size
            fees += pools.fee[i] * size
            state.paid[j] += cost
            state.closed[j] = size
            status[i] = LIQUIDATED
        worth += value - cost
        counted += pools.counted[i] * value - cost
        if pools.inverse[i]:
            state.coin[a] += value - cost
        else:
            dollars += value - cost
    short, venue = max(-worth, 0.0), 0.0
    if worth > 0.0:
        venue = min(fees, worth) if pools.to_holder[k] else min(max(counted, 0.0), worth)
    kept, base = max(dollars, 0.0), max(dollars, 0.0)
    for i in range(first, end):
        a = pools.asset[i]
        if state.coin[a] > 0.0:
            base += state.coin[a]
            kept += state.coin[a] * (last[a] / along(here[a], there[a], t))
        state.coin[a] = 0.0
    left = max(worth, 0.0) - venue
    final = left * (kept / base) if base > 0.0 else 0.0
    _share_out(pools, k, state, there, t, final, venue, short, out)


@njit(cache=True, nogil=True)
def _share_out(
    pools: Pools, k: int, state: State, there: np.ndarray, t: float, final: float, venue: float,
    short: float, out: np.ndarray,
) -> None:  # fmt: skip
    """Give every position its own gain and its share of what belongs to the whole pool."""
    first, end, here = pools.start[k], pools.start[k + 1], state.here
    rest = final - pools.cash[k]
    for i in range(first, end):
        j = i - first
        begun = pools.alpha[i] + pools.beta[i]
        rest -= begun
        if pools.row[i] < 0:
            continue
        x = along(here[pools.asset[i]], there[pools.asset[i]], t)
        own = state.alpha[j] + state.beta[j] * x - begun
        own -= state.paid[j] if state.closed[j] > 0.0 else 0.0
        out[i, PNL] = own
        rest -= own
        out[i, COST], out[i, NOTIONAL] = state.paid[j], state.closed[j]
    for i in range(first, end):
        if pools.row[i] >= 0:
            out[i, PNL] += pools.share[i] * rest
            out[i, VENUE] = pools.share[i] * venue
            out[i, DEFICIT] = pools.share[i] * short


@njit(cache=True, nogil=True)
def _fire(
    pools: Pools, k: int, state: State, i: int, x: float, status: np.ndarray
) -> None:  # fmt: skip
    """Close position `i` by its stop; what it is worth stays in the pool."""
    j = i - pools.start[k]
    cost = pools.closing_fee[i] * pools.notional[i] * (1.0 if pools.inverse[i] else x)
    worth = state.alpha[j] + state.beta[j] * x - cost
    state.alpha[j] = 0.0 if pools.inverse[i] else worth
    state.beta[j] = worth / x if pools.inverse[i] else 0.0
    state.is_open[j], state.paid[j], status[i] = False, cost, STOPPED


@njit(cache=True, nogil=True)
def _drift(
    pools: Pools, k: int, state: State, there: np.ndarray, last: np.ndarray, out: np.ndarray,
    status: np.ndarray,
) -> bool:  # fmt: skip
    """Move every asset to `there` on a straight line; whether the pool is liquidated on the way."""
    here, first, end = state.here, pools.start[k], pools.start[k + 1]
    begin = 0.0
    while True:
        to, who = 1.0, -1
        for i in range(first, end):
            a = pools.asset[i]
            if not state.is_open[i - first] or pools.stop[i] == np.inf:
                continue
            sign = -1.0 if pools.side[i] == 0 else 1.0
            if sign * there[a] >= pools.stop[i]:
                way = sign * (there[a] - here[a])
                t = (pools.stop[i] - sign * here[a]) / way if way > 0.0 else begin
                t = min(max(t, begin), 1.0)
                if who < 0 or t < to:
                    to, who = t, i
        if is_breached(pools, k, excess(pools, k, state, here, there, to)[0]):
            t = find_breach(pools, k, state, here, there, begin, to)
            _close(pools, k, state, there, t, last, out, status)
            return True
        if who < 0:
            break
        _fire(pools, k, state, who, abs(pools.stop[who]), status)
        begin = to
        if is_breached(pools, k, excess(pools, k, state, here, there, begin)[0]):
            _close(pools, k, state, there, begin, last, out, status)
            return True
    _go(pools, k, state, there)
    return False


@njit(cache=True, nogil=True)
def _jump(
    pools: Pools, k: int, state: State, there: np.ndarray, last: np.ndarray, out: np.ndarray,
    status: np.ndarray,
) -> bool:  # fmt: skip
    """Land every asset at `there`; whether the pool is liquidated there."""
    here = state.here
    if not is_breached(pools, k, excess(pools, k, state, here, there, 1.0)[0]):
        fired = False
        for i in range(pools.start[k], pools.start[k + 1]):
            x = there[pools.asset[i]]
            u = -x if pools.side[i] == 0 else x
            if state.is_open[i - pools.start[k]] and pools.stop[i] <= u:
                _fire(pools, k, state, i, x, status)
                fired = True
        _go(pools, k, state, there)
        if not (fired and is_breached(pools, k, excess(pools, k, state, here, there, 1.0)[0])):
            return False
    _close(pools, k, state, there, 1.0, last, out, status)
    return True


@njit(cache=True, nogil=True, inline="always")
def _go(pools: Pools, k: int, state: State, there: np.ndarray) -> None:
    for i in range(pools.start[k], pools.start[k + 1]):
        state.here[pools.asset[i]] = there[pools.asset[i]]


@njit(cache=True, nogil=True)
def _frame(
    pools: Pools, k: int, state: State, paths: JointPaths, s: int, f: int, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> bool:  # fmt: skip
    """One frame by the rule; whether the pool is liquidated in it."""
    low, high, here = paths.low[s, f], paths.high[s, f], state.here
    at_low = excess(pools, k, state, here, low, 1.0)[0]
    at_high = excess(pools, k, state, here, high, 1.0)[0]
    for turn in range(2):
        if (turn == 0) == (at_low <= at_high):
            points, extreme = paths.falls, low
        else:
            points, extreme = paths.rises, high
        for g in range(points.shape[1]):
            if _drift(pools, k, state, points[0, g, s, f], last, out, status):
                return True
            if _jump(pools, k, state, points[1, g, s, f], last, out, status):
                return True
        if _drift(pools, k, state, extreme, last, out, status):
            return True
    return _drift(pools, k, state, paths.last[s, f], last, out, status)


@njit(cache=True, nogil=True)
def _land(pools: Pools, k: int, state: State, paths: JointPaths, g: int) -> bool:
    """Put where jump `g` takes the pool's assets into `there`; whether it moves any of them."""
    moved = False
    for i in range(pools.start[k], pools.start[k + 1]):
        a = pools.asset[i]
        if i > pools.start[k] and pools.asset[i - 1] == a:
            continue
        state.there[a] = state.here[a]
        low, high = paths.jump_start[g], paths.jump_start[g + 1]
        while low < high:
            middle = (low + high) >> 1
            if paths.jump_asset[middle] < a:
                low = middle + 1
            else:
                high = middle
        if low < paths.jump_start[g + 1] and paths.jump_asset[low] == a:
            state.there[a] = paths.jump_to[low]
            moved = True
    return moved


@njit(cache=True, nogil=True)
def live(
    pools: Pools, k: int, state: State, paths: JointPaths, s: int, low: np.ndarray,
    high: np.ndarray, last: np.ndarray, out: np.ndarray, status: np.ndarray,
) -> int:  # fmt: skip
    """Live pool `k` through scenario `s`, whose day has these extremes and this end (asset,).

    Returns
    -------
    int
        `DIED`, `COULD_DIE` and `TOUCHED`; 0 where every leg gained its exposure times the move and
        `out` and `status` were left alone.
    """
    open_pool(pools, k, state)
    if survives(pools, k, state, low, high):
        return 0
    first, end = pools.start[k], pools.start[k + 1]
    for i in range(first, end):
        out[i, :] = 0.0
        status[i] = SURVIVED
    could, n_frames = False, paths.low.shape[1]
    for f in range(n_frames):
        if survives(pools, k, state, paths.low[s, f], paths.high[s, f]):
            _go(pools, k, state, paths.last[s, f])
        else:
            could = True
            if _frame(pools, k, state, paths, s, f, last, out, status):
                return DIED | COULD_DIE | TOUCHED
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            if _land(pools, k, state, paths, g) and _jump(
                pools, k, state, state.there, last, out, status
            ):
                return DIED | COULD_DIE | TOUCHED
    touched = False
    for i in range(first, end):
        touched |= status[i] == STOPPED
    if touched:
        final = pools.cash[k]
        for i in range(first, end):
            final += state.alpha[i - first] + state.beta[i - first] * last[pools.asset[i]]
        _share_out(pools, k, state, last, 1.0, final, 0.0, 0.0, out)
    return (COULD_DIE if could else 0) | (TOUCHED if touched else 0)


@njit(cache=True, nogil=True)
def dies_surely(pools: Pools, k: int, state: State, paths: JointPaths, s: int) -> bool:
    """Whether pool `k` dies in scenario `s` however its assets move together inside the frames."""
    open_pool(pools, k, state)
    n_frames = paths.low.shape[1]
    for f in range(n_frames):
        low, high, last = paths.low[s, f], paths.high[s, f], paths.last[s, f]
        if not survives(pools, k, state, low, high) and (
            _must_die(pools, k, state, low, high)
            or is_breached(pools, k, excess(pools, k, state, state.here, last, 1.0)[0])
        ):
            return True
        _go(pools, k, state, last)
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            if _land(pools, k, state, paths, g):
                left = excess(pools, k, state, state.here, state.there, 1.0)[0]
                if is_breached(pools, k, left):
                    return True
                _go(pools, k, state, state.there)
    return False
