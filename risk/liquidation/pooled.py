"""Account pools through a driver record for those who do not ask how often they die.

`risk.liquidation.cross` counts, for every pool that dies, whether it would under the other rules
too: two more lives. Windows, grids and searches want the money alone. Where they want no more than
the deficits, a pool that diffusion closes before any jump needs no life at all: its requirement at
the trigger covers what closing costs, so nothing is short. `docs/methods/cross_margin.md`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from risk.compiled import njit
from risk.drivers import JointPaths, slice_drivers
from risk.instruments import joint_record
from risk.liquidation.cross.book import COUNTS, PoolOutcomes, join_outcomes
from risk.liquidation.cross.bounds import Slopes, find_slopes, is_far, rides
from risk.liquidation.cross.kernel import TOUCHED, live
from risk.margin.excess import (
    ALPHA,
    AMOUNT,
    ASSET,
    BETA,
    CASH,
    CLOSING_FEE,
    COUNTED,
    ENTRY_BASIS,
    FIXED,
    FLOOR,
    INVERSE,
    RATE,
    ROW,
    SIZE,
    STOP,
    TABLE,
    TEST_FEE,
    Packed,
    State,
    is_breached,
    new_state,
    requirement,
)

#: Scenarios whose joint paths are laid out at a time.
_AT_ONCE = 512

#: Column of the outcomes' amounts that holds the deficit.
_DEFICIT = 2

#: By how much a requirement has to exceed the closing cost to be sure of it, as a share.
_SURE = 1e-6


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
        As `risk.liquidation.cross.book.pool_outcomes`, to the last bit, but for `counts`: -1.
    """
    n = drivers.sizes["scenario"]
    slopes = find_slopes(pools)
    calm = find_calm(pools, slopes) if only_deficits else no_calm(pools)
    parts = []
    for start in range(0, n, _AT_ONCE):
        paths = joint_record(slice_drivers(drivers, start, min(start + _AT_ONCE, n)))
        which, amounts, status, size = _live_once(
            pools, slopes, new_state(pools, paths.low.shape[2]), paths, calm,
            only_deficits,
        )  # fmt: skip
        counts = np.full((len(paths.low), len(COUNTS)), -1, "i4")
        parts.append(
            (
                start,
                PoolOutcomes(
                    which[:size, 0], which[:size, 1], amounts[:size], status[:size], counts
                ),
            )
        )
    return join_outcomes(parts)


