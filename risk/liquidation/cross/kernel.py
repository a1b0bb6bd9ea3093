"""The compiled kernel of last resort: account pools through joint paths, one event at a time.

Inside a frame nobody knows when each asset was where. There are two rules. *Worst*: every asset at
its own worse end for the pool at one moment, then every asset at its other end; a pool that any
joint path could kill dies. *Together*: all lows at one moment and all highs at another, the worse
of the two first. Between them prices go on straight lines; then comes the end of the frame. Jumps
land at once and close where they land. `docs/methods/cross_margin.md` has the rules, their bounds
and their errors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.drivers import JointPaths
from risk.liquidation.columns import LIQUIDATED, STOPPED, SURVIVED
from risk.margin.excess import (
    ALPHA,
    ASSET,
    BETA,
    CASH,
    CLOSED,
    CLOSING_FEE,
    COIN,
    COUNTED,
    FEE,
    HERE,
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
    TO_HOLDER,
    Packed,
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

#: What the worst corner of a frame does: breaches the pool, hits a stop, nothing.
_FAILS, _STOPS, _LIVES = 0, 1, 2


@njit
def survives(
    pools: Packed, k: int, state: State, low: np.ndarray, high: np.ndarray
) -> bool:  # fmt: skip
    """Whether pool `k` lives, with no stop hit, wherever its assets are between low and high."""
    return _corner(pools, k, state, low, high) == _LIVES


@njit
def _corner(pools: Packed, k: int, state: State, low: np.ndarray, high: np.ndarray) -> int:
    """What the worst corner between low and high does to pool `k`."""
    legs, kinds, tiers, now = pools.legs, pools.kinds, pools.tiers, state.legs
    total, i, end, first = pools.pool[k, CASH], pools.start[k], pools.start[k + 1], pools.start[k]
    stopped = False
    while i < end:
        a = kinds[i, ASSET]
        down, up = low[a], high[a]
        at_low, at_high = 0.0, 0.0
        while i < end and kinds[i, ASSET] == a:
            j = i - first
            at_low += legs[i, COUNTED] * (now[j, NOW_ALPHA] + now[j, NOW_BETA] * down)
            at_high += legs[i, COUNTED] * (now[j, NOW_ALPHA] + now[j, NOW_BETA] * up)
            if now[j, IS_OPEN] != 0.0:
                stopped |= legs[i, STOP] <= (-down if kinds[i, SIDE] == 0 else up)
                at_low -= requirement(legs, kinds, tiers, i, down)[0]
                at_high -= requirement(legs, kinds, tiers, i, up)[0]
            i += 1
        total += min(at_low, at_high)
    return _FAILS if total <= 0.0 else _STOPS if stopped else _LIVES


class Slopes(NamedTuple):
    """Straight lines below what each pool has left over, one pair per pool and asset it is in."""

    start: np.ndarray  # (pool + 1,) into the rows
    left: np.ndarray  # (pool,) at the mark
    asset: np.ndarray  # (row,)
    lines: np.ndarray  # (row, column): change per unit of fall and of rise, nearest stops


#: The lines hold from here to there.
_LEAST, _MOST = 0.5, 2.0


def find_slopes(pools: Packed) -> Slopes:
    """Chords of the concave excess: they tell most pools apart that no price can reach."""
    asset = pools.kinds[:, ASSET]
    pool = np.repeat(np.arange(len(pools.start) - 1), np.diff(pools.start))
    key = pool * (int(asset.max(initial=0)) + 1) + asset  # legs are sorted by pool and asset
    _, first = np.unique(key, return_index=True)
    start = np.searchsorted(pool[first], np.arange(len(pools.start)))
    left, lines = pools.pool[:, CASH].copy(), np.zeros((len(first), 4))
    _draw_lines(pools, np.append(first, len(key)), start, left, lines)
    return Slopes(start.astype("i8"), left, asset[first], lines)


@njit
def _draw_lines(
    pools: Packed, first: np.ndarray, start: np.ndarray, left: np.ndarray, lines: np.ndarray
) -> None:
    legs, kinds, tiers = pools.legs, pools.kinds, pools.tiers
    for k in range(len(left)):
        for r in range(start[k], start[k + 1]):
            at = np.zeros(3)
            lines[r, 2], lines[r, 3] = 0.0, np.inf
            for i in range(first[r], first[r + 1]):
                for n, x in enumerate((_LEAST, 1.0, _MOST)):
                    at[n] += legs[i, COUNTED] * (legs[i, ALPHA] + legs[i, BETA] * x)
                    if legs[i, SIZE] > 0.0:
                        at[n] -= requirement(legs, kinds, tiers, i, x)[0]
                if kinds[i, SIDE] == 0:
                    lines[r, 2] = max(lines[r, 2], -legs[i, STOP])
                else:
                    lines[r, 3] = min(lines[r, 3], legs[i, STOP])
            left[k] += at[1]
            lines[r, 0] = (at[0] - at[1]) / (1.0 - _LEAST)
            lines[r, 1] = (at[2] - at[1]) / (_MOST - 1.0)


@njit
def is_far(slopes: Slopes, k: int, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether the lines alone show that pool `k` lives, with no stop hit."""
    asset, lines, total = slopes.asset, slopes.lines, slopes.left[k]
    for r in range(slopes.start[k], slopes.start[k + 1]):
        down, up = low[asset[r]], high[asset[r]]
        if down < _LEAST or up > _MOST or down <= lines[r, 2] or up >= lines[r, 3]:
            return False
        total += min(0.0, min((1.0 - down) * lines[r, 0], (up - 1.0) * lines[r, 1]))
    return total > 0.0


