"""Running sums under insertion and removal: binary indexed trees of (weight, moment).

A tree is an array (n + 1, 2); rank r lies at r + 1. Weights are whole numbers held in floats, so
that adding and removing them is exact and a rank is decided without rounding.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit


@njit
def add(tree: np.ndarray, rank: int, weight: float, key: float) -> None:
    """Add `weight` at `rank`, whose key is `key`; a negative weight takes it out again."""
    moment = weight * key
    i = rank + 1
    while i < len(tree):
        tree[i, 0] += weight
        tree[i, 1] += moment
        i += i & -i


@njit
def fill(tree: np.ndarray, weight: np.ndarray, key: np.ndarray) -> None:
    """Fill an empty tree with all ranks at once."""
    for i in range(1, len(tree)):
        tree[i, 0] += weight[i - 1]
        tree[i, 1] += weight[i - 1] * key[i - 1]
        parent = i + (i & -i)
        if parent < len(tree):
            tree[parent] += tree[i]


@njit
def head(tree: np.ndarray, count: int) -> tuple[float, float]:
    """Weight and moment of the first `count` ranks."""
    weight, moment = 0.0, 0.0
    i = count
    while i > 0:
        weight += tree[i, 0]
        moment += tree[i, 1]
        i -= i & -i
    return weight, moment


@njit
def descend(tree: np.ndarray, limit: float) -> tuple[int, float, float]:
    """First rank at which the weight from the top exceeds `limit`, and the sums before it.

    `limit` must lie below the weight of the whole tree.
    """
    step = 1
    while 2 * step < len(tree):
        step *= 2
    weight, moment = 0.0, 0.0
    i = 0
    while step > 0:
        j = i + step
        if j < len(tree) and weight + tree[j, 0] <= limit:
            i = j
            weight += tree[j, 0]
            moment += tree[j, 1]
        step >>= 1
    return i, weight, moment
