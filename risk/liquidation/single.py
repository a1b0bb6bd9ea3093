"""Tail of one position whose every scenario is known."""

from __future__ import annotations

import numpy as np

from risk.compiled import njit

#: Losses that a first look takes, evenly over the scenarios.
_SAMPLE = 600

_BINS = 1024

#: Losses are counted by how far they are above the least: 2**6 codes for each doubling, 32 of them.
_SHIFT, _CODES = np.int64(52 - 6), 2048


@njit
def measure_single(
    pnl: np.ndarray,
    weight: np.ndarray,
    is_equal: bool,
    limits: tuple[float, float, float, float],
    loss: np.ndarray,
    mass: np.ndarray,
) -> tuple[float, float]:
    """Value at risk and expected shortfall of one position from its P&L (scenario,).

    `weight` (scenario,) is in whole units, all of one where they are equal. `limits` are the weight
    that may be worse than the value at risk, the same for the shortfall's edge, the shortfall's
    tail and the probability of a unit. `loss` and `mass` (scenario,) are room to work in.
    """
    var_limit, es_limit, es_tail, _ = limits
    limit = max(var_limit, es_limit)
    n = 0
    if is_equal:
        n = _keep_likely(int(limit), pnl, loss)
    if n <= limit:
        n = len(pnl)
        for i in range(n):
            loss[i], mass[i] = -pnl[i], weight[i]
        n = keep_tail(limit, n, loss, mass)
    if is_equal:
        return _of_ranks(int(var_limit), int(es_limit), es_tail, loss[:n], mass)
    order = np.argsort(-loss[:n], kind="mergesort")
    total = np.cumsum(mass[:n][order])
    place = int(np.searchsorted(total, var_limit, side="right"))
    at_edge = int(np.searchsorted(total, es_limit, side="right"))
    value, edge = loss[order[min(place, n - 1)]], loss[order[min(at_edge, n - 1)]]
    worse = 0.0
    for i in order:
        if loss[i] <= edge:
            break
        worse += (loss[i] - edge) * mass[i]
    return value, edge + worse / es_tail


@njit
def _of_ranks(
    var_rank: int, es_rank: int, es_tail: float, loss: np.ndarray, room: np.ndarray
) -> tuple[float, float]:
    """The same of losses that weigh one each; ranks count from the worst, 0.

    Nothing is compared but within a code: a branch on random numbers costs more than all the rest.
    """
    least, most = np.inf, -np.inf
    for one in loss:
        least, most = min(least, one), max(most, one)
    top = np.float64(most - least).view(np.int64) >> _SHIFT
    count = np.zeros(_CODES, np.int64)
    for one in loss:
        count[_code_of(one - least, top)] += 1
    value = _at_rank(var_rank, loss, least, top, count, room)
    edge = _at_rank(es_rank, loss, least, top, count, room) if es_rank != var_rank else value
    worse = 0.0
    for one in loss:
        worse += max(one - edge, 0.0)
    return value, edge + worse / es_tail


@njit(inline="always")
def _code_of(above: float, top: int) -> int:
    """Code of a loss by what it is above the least; it never falls as the loss grows."""
    code = int(np.float64(above).view(np.int64) >> _SHIFT) - top + _CODES - 1
    return min(max(code, 0), _CODES - 1)


@njit
def _at_rank(
    rank: int, loss: np.ndarray, least: float, top: int, count: np.ndarray, room: np.ndarray
) -> float:
    """The loss of a rank, given how many losses have each code."""
    code, n_worse = _CODES - 1, count[_CODES - 1]
    while n_worse <= rank:
        code -= 1
        n_worse += count[code]
    n = 0
    for one in loss:
        room[n] = one
        n += _code_of(one - least, top) == code
    place = n_worse - 1 - rank
    return np.partition(room[:n], place)[place]


@njit
def _keep_likely(limit: int, pnl: np.ndarray, loss: np.ndarray) -> int:
    """Write the losses that a sample says are the most adverse; return how many there are.

    More than `limit` are the worst without fail; with fewer, the sample has misled.
    """
    # Odd, so that pairs of opposite scenarios do not fool it.
    stride = max(len(pnl) // _SAMPLE, 1) | 1
    sample = -pnl[::stride]
    expected = (limit + 1) / stride
    # Four standard deviations of the count, so that a second look is rare.
    rank = int(expected + 4.0 * np.sqrt(expected)) + 4
    if rank >= len(sample):
        return 0
    least = np.partition(sample, len(sample) - 1 - rank)[len(sample) - 1 - rank]
    kept = 0
    for i in range(len(pnl)):
        # Written before it is known whether it counts: that is cheaper than to ask first.
        loss[kept] = -pnl[i]
        kept += loss[kept] >= least
    return kept


@njit
def keep_tail(limit: float, n: int, loss: np.ndarray, weight: np.ndarray) -> int:
    """Move the largest losses, that weigh more than `limit`, to the front; return how many.

    They are told apart by bins, so that a few too many are kept. All are kept if all weigh less.
    """
    low, high = np.inf, -np.inf
    for j in range(n):
        low, high = min(low, loss[j]), max(high, loss[j])
    if n <= _BINS or low == high:
        return n
    scale = (_BINS - 1) / (high - low)
    held = np.zeros(_BINS)
    for j in range(n):
        held[int((loss[j] - low) * scale)] += weight[j]
    least, above = _BINS, 0.0
    while least > 0 and above <= limit:
        least -= 1
        above += held[least]
    kept = 0
    for j in range(n):
        if int((loss[j] - low) * scale) >= least:
            loss[kept], weight[kept] = loss[j], weight[j]
            kept += 1
    return kept