@njit
def _must_die(pools: Packed, k: int, state: State, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether pool `k` dies on every joint path that visits each asset's low and high.

    When one asset is at its worse end, the others help as much as they ever can. Stops are left
    out.
    """
    kinds = pools.kinds
    first, end = pools.start[k], pools.start[k + 1]
    best = pools.pool[k, CASH]
    for i in range(first, end):
        best += _helps(pools, state, i, i - first, low, high)
    i = first
    while i < end:
        a = kinds[i, ASSET]
        at_low, at_high, help_ = 0.0, 0.0, 0.0
        while i < end and kinds[i, ASSET] == a:
            j = i - first
            at_low += _left(pools, state, i, j, low[a])
            at_high += _left(pools, state, i, j, high[a])
            help_ += _helps(pools, state, i, j, low, high)
            i += 1
        if is_breached(pools, k, best - help_ + min(at_low, at_high)):
            return True
    return False


@njit
def _left(pools: Packed, state: State, i: int, j: int, x: float) -> float:
    legs, kinds, tiers, now = pools.legs, pools.kinds, pools.tiers, state.legs
    value = legs[i, COUNTED] * (now[j, NOW_ALPHA] + now[j, NOW_BETA] * x)
    return value - requirement(legs, kinds, tiers, i, x)[0] if now[j, IS_OPEN] != 0.0 else value


@njit
def _helps(
    pools: Packed, state: State, i: int, j: int, low: np.ndarray, high: np.ndarray
) -> float:  # fmt: skip
    kinds = pools.kinds
    a = kinds[i, ASSET]
    return max(_left(pools, state, i, j, low[a]), _left(pools, state, i, j, high[a]))


@njit
def _close(
    pools: Packed, k: int, state: State, there: np.ndarray, t: float, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> None:  # fmt: skip
    """Liquidate everything that is open, and settle the pool.

    Market costs come first, then the venue's fee, which never makes a deficit, then the holder or
    the fund; a fund takes no more than the test counted. What the holder keeps stays in the
    currencies it lies in, and moves with them.
    """
    legs, kinds, now, coin = pools.legs, pools.kinds, state.legs, state.places[COIN]
    first, end, here = pools.start[k], pools.start[k + 1], state.places[HERE]
    worth, counted, fees = pools.pool[k, CASH], pools.pool[k, CASH], 0.0
    dollars = pools.pool[k, CASH]
    for i in range(first, end):
        j, a = i - first, kinds[i, ASSET]
        x = along(here[a], there[a], t)
        value = now[j, NOW_ALPHA] + now[j, NOW_BETA] * x
        cost = 0.0
        if now[j, IS_OPEN] != 0.0:
            size = legs[i, SIZE] * (1.0 if kinds[i, INVERSE] != 0 else x)
            cost = legs[i, CLOSING_FEE] * size
            fees += legs[i, FEE] * size
            now[j, PAID] += cost
            now[j, CLOSED] = size
            status[i] = LIQUIDATED
        worth += value - cost
        counted += legs[i, COUNTED] * value - cost
        if kinds[i, INVERSE] != 0:
            coin[a] += value - cost
        else:
            dollars += value - cost
    short, venue = max(-worth, 0.0), 0.0
    if worth > 0.0:
        is_returned = pools.pool[k, TO_HOLDER] != 0.0
        venue = min(fees if is_returned else max(counted, 0.0), worth)
    kept, base = max(dollars, 0.0), max(dollars, 0.0)
    for i in range(first, end):
        a = kinds[i, ASSET]
        if coin[a] > 0.0:
            base += coin[a]
            kept += coin[a] * (last[a] / along(here[a], there[a], t))
        coin[a] = 0.0
    left = max(worth, 0.0) - venue
    final = left * (kept / base) if base > 0.0 else 0.0
    _share_out(pools, k, state, there, t, final, venue, short, out)


@njit
def _share_out(
    pools: Packed, k: int, state: State, there: np.ndarray, t: float, final: float, venue: float,
    short: float, out: np.ndarray,
) -> None:  # fmt: skip
    """Give every position its own gain and its share of what belongs to the whole pool."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    first, end, here = pools.start[k], pools.start[k + 1], state.places[HERE]
    rest = final - pools.pool[k, CASH]
    for i in range(first, end):
        j = i - first
        begun = legs[i, ALPHA] + legs[i, BETA]
        rest -= begun
        if kinds[i, ROW] < 0:
            continue
        x = along(here[kinds[i, ASSET]], there[kinds[i, ASSET]], t)
        own = now[j, NOW_ALPHA] + now[j, NOW_BETA] * x - begun
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
    pools: Packed, k: int, state: State, i: int, x: float, status: np.ndarray
) -> None:  # fmt: skip
    """Close position `i` by its stop; what it is worth stays in the pool."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    j = i - pools.start[k]
    cost = legs[i, CLOSING_FEE] * legs[i, SIZE] * (1.0 if kinds[i, INVERSE] != 0 else x)
    worth = now[j, NOW_ALPHA] + now[j, NOW_BETA] * x - cost
    now[j, NOW_ALPHA] = 0.0 if kinds[i, INVERSE] != 0 else worth
    now[j, NOW_BETA] = worth / x if kinds[i, INVERSE] != 0 else 0.0
    now[j, IS_OPEN], now[j, PAID], status[i] = 0.0, cost, STOPPED


@njit
def _drift(
    pools: Packed, k: int, state: State, there: np.ndarray, last: np.ndarray, out: np.ndarray,
    status: np.ndarray,
) -> bool:  # fmt: skip
    """Move every asset to `there` on a straight line; whether the pool is liquidated on the way."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    here, first, end = state.places[HERE], pools.start[k], pools.start[k + 1]
    begin = 0.0
    while True:
        to, who = 1.0, -1
        for i in range(first, end):
            a = kinds[i, ASSET]
            if now[i - first, IS_OPEN] == 0.0 or legs[i, STOP] == np.inf:
                continue
            sign = -1.0 if kinds[i, SIDE] == 0 else 1.0
            if sign * there[a] >= legs[i, STOP]:
                way = sign * (there[a] - here[a])
                t = (legs[i, STOP] - sign * here[a]) / way if way > 0.0 else begin
                t = min(max(t, begin), 1.0)
                if who < 0 or t < to:
                    to, who = t, i
        if is_breached(pools, k, excess(pools, k, state, there, to)[0]):
            t = find_breach(pools, k, state, there, begin, to)
            _close(pools, k, state, there, t, last, out, status)
            return True
        if who < 0:
            break
        _fire(pools, k, state, who, abs(legs[who, STOP]), status)
        begin = to
        if is_breached(pools, k, excess(pools, k, state, there, begin)[0]):
            _close(pools, k, state, there, begin, last, out, status)
            return True
    _go(pools, k, state, there)
    return False


