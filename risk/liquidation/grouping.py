"""Grouping and sorting of a book's columns: linear in the positions, where labels are few."""

from __future__ import annotations

import numpy as np

from risk.compiled import njit


def distinct(codes: np.ndarray, n_codes: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes that occur, ascending, and each entry's place among them.

    As `numpy.unique` with its inverse, but counted and not sorted while a list of all
    codes is no longer than a few times the entries.

    Parameters
    ----------
    codes : ndarray of int (entry,)
    n_codes : int
        Codes lie in ``[0, n_codes)``.

    Returns
    -------
    used : ndarray of int (group,)
    place : ndarray of int (entry,)

    Examples
    --------
    >>> used, place = distinct(np.array([7, 2, 7]), 10)
    >>> used.tolist(), place.tolist()
    ([2, 7], [1, 0, 1])
    """
    if n_codes > 8 * len(codes) + 1024:
        return np.unique(codes, return_inverse=True)
    occurs = np.zeros(n_codes, bool)
    occurs[codes] = True
    used = np.flatnonzero(occurs)
    rank = np.zeros(n_codes, "i8")
    rank[used] = np.arange(len(used))
    return used, rank[codes]


def sort_within(group: np.ndarray, n_groups: int, value: np.ndarray) -> np.ndarray:
    """Order by (group, value); entries that tie keep their order.

    Groups are put together by counting, and each is sorted by itself, in the cache.

    Examples
    --------
    >>> sort_within(np.array([1, 0, 1, 0]), 2, np.array([5.0, 2.0, 4.0, 2.0])).tolist()
    [1, 3, 2, 0]
    """
    start, order = _gather(group, n_groups)
    value = value[order]
    for begin, end in zip(start[:-1].tolist(), start[1:].tolist(), strict=True):
        if end - begin < 2:
            continue
        some = value[begin:end]
        by_value = np.argsort(some)
        risen = some[by_value]
        if (risen[1:] == risen[:-1]).any():  # only the slower sort keeps the order of ties
            by_value = np.argsort(some, kind="stable")
        order[begin:end] = order[begin:end][by_value]
    return order


@njit
def _gather(group: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each group begins, and the entries group by group in their order."""
    start = np.zeros(n_groups + 1, np.int64)
    for g in group:
        start[g + 1] += 1
    for g in range(n_groups):
        start[g + 1] += start[g]
    at, order = start[:-1].copy(), np.empty(len(group), np.int64)
    for i in range(len(group)):
        order[at[group[i]]] = i
        at[group[i]] += 1
    return start, order
