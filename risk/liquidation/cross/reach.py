"""Which pools some paths may reach, and from which frame on.

Straight lines below what a pool has left over show of most pools that no price of a path reaches
them. All paths are asked at once, pool by pool, and all frames of a path that may reach it: a line
and a number a time, in rows that the compiler turns into vector instructions. Who may be reached
is for the kernel: it leaves a pool that is not among them as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.drivers import JointPaths
from risk.margin.excess import (
    ALPHA,
    ASSET,
    BETA,
    CASH,
    COUNTED,
    DRIVER,
    INVERSE,
    RATE,
    SIDE,
    SIZE,
    STOP,
    TABLE,
    TEST_FEE,
    Packed,
    requirement,
)


class Slopes(NamedTuple):
    """Straight lines below what each pool has left over, by asset; what its instruments take.

    Where an instrument's mark is up to `g` apart from its asset, which is at most at `high`, and it
    has paid `F` by unit or `G` in coin, it takes ``first * g * high + second * F`` from the pool if
    linear, ``(first * g + second * G * high) / (least mark over asset)`` if inverse.
    """

    left: np.ndarray  # (pool,) at the mark, USD
    start: np.ndarray  # (pool + 1,) into the rows of the two below, one per asset it is in
    asset: np.ndarray
    lines: np.ndarray  # (row, column): change per unit of fall and of rise, nearest stops
    ride_start: np.ndarray  # (pool + 1,) into the rows of the two below, one per instrument
    riders: np.ndarray  # (row, column): asset, driver, is inverse
    pulls: np.ndarray  # (row, column): first, second, nearest stops


class Near(NamedTuple):
    """The pools that may be reached, scenario by scenario."""

    start: np.ndarray  # (scenario + 1,)
    pool: np.ndarray  # ascending in each scenario


#: The lines hold from here to there.
_LEAST, _MOST = 0.5, 2.0

#: What rounding may make of a sum, as a share of what is added up.
_ROUNDING = 1e-12

#: A line falls at least so much per unit, USD: beyond where it holds it falls without end.
_FLATTEST = -1e-9

#: The nearest stop of a row that has none.
_NO_STOPS = (-1.0, np.inf)


def find_slopes(pools: Packed) -> Slopes:
    """Chords of the concave excess, and what the instruments of each pool weigh."""
    kinds = pools.kinds
    pool = np.repeat(np.arange(len(pools.start) - 1), np.diff(pools.start))
    edges = np.arange(len(pools.start))
    asset, driver = kinds[:, ASSET], kinds[:, DRIVER]
    most = int(driver.max(initial=0)) + 1
    key = pool * most + asset  # legs are sorted by pool and asset
    _, first = np.unique(key, return_index=True)
    start = np.searchsorted(pool[first], edges).astype("i8")
    left, lines = pools.pool[:, CASH].copy(), np.zeros((len(first), 4))
    lines[:, 2:] = _NO_STOPS
    _draw_lines(pools, np.append(first, len(key)), start, left, lines)
    riding = np.flatnonzero(driver != asset)
    # An instrument is linear or inverse; both are told apart whatever the book says.
    key = (pool * most + driver)[riding] * 2 + (kinds[riding, INVERSE] != 0)
    key, one, row = np.unique(key, return_index=True, return_inverse=True)
    riders = np.ascontiguousarray(kinds[riding[one]][:, [ASSET, DRIVER, INVERSE]])
    pulls = np.zeros((len(key), 4))
    pulls[:, 2:] = _NO_STOPS
    _weigh(pools, riding, row, pulls)
    ride_start = np.searchsorted(pool[riding[one]], edges).astype("i8")
    return Slopes(left, start, asset[first], lines, ride_start, riders, pulls)


@njit
def _draw_lines(
    pools: Packed, first: np.ndarray, start: np.ndarray, left: np.ndarray, lines: np.ndarray
) -> None:
    legs, kinds, tiers = pools.legs, pools.kinds, pools.tiers
    for k in range(len(left)):
        gross = abs(left[k])
        for r in range(start[k], start[k + 1]):
            at = np.zeros(3)
            for i in range(first[r], first[r + 1]):
                gross += 2.0 * (abs(legs[i, ALPHA]) + abs(legs[i, BETA])) + legs[i, SIZE]
                for n, x in enumerate((_LEAST, 1.0, _MOST)):
                    at[n] += legs[i, COUNTED] * (legs[i, ALPHA] + legs[i, BETA] * x)
                    if legs[i, SIZE] > 0.0:
                        at[n] -= requirement(legs, kinds, tiers, i, x)[0]
                _near_stops(legs, kinds, i, lines, r)
            left[k] += at[1]
            lines[r, 0] = min((at[0] - at[1]) / (1.0 - _LEAST), _FLATTEST)
            lines[r, 1] = min((at[2] - at[1]) / (_MOST - 1.0), _FLATTEST)
        left[k] -= _ROUNDING * gross


@njit
def _near_stops(legs: np.ndarray, kinds: np.ndarray, i: int, rows: np.ndarray, r: int) -> None:
    """Let row `r` know of the stop of leg `i`."""
    if kinds[i, SIDE] == 0:
        rows[r, 2] = max(rows[r, 2], -legs[i, STOP])
    else:
        rows[r, 3] = min(rows[r, 3], legs[i, STOP])


@njit
def _weigh(pools: Packed, riding: np.ndarray, row: np.ndarray, pulls: np.ndarray) -> None:
    legs, kinds, tiers = pools.legs, pools.kinds, pools.tiers
    for n in range(len(riding)):
        i, r = riding[n], row[n]
        rate = tiers[kinds[i, TABLE], tiers.shape[1] - 1, RATE] + legs[i, TEST_FEE]
        value = abs(legs[i, ALPHA]) if kinds[i, INVERSE] != 0 else abs(legs[i, BETA])
        pulls[r, 0] += value + rate * legs[i, SIZE]
        pulls[r, 1] += value
        _near_stops(legs, kinds, i, pulls, r)


@njit(inline="always")
def _sink(
    left: np.ndarray, start: np.ndarray, asset: np.ndarray, lines: np.ndarray,
    ride_start: np.ndarray, riders: np.ndarray, pulls: np.ndarray, k: int, low: np.ndarray,
    high: np.ndarray, most: np.ndarray, total: np.ndarray,
) -> None:  # fmt: skip
    """What pool `k` has left over at least (column,), wherever its assets are in each column.

    `low` and `high` (asset, column), `most` (`_apart`'s, instrument, column). Nothing above zero,
    or no number, where a stop may be hit or the lines do not hold.
    """
    n, n_assets = low.shape[1], low.shape[0]
    for c in range(n):
        total[c] = left[k]
    for r in range(start[k], start[k + 1]):
        a, down, up, below, above = asset[r], lines[r, 0], lines[r, 1], lines[r, 2], lines[r, 3]
        for c in range(n):
            at_low, at_high = (1.0 - low[a, c]) * down, (high[a, c] - 1.0) * up
            total[c] += at_low if at_low < at_high else at_high
        if below >= 0.0 or above < np.inf:
            for c in range(n):
                if low[a, c] <= below or high[a, c] >= above:
                    total[c] = -np.inf
    for r in range(ride_start[k], ride_start[k + 1]):
        a, i, first, second = riders[r, 0], riders[r, 1] - n_assets, pulls[r, 0], pulls[r, 1]
        if riders[r, 2] != 0:
            for c in range(n):
                total[c] -= first * most[2, i, c] + second * (most[3, i, c] * high[a, c])
        else:
            for c in range(n):
                total[c] -= first * (most[0, i, c] * high[a, c]) + second * most[1, i, c]
        below, above = pulls[r, 2], pulls[r, 3]
        if below >= 0.0 or above < np.inf:
            for c in range(n):
                apart = most[0, i, c]
                if below >= low[a, c] * (1.0 - apart) or above <= high[a, c] * (1.0 + apart):
                    total[c] = -np.inf


@njit
def _apart(most: np.ndarray, s: int, c: int, out: np.ndarray) -> None:
    """How far instruments are apart from their assets at most: factor, paid, both over the least.

    Of scenario `s`, into column `c`.
    """
    for i in range(most.shape[1]):
        factor, least = most[s, i, 0], most[s, i, 3]
        out[0, i, c], out[1, i, c] = factor, most[s, i, 1]
        out[2, i, c] = factor / least if least > 0.0 else np.inf
        out[3, i, c] = most[s, i, 2] / least if least > 0.0 else np.inf


@njit
def find_near(slopes: Slopes, paths: JointPaths, low: np.ndarray, high: np.ndarray) -> Near:
    """Tell apart the pools that some price of a scenario may reach.

    Parameters
    ----------
    slopes : Slopes
    paths : JointPaths
    low, high : ndarray (scenario, asset)
        Extremes of whole paths, the mark among them.

    Returns
    -------
    Near
        Of every other pool the kernel would say that nothing happens to it.
    """
    n, n_assets = low.shape
    down, up = np.empty((n_assets, n)), np.empty((n_assets, n))
    for s in range(n):
        for a in range(n_assets):
            down[a, s] = low[s, a] if low[s, a] >= _LEAST else -np.inf
            up[a, s] = high[s, a] if high[s, a] <= _MOST else np.inf
    most, total = np.empty((4, paths.ride_most.shape[1], n)), np.empty(n)
    if most.shape[1]:
        for s in range(n):
            _apart(paths.ride_most, s, s, most)
    left, start, asset, lines, ride_start, riders, pulls = slopes
    found, size = np.empty((1024, 2), np.int64), 0
    count = np.zeros(n + 1, np.int64)
    for k in range(len(left)):
        _sink(
            left, start, asset, lines, ride_start, riders, pulls, k, down, up, most, total
        )  # fmt: skip
        reached = 0
        for s in range(n):
            reached += not total[s] > 0.0
        if reached == 0:
            continue
        while size + reached > len(found):
            found = np.concatenate((found, np.empty_like(found)))
        for s in range(n):
            if not total[s] > 0.0:
                found[size, 0], found[size, 1] = s, k
                size += 1
                count[s + 1] += 1
    begin = np.cumsum(count)
    pool, at = np.empty(size, np.int64), begin[:-1].copy()
    for r in range(size):
        s = found[r, 0]
        pool[at[s]] = found[r, 1]
        at[s] += 1
    return Near(begin, pool)


class Frames(NamedTuple):
    """The frames of one path, for `quiet_frames`."""

    low: np.ndarray  # (asset, frame): of the frame, its jumps among them
    high: np.ndarray
    most: np.ndarray  # (of `_apart`, instrument, frame)
    total: np.ndarray  # (frame,): room


def new_frames(paths: JointPaths) -> Frames:
    """Room for one path at a time."""
    n_frames, n_assets = paths.low.shape[1:]
    return Frames(
        np.empty((n_assets, n_frames)),
        np.empty((n_assets, n_frames)),
        np.empty((4, paths.ride_most.shape[1], n_frames)),
        np.empty(n_frames),
    )


@njit
def show_frames(frames: Frames, paths: JointPaths, s: int) -> None:
    """Lay out the frames of scenario `s`."""
    low, high, most = frames.low, frames.high, frames.most
    n_assets, n_frames = low.shape
    for f in range(n_frames):
        for a in range(n_assets):
            end = paths.last[s, f, a]
            low[a, f] = min(1.0, paths.low[s, f, a], end)
            high[a, f] = max(1.0, paths.high[s, f, a], end)
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            for j in range(paths.jump_start[g], paths.jump_start[g + 1]):
                a, x = paths.jump_asset[j], paths.jump_to[j]
                low[a, f], high[a, f] = min(low[a, f], x), max(high[a, f], x)
    for a in range(n_assets):
        for f in range(n_frames):
            low[a, f] = low[a, f] if low[a, f] >= _LEAST else -np.inf
            high[a, f] = high[a, f] if high[a, f] <= _MOST else np.inf
    if most.shape[1]:
        _apart(paths.ride_most, s, 0, most)
        for part in range(4):
            for i in range(most.shape[1]):
                for f in range(1, n_frames):
                    most[part, i, f] = most[part, i, 0]


@njit
def quiet_frames(slopes: Slopes, k: int, frames: Frames, ride_end: np.ndarray) -> int:
    """How many of the first frames do nothing to pool `k`, as the lines alone show.

    A frame that settles one of its positions is not among them.
    """
    left, start, asset, lines, ride_start, riders, pulls = slopes
    low, high, most, total = frames
    _sink(left, start, asset, lines, ride_start, riders, pulls, k, low, high, most, total)
    quiet = 0
    while quiet < len(total) and total[quiet] > 0.0:
        quiet += 1
    if len(ride_end):
        for r in range(ride_start[k], ride_start[k + 1]):
            quiet = min(quiet, ride_end[riders[r, 1] - low.shape[0]])
    return quiet
