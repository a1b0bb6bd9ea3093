"""Pools that owe nothing where diffusion closes them before any jump: they need no life.

A pool's requirement at its trigger covers what closing it costs, so nothing is short. It matters
to those who want deficits alone. `docs/methods/cross_margin.md`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.drivers import JointPaths
from risk.liquidation.cross.bounds import rides
from risk.liquidation.cross.reach import Slopes
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
    SIZE,
    STOP,
    TABLE,
    TEST_FEE,
    Packed,
    is_breached,
    requirement,
)

#: By how much a requirement has to exceed the closing cost to be sure of it, as a share.
_SURE = 1e-6


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
def leaves_nothing_short(
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
