"""Whether a pool that died would have by the other rules too; what it came to is not asked."""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.drivers import AT_GAPS, AT_HIGH, AT_LAST, AT_LOW, JointPaths
from risk.liquidation.cross.bounds import LIVES, corner, must_die, state_at
from risk.liquidation.cross.kernel import DIED, land, live, take_up, turn
from risk.liquidation.cross.settling import settle_ended
from risk.margin.excess import STOP, Packed, State, aim, arrive, is_breached, left_there


@njit
def dies_otherwise(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, low: np.ndarray,
    high: np.ndarray, last: np.ndarray, out: np.ndarray, status: np.ndarray, quiet: int,
) -> tuple[bool, bool]:  # fmt: skip
    """Whether pool `k` dies with all lows and all highs together; and surely, see `dies_surely`.

    The arguments are those of `risk.liquidation.cross.kernel.live`, which says the first by the
    rule *together*. Without stops nothing moves a pool before it dies: then it is enough to look
    where the prices turn.
    """
    has_stops = False
    for i in range(pools.start[k], pools.start[k + 1]):
        has_stops |= pools.legs[i, STOP] != np.inf
    together, surely = _dies(pools, k, state, paths, s, quiet, not has_stops)
    if has_stops:
        code = live(pools, k, state, paths, s, low, high, last, out, status, False, quiet)
        together = code & DIED != 0
    return together, surely


@njit
def dies_surely(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, quiet: int
) -> bool:  # fmt: skip
    """Whether pool `k` dies in scenario `s` however its assets move together inside the frames.

    `quiet` is as for `risk.liquidation.cross.kernel.live`.
    """
    return _dies(pools, k, state, paths, s, quiet, False)[1]


@njit
def _dies(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, quiet: int, is_asked: bool
) -> tuple[bool, bool]:  # fmt: skip
    """Whether pool `k`, its stops left out, dies together, if that is asked, and surely."""
    take_up(pools, k, state, paths, s, quiet)
    together, surely, n_frames = not is_asked, False, paths.low.shape[1]
    for f in range(quiet, n_frames):
        worst, at = corner(pools, k, state, paths, s, f), state_at(paths.ride_state, f, AT_LAST)
        if worst != LIVES:
            surely = surely or must_die(pools, k, state)
            together = together or _breaks_together(pools, k, state, paths, s, f)
            if surely and together:
                return True, True
        aim(pools, k, state, paths.last[s, f], paths.ride, at, s)
        if worst != LIVES and is_breached(pools, k, left_there(pools, k, state)):
            return True, True
        arrive(pools, k, state)
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            if land(pools, k, state, paths, s, at, g):
                if is_breached(pools, k, left_there(pools, k, state)):
                    return True, True
                arrive(pools, k, state)
        if turn(pools, k, state, paths, s, f):
            if is_breached(pools, k, left_there(pools, k, state)):
                return True, True
            arrive(pools, k, state)
            settle_ended(pools, k, state, paths, f)
    return is_asked and together, surely


@njit
def _breaks_together(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, f: int
) -> bool:  # fmt: skip
    """Whether pool `k` is breached where all assets have fallen, or all have risen, in a frame."""
    ride, states, gaps = paths.ride, paths.ride_state, AT_GAPS
    for points, extreme, end in (
        (paths.falls, paths.low, AT_LOW),
        (paths.rises, paths.high, AT_HIGH),
    ):
        aim(pools, k, state, extreme[s, f], ride, state_at(states, f, end), s)
        if is_breached(pools, k, left_there(pools, k, state)):
            return True
        for g in range(points.shape[1]):
            for landing in range(2):
                aim(pools, k, state, points[landing, g, s, f], ride, state_at(states, f, gaps), s)
                if is_breached(pools, k, left_there(pools, k, state)):
                    return True
                gaps += 1
    return False