@njit
def _jump(
    pools: Packed, k: int, state: State, there: np.ndarray, last: np.ndarray, out: np.ndarray,
    status: np.ndarray,
) -> bool:  # fmt: skip
    """Land every asset at `there`; whether the pool is liquidated there."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    if not is_breached(pools, k, excess(pools, k, state, there, 1.0)[0]):
        fired = False
        for i in range(pools.start[k], pools.start[k + 1]):
            x = there[kinds[i, ASSET]]
            u = -x if kinds[i, SIDE] == 0 else x
            if now[i - pools.start[k], IS_OPEN] != 0.0 and legs[i, STOP] <= u:
                _fire(pools, k, state, i, x, status)
                fired = True
        _go(pools, k, state, there)
        if not (fired and is_breached(pools, k, excess(pools, k, state, there, 1.0)[0])):
            return False
    _close(pools, k, state, there, 1.0, last, out, status)
    return True


@njit
def _go(pools: Packed, k: int, state: State, there: np.ndarray) -> None:
    kinds, here = pools.kinds, state.places[HERE]
    for i in range(pools.start[k], pools.start[k + 1]):
        here[kinds[i, ASSET]] = there[kinds[i, ASSET]]


@njit
def _frame(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> bool:  # fmt: skip
    """One frame by the rule; whether the pool is liquidated in it."""
    low, high = paths.low[s, f], paths.high[s, f]
    at_low = excess(pools, k, state, low, 1.0)[0]
    at_high = excess(pools, k, state, high, 1.0)[0]
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


@njit
def _worst_frame(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int, last: np.ndarray,
    out: np.ndarray, status: np.ndarray,
) -> bool:  # fmt: skip
    """One frame with every asset at its worse end at once; whether the pool is liquidated in it."""
    kinds = pools.kinds
    low, high, there = paths.low[s, f], paths.high[s, f], state.places[THERE]
    first, end = pools.start[k], pools.start[k + 1]
    _find_worse(pools, k, state, low, high)
    most = max(paths.falls.shape[1], paths.rises.shape[1])
    for turn in range(2):
        for g in range(most):
            for landing in range(2):
                for i in range(first, end):
                    a = kinds[i, ASSET]
                    is_low = (state.places[IS_LOW, a] != 0.0) == (turn == 0)
                    points = paths.falls if is_low else paths.rises
                    n = points.shape[1]
                    # Fewer gaps than others come last; until then the asset waits at its first.
                    if n == 0:
                        there[a] = low[a] if is_low else high[a]
                    elif g < most - n:
                        there[a] = points[0, 0, s, f, a]
                    else:
                        there[a] = points[landing, g - (most - n), s, f, a]
                if landing == 0 and _drift(pools, k, state, there, last, out, status):
                    return True
                if landing == 1 and _jump(pools, k, state, there, last, out, status):
                    return True
        for i in range(first, end):
            a = kinds[i, ASSET]
            is_low = (state.places[IS_LOW, a] != 0.0) == (turn == 0)
            there[a] = low[a] if is_low else high[a]
        if _drift(pools, k, state, there, last, out, status):
            return True
    return _drift(pools, k, state, paths.last[s, f], last, out, status)


@njit
def _find_worse(pools: Packed, k: int, state: State, low: np.ndarray, high: np.ndarray) -> None:
    """Mark the assets that leave pool `k` less at their low than at their high."""
    kinds, first, end = pools.kinds, pools.start[k], pools.start[k + 1]
    i = first
    while i < end:
        a, more = kinds[i, ASSET], 0.0
        while i < end and kinds[i, ASSET] == a:
            more += _left(pools, state, i, i - first, high[a])
            more -= _left(pools, state, i, i - first, low[a])
            i += 1
        state.places[IS_LOW, a] = 1.0 if more >= 0.0 else 0.0


@njit
def _land(pools: Packed, k: int, state: State, paths: JointPaths, g: int) -> bool:
    """Put where jump `g` takes the pool's assets into `there`; whether it moves any of them."""
    kinds = pools.kinds
    here, there = state.places[HERE], state.places[THERE]
    moved = False
    for i in range(pools.start[k], pools.start[k + 1]):
        a = kinds[i, ASSET]
        if i > pools.start[k] and kinds[i - 1, ASSET] == a:
            continue
        there[a] = here[a]
        low, high = paths.jump_start[g], paths.jump_start[g + 1]
        while low < high:
            middle = (low + high) >> 1
            if paths.jump_asset[middle] < a:
                low = middle + 1
            else:
                high = middle
        if low < paths.jump_start[g + 1] and paths.jump_asset[low] == a:
            there[a] = paths.jump_to[low]
            moved = True
    return moved


