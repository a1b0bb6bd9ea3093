"""Bounds: which pools no price of a scenario or a frame can reach, and which must die.

They only save work, and count: what happens to a pool that may be reached is for the kernel.
"""

from __future__ import annotations

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
    IS_LOW,
    IS_OPEN,
    LEFT_HIGH,
    LEFT_LOW,
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


@njit(inline="always")
def state_at(states: np.ndarray, f: int, point: int) -> int:
    """State of the instruments in frame `f`, of a bar at one of its points.

    `states` is `risk.drivers.JointPaths.ride_state`.
    """
    return states[f] if len(states) else point


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
    """What the worst corner of a frame does to pool `k`; of a bar with instruments unknown.

    Notes what every leg leaves at the low and at the high, and which assets leave less at their
    low.
    """
    legs, kinds, tiers, now = pools.legs, pools.kinds, pools.tiers, state.legs
    ride, n_assets, places = paths.ride, paths.low.shape[2], state.places
    total, i, end, first = pools.pool[k, CASH], pools.start[k], pools.start[k + 1], pools.start[k]
    stopped, is_known = False, True
    low, high = paths.low[s, f], paths.high[s, f]
    at_low = state_at(paths.ride_state, f, AT_LOW)
    at_high = state_at(paths.ride_state, f, AT_HIGH)
    while i < end:
        a = kinds[i, ASSET]
        all_low, all_high, more = 0.0, 0.0, 0.0
        while i < end and kinds[i, ASSET] == a:
            j = i - first
            down, low_mark = _left(legs, kinds, tiers, now, i, j, low[a], ride, at_low, s, n_assets)
            up, high_mark = _left(
                legs, kinds, tiers, now, i, j, high[a], ride, at_high, s, n_assets
            )
            now[j, LEFT_LOW], now[j, LEFT_HIGH] = down, up
            all_low += down
            all_high += up
            more += up
            more -= down
            if now[j, IS_OPEN] != 0.0:
                stopped |= legs[i, STOP] <= (-low_mark if kinds[i, SIDE] == 0 else high_mark)
            is_known &= kinds[i, DRIVER] == a
            i += 1
        total += min(all_low, all_high)
        places[IS_LOW, a] = 1.0 if more >= 0.0 else 0.0
    if not is_known and len(paths.ride_state) == 0:
        return STOPS  # what it does between the corners differs from leg to leg
    return FAILS if total <= 0.0 else STOPS if stopped else LIVES


@njit
def must_die(pools: Packed, k: int, state: State) -> bool:
    """Whether pool `k` dies on every joint path that visits each asset's low and high.

    Those of the frame that `corner` saw last. When one asset is at its worse end, the others help
    as much as they ever can. Stops are left out.
    """
    kinds, now = pools.kinds, state.legs
    first, end = pools.start[k], pools.start[k + 1]
    best = pools.pool[k, CASH]
    for j in range(end - first):
        best += max(now[j, LEFT_LOW], now[j, LEFT_HIGH])
    i = first
    while i < end:
        a = kinds[i, ASSET]
        all_low, all_high, help_ = 0.0, 0.0, 0.0
        while i < end and kinds[i, ASSET] == a:
            at_low, at_high = now[i - first, LEFT_LOW], now[i - first, LEFT_HIGH]
            all_low += at_low
            all_high += at_high
            help_ += max(at_low, at_high)
            i += 1
        if is_breached(pools, k, best - help_ + min(all_low, all_high)):
            return True
    return False


@njit(inline="always")
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
