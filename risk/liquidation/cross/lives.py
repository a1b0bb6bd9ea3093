"""Every pool of a book through every scenario, by the kernel of last resort.

Who asks how often pools die has each that died live twice more, by the other rules. Windows, grids
and searches want the money alone; some of them no more than the deficits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr

from risk.compiled import borrow, njit
from risk.drivers import JointPaths, slice_drivers
from risk.instruments import joint_record
from risk.liquidation.cross.calm import Calm, find_calm, leaves_nothing_short, no_calm
from risk.liquidation.cross.dying import dies_otherwise
from risk.liquidation.cross.kernel import DIED, TOUCHED, live
from risk.liquidation.cross.outcomes import COUNTS, PoolOutcomes, join_outcomes
from risk.liquidation.cross.reach import (
    Frames,
    Slopes,
    find_near,
    find_slopes,
    new_frames,
    quiet_frames,
    show_frames,
)
from risk.liquidation.cross.settling import DEFICIT
from risk.margin.excess import APART, ROW, Packed, State, new_state

#: Scenarios of a record whose joint paths are laid out at a time.
_AT_ONCE = 512


def live_pools(pools: Packed, paths: JointPaths, slopes: Slopes | None = None) -> PoolOutcomes:
    """Live every pool through joint paths.

    Parameters
    ----------
    pools : Packed
    paths : JointPaths
    slopes : Slopes, optional
        `find_slopes` of these pools, for who lives them more than once.
    """
    return _live(pools, paths, find_slopes(pools) if slopes is None else slopes)


def pool_outcomes(pools: Packed, drivers: xr.Dataset) -> PoolOutcomes:
    """Live every pool through a driver record, which says no more of a scenario than a bar."""
    slopes = find_slopes(pools)
    return join_outcomes(
        [(start, _live(pools, paths, slopes)) for start, paths in _joint_bars(drivers)]
    )


def uncounted_outcomes(
    pools: Packed, drivers: xr.Dataset, *, only_deficits: bool = False
) -> PoolOutcomes:
    """Live every pool through a driver record, which says no more of a scenario than a bar.

    Parameters
    ----------
    pools : Packed
    drivers : Dataset
        Driver record.
    only_deficits : bool
        Leave out the pools without a deficit: of the cube, the deficit alone is then right.

    Returns
    -------
    PoolOutcomes
        As `pool_outcomes`, to the last bit, but for `counts`: -1.
    """
    slopes = find_slopes(pools)
    calm = find_calm(pools, slopes) if only_deficits else None
    return join_outcomes(
        [
            (start, _live(pools, paths, slopes, False, only_deficits, calm))
            for start, paths in _joint_bars(drivers)
        ]
    )


def _joint_bars(drivers: xr.Dataset) -> Iterator[tuple[int, JointPaths]]:
    """The scenarios of a record as joint paths, some at a time, with the number of the first."""
    n = drivers.sizes["scenario"]
    for start in range(0, n, _AT_ONCE):
        yield start, joint_record(slice_drivers(drivers, start, min(start + _AT_ONCE, n)))


def _live(
    pools: Packed,
    paths: JointPaths,
    slopes: Slopes,
    is_counted: bool = True,
    only_deficits: bool = False,
    calm: Calm | None = None,
) -> PoolOutcomes:
    n, _, n_assets = paths.low.shape
    room = Room(
        new_state(pools, n_assets),
        new_frames(paths),
        np.empty((3, n, n_assets)),
        np.empty((len(pools.legs), 5)),
        np.zeros(len(pools.legs), "i1"),
    )
    counts = np.full((n, len(COUNTS)), 0 if is_counted else -1, "i4")
    calm = no_calm(pools) if calm is None else calm
    which, amounts, status = _live_all(
        pools, slopes, calm, paths, room, counts, is_counted, only_deficits
    )
    return PoolOutcomes(which[:, 0], which[:, 1], amounts, status, counts)


class Room(NamedTuple):
    """Where one pool lives at a time."""

    state: State
    frames: Frames
    days: np.ndarray  # (low, high or last, scenario, asset): of whole paths
    out: np.ndarray  # (leg, column)
    status: np.ndarray  # (leg,)


@njit
def _whole_days(paths: JointPaths, days: np.ndarray) -> None:
    """Low, high and last (3, scenario, asset) of whole paths."""
    n_frames = paths.low.shape[1]
    for s in range(days.shape[1]):
        for a in range(days.shape[2]):
            low, high = 1.0, 1.0
            for f in range(n_frames):
                low, high = min(low, paths.low[s, f, a]), max(high, paths.high[s, f, a])
            days[0, s, a], days[1, s, a] = low, high
            days[2, s, a] = paths.last[s, n_frames - 1, a]
        # A jump is where the next frame begins; after the last frame it is where the path ends.
        for f in range(n_frames):
            for g in range(
                paths.frame_start[s * n_frames + f], paths.frame_start[s * n_frames + f + 1]
            ):
                for j in range(paths.jump_start[g], paths.jump_start[g + 1]):
                    a, x = paths.jump_asset[j], paths.jump_to[j]
                    days[0, s, a], days[1, s, a] = min(days[0, s, a], x), max(days[1, s, a], x)
                    if f == n_frames - 1:
                        days[2, s, a] = x


@njit
def _live_all(
    pools: Packed, slopes: Slopes, calm: Calm, paths: JointPaths, room: Room, counts: np.ndarray,
    is_counted: bool, only_deficits: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Scenario and leg, amounts and status of every position of the pools something happens to."""
    pools, slopes, paths = borrow(pools), borrow(slopes), borrow(paths)
    state, frames, days, out, status = borrow(room)
    kinds, n, n_frames, quiet = pools.kinds, 0, paths.low.shape[1], 0
    which, amounts = np.empty((256, 2), np.int64), np.empty((256, 5))
    statuses = np.empty(256, np.int8)
    _whole_days(paths, days)
    near = find_near(slopes, paths, days[0], days[1])
    for s in range(days.shape[1]):
        low, high, last = days[0, s], days[1, s], days[2, s]
        begin, close = near.start[s], near.start[s + 1]
        if n_frames > 1 and begin < close:
            show_frames(frames, paths, s)
        for k in near.pool[begin:close]:
            if n_frames > 1:
                quiet = quiet_frames(slopes, k, frames, paths.ride_end)
                if quiet == n_frames:
                    continue
            if calm.is_calm[k] and leaves_nothing_short(pools, k, paths, s, low, high, calm):
                continue
            code = live(pools, k, state, paths, s, low, high, last, out, status, True, quiet)
            if code & TOUCHED == 0:
                continue
            first, end = pools.start[k], pools.start[k + 1]
            while n + end - first > len(which):
                which = np.concatenate((which, np.empty_like(which)))
                amounts = np.concatenate((amounts, np.empty_like(amounts)))
                statuses = np.concatenate((statuses, np.empty_like(statuses)))
            for i in range(first, end):
                if kinds[i, ROW] < 0 or (only_deficits and out[i, DEFICIT] == 0.0):
                    continue
                which[n, 0], which[n, 1] = s, i
                for column in range(out.shape[1]):
                    amounts[n, column] = out[i, column]
                statuses[n] = status[i]
                n += 1
            if is_counted and code & DIED and pools.pool[k, APART] == 0.0:
                counts[s, 0] += 1
                together, surely = dies_otherwise(
                    pools, k, state, paths, s, low, high, last, out, status, quiet
                )
                counts[s, 1] += together
                counts[s, 2] += surely
    return which[:n], amounts[:n], statuses[:n]