@njit
def _live_once(
    pools: Packed, slopes: Slopes, state: State, paths: JointPaths, calm: Calm,
    only_deficits: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:  # fmt: skip
    kinds = pools.kinds
    n_assets = paths.low.shape[2]
    out, status = np.empty((len(pools.legs), 5)), np.zeros(len(pools.legs), np.int8)
    which, amounts, statuses = (
        np.empty((256, 2), np.int64),
        np.empty((256, 5)),
        np.empty(256, np.int8),
    )
    low, high = np.empty(n_assets), np.empty(n_assets)
    n = 0
    for s in range(len(paths.low)):
        last = paths.last[s, 0]
        for a in range(n_assets):
            low[a], high[a] = min(1.0, paths.low[s, 0, a]), max(1.0, paths.high[s, 0, a])
        for k in range(len(pools.start) - 1):
            if is_far(slopes, pools, k, paths, s, low, high) or (
                calm.is_calm[k] and _leaves_nothing_short(pools, k, paths, s, low, high, calm)
            ):
                continue
            code = live(pools, k, state, paths, s, low, high, last, out, status, True)
            if code & TOUCHED == 0:
                continue
            first, end = pools.start[k], pools.start[k + 1]
            while n + end - first > len(which):
                which = np.concatenate((which, np.empty_like(which)))
                amounts = np.concatenate((amounts, np.empty_like(amounts)))
                statuses = np.concatenate((statuses, np.empty_like(statuses)))
            for i in range(first, end):
                if kinds[i, ROW] < 0 or (only_deficits and out[i, _DEFICIT] == 0.0):
                    continue
                which[n, 0], which[n, 1] = s, i
                amounts[n], statuses[n] = out[i], status[i]
                n += 1
    return which, amounts, statuses, n


class Calm(NamedTuple):
    """Pools that leave no deficit when diffusion takes them to their trigger.

    No stops and no instruments, whose funding may be due at any moment; nothing counts for more
    than it is worth; and what every position requires exceeds what closing it costs, between two
    prices.
    """

    is_calm: np.ndarray  # (pool,)
    between: np.ndarray  # (leg, 2)
    at_mark: np.ndarray  # (leg,): what it counts for there over what it requires


def no_calm(pools: Packed) -> Calm:
    """No pool is told apart."""
    n = len(pools.legs)
    return Calm(np.zeros(len(pools.start) - 1, bool), np.empty((n, 2)), np.empty(n))


def find_calm(pools: Packed, slopes: Slopes) -> Calm:
    """Tell the calm pools apart."""
    calm = no_calm(pools)
    _find_calm(pools, slopes, *calm)
    return calm


@njit
def _find_calm(
    pools: Packed, slopes: Slopes, calm: np.ndarray, between: np.ndarray, at_mark: np.ndarray
) -> None:
    legs, kinds, tiers = pools.legs, pools.kinds, pools.tiers
    between[:, 0], between[:, 1] = 0.0, np.inf
    for k in range(len(calm)):
        calm[k] = slopes.left[k] > 0.0 and not rides(pools, k)
        for i in range(pools.start[k], pools.start[k + 1]):
            at_mark[i] = _left(legs, kinds, tiers, i, 1.0)
            is_whole = legs[i, COUNTED] == 1.0
            is_coin = legs[i, SIZE] == 0.0 and min(legs[i, ALPHA], legs[i, BETA]) >= 0.0
            calm[k] &= is_whole or (is_coin and legs[i, COUNTED] < 1.0)
            if legs[i, SIZE] == 0.0:
                continue
            calm[k] &= legs[i, STOP] == np.inf and legs[i, FIXED] >= 0.0
            needed = legs[i, CLOSING_FEE] * (1.0 + _SURE) - legs[i, TEST_FEE]
            if kinds[i, ENTRY_BASIS] == 0:
                calm[k] &= _least_share(tiers[kinds[i, TABLE]]) >= needed
            elif needed > 0.0:
                # A fixed sum of the settle currency against a share of the value in it.
                if kinds[i, INVERSE] != 0:
                    fixed = max(legs[i, FIXED], 1e-300)
                    between[i, 0] = needed * legs[i, SIZE] / fixed
                else:
                    between[i, 1] = legs[i, FIXED] / (needed * legs[i, SIZE])
            calm[k] &= between[i, 0] <= 1.0 <= between[i, 1]


@njit
def _least_share(table: np.ndarray) -> float:
    """Least share of a value that a tier table requires: inside a tier it is at an end."""
    least = np.inf
    for tier in range(len(table)):
        least = min(least, table[tier, RATE])
        for value in (table[tier, FLOOR], table[min(tier + 1, len(table) - 1), FLOOR]):
            if value > 0.0:
                least = min(least, table[tier, RATE] - table[tier, AMOUNT] / value)
            elif table[tier, AMOUNT] > 0.0:
                least = -np.inf
    return least


@njit
def _leaves_nothing_short(
    pools: Packed, k: int, paths: JointPaths, s: int, low: np.ndarray, high: np.ndarray,
    calm: Calm,
) -> bool:  # fmt: skip
    """Whether calm pool `k` lives wherever its assets go, or dies before the first jump.

    The rule is the kernel's *worst* one: every asset goes to its worse end for the pool first.
    """
    legs, kinds, tiers = pools.legs, pools.kinds, pools.tiers
    between, at_mark = calm.between, calm.at_mark
    i, end = pools.start[k], pools.start[k + 1]
    worst, before, is_covered = pools.pool[k, CASH], pools.pool[k, CASH], True
    while i < end:
        a, begin = kinds[i, ASSET], i
        at_low, at_high, more = 0.0, 0.0, 0.0
        while i < end and kinds[i, ASSET] == a:
            # Of a straight move one end is the mark.
            down, up = at_mark[i], at_mark[i]
            if low[a] < 1.0:
                down = _left(legs, kinds, tiers, i, low[a])
            if high[a] > 1.0:
                up = _left(legs, kinds, tiers, i, high[a])
            at_low += down
            at_high += up
            more += up
            more -= down
            i += 1
        worst += min(at_low, at_high)
        if more >= 0.0:
            x = paths.falls[0, 0, s, 0, a] if paths.falls.shape[1] > 0 else low[a]
        else:
            x = paths.rises[0, 0, s, 0, a] if paths.rises.shape[1] > 0 else high[a]
        for j in range(begin, i):
            before += at_mark[j] if x == 1.0 else _left(legs, kinds, tiers, j, x)
            is_covered &= between[j, 0] <= x <= between[j, 1]
    return worst > 0.0 or (is_covered and is_breached(pools, k, before))


@njit
def _left(legs: np.ndarray, kinds: np.ndarray, tiers: np.ndarray, i: int, x: float) -> float:
    """What leg `i`, never touched, counts for at ratio `x` over what it requires."""
    value = legs[i, COUNTED] * (legs[i, ALPHA] + legs[i, BETA] * x)
    return value - requirement(legs, kinds, tiers, i, x)[0] if legs[i, SIZE] > 0.0 else value
