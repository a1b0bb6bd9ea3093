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
def dies_together(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, low: np.ndarray,
    high: np.ndarray, last: np.ndarray, out: np.ndarray, status: np.ndarray, quiet: int = 0,
) -> bool:  # fmt: skip
    """Whether pool `k` dies in scenario `s` with all lows at one moment and all highs at another.

    What `live` says by the rule *together*. Without stops nothing moves a pool before it dies: then
    it is enough to look where the prices turn.
    """
    for i in range(pools.start[k], pools.start[k + 1]):
        if pools.legs[i, STOP] != np.inf:
            code = live(pools, k, state, paths, s, low, high, last, out, status, False, quiet)
            return code & DIED != 0
    return _dies(pools, k, state, paths, s, quiet, False)


@njit
def dies_surely(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, quiet: int = 0
) -> bool:
    """Whether pool `k` dies in scenario `s` however its assets move together inside the frames.

    `quiet` is as for `live`.
    """
    return _dies(pools, k, state, paths, s, quiet, True)


@njit
def _dies(
    pools: Packed, k: int, state: State, paths: JointPaths, s: int, quiet: int, is_sure: bool
) -> bool:  # fmt: skip
    """Whether pool `k`, its stops left out, dies surely, or with lows and highs together."""
    take_up(pools, k, state, paths, s, quiet)
    n_frames = paths.low.shape[1]
    for f in range(quiet, n_frames):
        worst, at = corner(pools, k, state, paths, s, f), state_at(paths.ride_state, f, AT_LAST)
        if worst != LIVES:
            if is_sure and must_die(pools, k, state):
                return True
            if not is_sure and _breaks_together(pools, k, state, paths, s, f):
                return True
        aim(pools, k, state, paths.last[s, f], paths.ride, at, s)
        if worst != LIVES and is_breached(pools, k, left_there(pools, k, state)):
            return True
        arrive(pools, k, state)
        place = s * n_frames + f
        for g in range(paths.frame_start[place], paths.frame_start[place + 1]):
            if land(pools, k, state, paths, s, at, g):
                if is_breached(pools, k, left_there(pools, k, state)):
                    return True
                arrive(pools, k, state)
        if turn(pools, k, state, paths, s, f):
            if is_breached(pools, k, left_there(pools, k, state)):
                return True
            arrive(pools, k, state)
            settle_ended(pools, k, state, paths, f)
    return False


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
