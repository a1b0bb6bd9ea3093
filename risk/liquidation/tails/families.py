"""Order statistics of a position whose losses come in families that overlap.

Within a family the losses are in order; across families they are not. A loss is the value at risk
if it is the largest one at which the weight of all losses as large exceeds the limit, so each
family is bisected for its own largest such loss, and the largest of those is the answer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.liquidation.tails.trees import head


class Families(NamedTuple):
    """The losses of one position; trees hold ranks by `last`, the most adverse first."""

    move: np.ndarray  # (rank,), last - 1
    alive: np.ndarray  # survivors lose -exposure * move
    alive_weight: float
    exposure: float
    hits: np.ndarray  # diffusion hits lose hit - coin * move; no tree is needed without coin
    hit_weight: float
    hit: float
    coin: float
    lost_weight: float  # gaps that leave the holder nothing
    lost: float
    single_loss: np.ndarray  # scenarios that are priced one by one, the largest first
    single_sum: np.ndarray  # their weight up to each


@njit(inline="always")
def _loss(start: float, slope: float, move: np.ndarray, j: int) -> float:
    """The j-th largest loss of ``start - slope * move``."""
    last = len(move) - 1
    return start - slope * move[j if slope * (move[last] - move[0]) >= 0.0 else last - j]


@njit
def _count(start: float, slope: float, move: np.ndarray, level: float, is_strict: bool) -> int:
    """How many ranks lose at least, or strictly more than, `level`."""
    low, high = 0, len(move)
    while low < high:
        middle = (low + high) >> 1
        loss = _loss(start, slope, move, middle)
        if loss > level or (not is_strict and loss == level):
            low = middle + 1
        else:
            high = middle
    return low


@njit
def _sums(
    tree: np.ndarray, start: float, slope: float, move: np.ndarray, level: float, is_strict: bool
) -> tuple[float, float]:
    """Weight and moment of what loses at least, or strictly more than, `level`."""
    n = len(move)
    count = _count(start, slope, move, level, is_strict)
    if slope * (move[n - 1] - move[0]) >= 0.0:
        return head(tree, count)
    weight, moment = head(tree, n)
    rest_weight, rest_moment = head(tree, n - count)
    return weight - rest_weight, moment - rest_moment


@njit
def _exceeds(limit: float, level: float, family: Families) -> bool:
    """Whether the losses of at least `level` weigh more than `limit`."""
    weight = 0.0
    if family.lost >= level:
        weight += family.lost_weight
    if family.coin == 0.0:
        if family.hit >= level:
            weight += family.hit_weight
    elif family.hit_weight > 0.0:
        weight += _sums(family.hits, family.hit, family.coin, family.move, level, False)[0]
    single = family.single_loss
    low, high = 0, len(single)
    while low < high:
        middle = (low + high) >> 1
        if single[middle] >= level:
            low = middle + 1
        else:
            high = middle
    if low > 0:
        weight += family.single_sum[low - 1]
    if weight > limit:
        return True
    if family.alive_weight > 0.0:
        weight += _sums(family.alive, 0.0, family.exposure, family.move, level, False)[0]
    return weight > limit


@njit
def _best_on_line(limit: float, best: float, start: float, slope: float, family: Families) -> float:
    """Largest loss of a line that exceeds the limit, if larger than `best`."""
    move = family.move
    # Losses at or below `best` are no better; of the larger ones find the first that exceeds.
    low, stop = 0, _count(start, slope, move, best, True)
    high = stop
    while low < high:
        middle = (low + high) >> 1
        if _exceeds(limit, _loss(start, slope, move, middle), family):
            high = middle
        else:
            low = middle + 1
    return _loss(start, slope, move, low) if low < stop else best


@njit
def find_loss(limit: float, family: Families) -> float:
    """Largest loss at which the weight of all losses as large exceeds `limit`."""
    best = -np.inf
    if family.lost_weight > 0.0 and _exceeds(limit, family.lost, family):
        best = family.lost
    if family.coin == 0.0 and family.hit_weight > 0.0 and family.hit > best:  # noqa: SIM102
        if _exceeds(limit, family.hit, family):
            best = family.hit
    if family.alive_weight > 0.0:
        best = _best_on_line(limit, best, 0.0, family.exposure, family)
    if family.coin != 0.0 and family.hit_weight > 0.0:
        best = _best_on_line(limit, best, family.hit, family.coin, family)
    single = family.single_loss
    low, high = 0, len(single)
    while low < high:
        middle = (low + high) >> 1
        if single[middle] <= best or _exceeds(limit, single[middle], family):
            high = middle
        else:
            low = middle + 1
    return max(best, single[low]) if low < len(single) else best


@njit
def excess_over(level: float, family: Families) -> float:
    """Weighted sum of what every loss exceeds `level` by."""
    total = max(family.lost - level, 0.0) * family.lost_weight
    if family.coin == 0.0:
        total += max(family.hit - level, 0.0) * family.hit_weight
    elif family.hit_weight > 0.0:
        weight, moment = _sums(family.hits, family.hit, family.coin, family.move, level, True)
        total += (family.hit - level) * weight - family.coin * moment
    if family.alive_weight > 0.0:
        weight, moment = _sums(family.alive, 0.0, family.exposure, family.move, level, True)
        total += -family.exposure * moment - level * weight
    before = 0.0
    for j in range(len(family.single_loss)):
        if family.single_loss[j] <= level:
            break
        total += (family.single_loss[j] - level) * (family.single_sum[j] - before)
        before = family.single_sum[j]
    return total
