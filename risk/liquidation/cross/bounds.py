"""Bounds: which pools no price of a scenario or a frame can reach, and which must die.

They only save work, and count: what happens to a pool that may be reached is for the kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.drivers import AT_HIGH, AT_LOW, JointPaths
from risk.margin.excess import (
    ALPHA,
    ASSET,
    BETA,
    CASH,
    COUNTED,
    DRIVER,
    INVERSE,
    IS_OPEN,
    NOW_ALPHA,
    NOW_BETA,
    RATE,
    SIDE,
    SIZE,
    STOP,
    TABLE,
    TEST_FEE,
    Packed,
    State,
    coordinates,
    is_breached,
    requirement,
    requirement_of,
)

#: What the worst corner of a frame does: breaches the pool, hits a stop (or nobody knows), nothing.
FAILS, STOPS, LIVES = 0, 1, 2


@njit
def state_at(paths: JointPaths, f: int, point: int) -> int:
    """State of the instruments in frame `f`, of a bar at one of its points."""
    return paths.ride_state[f] if len(paths.ride_state) else point


@njit
def rides(pools: Packed, k: int) -> bool:
    """Whether a leg of pool `k` follows an instrument."""
    for i in range(pools.start[k], pools.start[k + 1]):
        if pools.kinds[i, DRIVER] != pools.kinds[i, ASSET]:
            return True
    return False


@njit
def _pull(
    legs: np.ndarray, kinds: np.ndarray, tiers: np.ndarray, i: int, most: np.ndarray, s: int,
    n_assets: int, low: float, high: float,
) -> float:  # fmt: skip
    """What its instrument can take from leg `i` in scenario `s` between low and high, USD.

    Infinite where its mark might reach its stop.
    """
    r = kinds[i, DRIVER] - n_assets
    factor, paid, owed, least = most[s, r, 0], most[s, r, 1], most[s, r, 2], most[s, r, 3]
    if legs[i, STOP] <= (-low * (1.0 - factor) if kinds[i, SIDE] == 0 else high * (1.0 + factor)):
        return np.inf
    rate = tiers[kinds[i, TABLE], tiers.shape[1] - 1, RATE] + legs[i, TEST_FEE]
    if kinds[i, INVERSE] != 0:
        value = abs(legs[i, ALPHA]) * (factor + owed * high) / least
        return value + rate * legs[i, SIZE] * factor / least
    value = abs(legs[i, BETA]) * (factor * high + paid)
    return value + rate * legs[i, SIZE] * factor * high


@njit
def survives(
    pools: Packed, k: int, paths: JointPaths, s: int, low: np.ndarray, high: np.ndarray
) -> bool:  # fmt: skip
    """Whether pool `k` lives, with no stop hit, wherever its assets are between low and high.

    Nothing has happened to it yet.
    """
    legs, kinds, tiers = pools.legs, pools.kinds, pools.tiers
    most, n_assets = paths.ride_most, paths.low.shape[2]
    total, i, end = pools.pool[k, CASH], pools.start[k], pools.start[k + 1]
    while i < end:
        a = kinds[i, ASSET]
        down, up = low[a], high[a]
        at_low, at_high, pull = 0.0, 0.0, 0.0
        while i < end and kinds[i, ASSET] == a:
            at_low += legs[i, COUNTED] * (legs[i, ALPHA] + legs[i, BETA] * down)
            at_high += legs[i, COUNTED] * (legs[i, ALPHA] + legs[i, BETA] * up)
            if legs[i, SIZE] > 0.0:
                if legs[i, STOP] <= (-down if kinds[i, SIDE] == 0 else up):
                    return False
                at_low -= requirement(legs, kinds, tiers, i, down)[0]
                at_high -= requirement(legs, kinds, tiers, i, up)[0]
                if kinds[i, DRIVER] != a:
                    pull += _pull(legs, kinds, tiers, i, most, s, n_assets, down, up)
            i += 1
        total += min(at_low, at_high) - pull
    return total > 0.0


@njit
def corner(pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int) -> int:
    """What the worst corner of a frame does to pool `k`; of a bar with instruments unknown."""
    if len(paths.ride_state) == 0 and rides(pools, k):
        return STOPS  # what it does between the corners differs from leg to leg
    legs, kinds, tiers, now = pools.legs, pools.kinds, pools.tiers, state.legs
    ride, n_assets = paths.ride, paths.low.shape[2]
    total, i, end, first = pools.pool[k, CASH], pools.start[k], pools.start[k + 1], pools.start[k]
    stopped = False
    low, high, at = paths.low[s, f], paths.high[s, f], state_at(paths, f, AT_LOW)
    while i < end:
        a = kinds[i, ASSET]
        at_low, at_high = 0.0, 0.0
        while i < end and kinds[i, ASSET] == a:
            j = i - first
            # Few arguments: handing whole records over for every leg would cost more than the sums.
            down, low_mark = _left(legs, kinds, tiers, now, i, j, low[a], ride, at, s, n_assets)
            up, high_mark = _left(legs, kinds, tiers, now, i, j, high[a], ride, at, s, n_assets)
            at_low += down
            at_high += up
            if now[j, IS_OPEN] != 0.0:
                stopped |= legs[i, STOP] <= (-low_mark if kinds[i, SIDE] == 0 else high_mark)
            i += 1
        total += min(at_low, at_high)
    return FAILS if total <= 0.0 else STOPS if stopped else LIVES


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
def is_far(
    slopes: Slopes, pools: Packed, k: int, paths: JointPaths, s: int, low: np.ndarray,
    high: np.ndarray,
) -> bool:  # fmt: skip
    """Whether the lines alone show that pool `k` lives, with no stop hit."""
    asset, lines, total, kinds = slopes.asset, slopes.lines, slopes.left[k], pools.kinds
    for r in range(slopes.start[k], slopes.start[k + 1]):
        down, up = low[asset[r]], high[asset[r]]
        if down < _LEAST or up > _MOST or down <= lines[r, 2] or up >= lines[r, 3]:
            return False
        total += min(0.0, min((1.0 - down) * lines[r, 0], (up - 1.0) * lines[r, 1]))
    if total <= 0.0:
        return False
    legs, tiers, most, n_assets = pools.legs, pools.tiers, paths.ride_most, paths.low.shape[2]
    for i in range(pools.start[k], pools.start[k + 1]):
        a = kinds[i, ASSET]
        if kinds[i, DRIVER] != a:
            total -= _pull(legs, kinds, tiers, i, most, s, n_assets, low[a], high[a])
    return total > 0.0


@njit
def quiet_frames(
    slopes: Slopes, pools: Packed, k: int, paths: JointPaths, s: int, box: np.ndarray
) -> int:
    """How many of the first frames do nothing to pool `k`, as the lines alone show.

    A frame that settles one of its positions is not among them. `box` (2, asset) is overwritten.
    """
    kinds, n_frames, n_assets = pools.kinds, paths.low.shape[1], paths.low.shape[2]
    low, high = box[0], box[1]
    for f in range(n_frames):
        for r in range(slopes.start[k], slopes.start[k + 1]):
            a = slopes.asset[r]
            end = paths.last[s, f, a]
            low[a], high[a] = min(paths.low[s, f, a], end), max(paths.high[s, f, a], end)
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            for j in range(paths.jump_start[g], paths.jump_start[g + 1]):
                a, x = paths.jump_asset[j], paths.jump_to[j]
                low[a], high[a] = min(low[a], x), max(high[a], x)
        if not is_far(slopes, pools, k, paths, s, low, high):
            return f
        if len(paths.ride_state):
            for i in range(pools.start[k], pools.start[k + 1]):
                rider = kinds[i, DRIVER] - n_assets
                if rider >= 0 and paths.ride_end[rider] == f:
                    return f
    return n_frames


@njit
def must_die(pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int) -> bool:
    """Whether pool `k` dies on every joint path that visits each asset's low and high.

    When one asset is at its worse end, the others help as much as they ever can. Stops are left
    out.
    """
    kinds = pools.kinds
    first, end = pools.start[k], pools.start[k + 1]
    best = pools.pool[k, CASH]
    for i in range(first, end):
        at_low, at_high = ends(pools, state, i, i - first, paths, s, f)
        best += max(at_low, at_high)
    i = first
    while i < end:
        a = kinds[i, ASSET]
        all_low, all_high, help_ = 0.0, 0.0, 0.0
        while i < end and kinds[i, ASSET] == a:
            at_low, at_high = ends(pools, state, i, i - first, paths, s, f)
            all_low += at_low
            all_high += at_high
            help_ += max(at_low, at_high)
            i += 1
        if is_breached(pools, k, best - help_ + min(all_low, all_high)):
            return True
    return False


@njit
def ends(
    pools: Packed, state: State, i: int, j: int, paths: JointPaths, s: int, f: int
) -> tuple[float, float]:  # fmt: skip
    """What leg `i` leaves at the low and at the high of a frame, over its requirement."""
    a = pools.kinds[i, ASSET]
    low, high = paths.low[s, f, a], paths.high[s, f, a]
    legs, kinds, tiers, now = pools.legs, pools.kinds, pools.tiers, state.legs
    ride, n_assets = paths.ride, paths.low.shape[2]
    at = state_at(paths, f, AT_LOW)
    at_low, _ = _left(legs, kinds, tiers, now, i, j, low, ride, at, s, n_assets)
    at = state_at(paths, f, AT_HIGH)
    at_high, _ = _left(legs, kinds, tiers, now, i, j, high, ride, at, s, n_assets)
    return at_low, at_high


@njit
def _left(
    legs: np.ndarray, kinds: np.ndarray, tiers: np.ndarray, now: np.ndarray, i: int, j: int,
    x: float, ride: np.ndarray, at: int, s: int, n_assets: int,
) -> tuple[float, float]:  # fmt: skip
    """What leg `i` leaves over its requirement, and its mark."""
    alpha, beta, size, mark = coordinates(kinds, i, x, ride, at, s, n_assets)
    value = legs[i, COUNTED] * (now[j, NOW_ALPHA] * alpha + now[j, NOW_BETA] * beta)
    if now[j, IS_OPEN] != 0.0:
        value -= requirement_of(legs, kinds, tiers, i, size, beta)[0]
    return value, mark