@njit
def live(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, low: np.ndarray,
    high: np.ndarray, last: np.ndarray, out: np.ndarray, status: np.ndarray, is_worst: bool,
) -> int:  # fmt: skip
    """Live pool `k` through scenario `s`, whose day has these extremes and this end (asset,).

    `is_worst` says which rule orders the prices inside a frame.

    Returns
    -------
    int
        `DIED`, `COULD_DIE` and `TOUCHED`; 0 where every leg gained its exposure times the move and
        `out` and `status` were left alone.
    """
    kinds, now = pools.kinds, state.legs
    open_pool(pools, k, state)
    if survives(pools, k, state, low, high):
        return 0
    first, end = pools.start[k], pools.start[k + 1]
    for i in range(first, end):
        out[i, :] = 0.0
        status[i] = SURVIVED
    could, n_frames = False, paths.low.shape[1]
    for f in range(n_frames):
        corner = _corner(pools, k, state, paths.low[s, f], paths.high[s, f])
        if corner == _LIVES:
            _go(pools, k, state, paths.last[s, f])
        else:
            could |= corner == _FAILS
            if is_worst:
                died = _worst_frame(pools, k, state, paths, s, f, last, out, status)
            else:
                died = _frame(pools, k, state, paths, s, f, last, out, status)
            if died:
                return DIED | COULD_DIE | TOUCHED
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            if _land(pools, k, state, paths, g) and _jump(
                pools, k, state, state.places[THERE], last, out, status
            ):
                return DIED | COULD_DIE | TOUCHED
    touched = False
    for i in range(first, end):
        touched |= status[i] == STOPPED
    if touched:
        final = pools.pool[k, CASH]
        for i in range(first, end):
            final += now[i - first, NOW_ALPHA] + now[i - first, NOW_BETA] * last[kinds[i, ASSET]]
        _share_out(pools, k, state, last, 1.0, final, 0.0, 0.0, out)
    return (COULD_DIE if could else 0) | (TOUCHED if touched else 0)


@njit
def dies_surely(pools: Packed, k: int, state: State, paths: JointPaths, s: int) -> bool:
    """Whether pool `k` dies in scenario `s` however its assets move together inside the frames."""
    open_pool(pools, k, state)
    n_frames = paths.low.shape[1]
    for f in range(n_frames):
        low, high, last = paths.low[s, f], paths.high[s, f], paths.last[s, f]
        if not survives(pools, k, state, low, high) and (
            _must_die(pools, k, state, low, high)
            or is_breached(pools, k, excess(pools, k, state, last, 1.0)[0])
        ):
            return True
        _go(pools, k, state, last)
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            if _land(pools, k, state, paths, g):
                left = excess(pools, k, state, state.places[THERE], 1.0)[0]
                if is_breached(pools, k, left):
                    return True
                _go(pools, k, state, state.places[THERE])
    return False
