"""Differences of two books on the same scenarios, with errors that know they are paired.

Both books live through the same draws, so most of the sampling error is common and drops out of the
difference: its error is that of the difference's own contributions, scenario by scenario.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from risk.measures.samples import SampleError, check_weights
from risk.measures.tail import expected_shortfall, value_at_risk


class Paired(NamedTuple):
    """A measure of two books, the second less the first, and its standard error."""

    base: float
    branch: float
    difference: float
    standard_error: float


def paired_mean(base: ArrayLike, branch: ArrayLike, weights: ArrayLike | None = None) -> Paired:
    """Difference of two means over the same scenarios.

    Parameters
    ----------
    base, branch : array_like (scenario,)
        The same quantity of both books.
    weights : array_like (scenario,), optional
        Adding up to one; equal when absent.

    Examples
    --------
    >>> paired_mean([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])
    Paired(base=2.0, branch=2.5, difference=0.5, standard_error=0.0)
    """
    first, second, weight = _pair(base, branch, weights)
    return _paired(float(weight @ first), float(weight @ second), second - first, weight)


def paired_shortfall(
    base: ArrayLike, branch: ArrayLike, confidence: float, weights: ArrayLike | None = None
) -> Paired:
    """Difference of two expected shortfalls of P&L over the same scenarios.

    The error is that of the difference of the influence functions,
    ``max(loss - VaR, 0) / (1 - confidence)``.

    Parameters
    ----------
    base, branch : array_like (scenario,)
        P&L of both books, gains positive.
    confidence : float
        In (0, 1).
    weights : array_like (scenario,), optional

    References
    ----------
    .. [1] J. Hong, Z. Hu and G. Liu, "Monte Carlo methods for value-at-risk and conditional
       value-at-risk: a review", ACM Transactions on Modeling and Computer Simulation 24(4), 2014.
    """
    first, second, weight = _pair(base, branch, weights)
    given = None if weights is None else weight
    measured, influence = [], []
    for pnl in (first, second):
        level = float(value_at_risk(pnl, confidence, weights=given))
        measured.append(float(expected_shortfall(pnl, confidence, weights=given)))
        influence.append(np.maximum(-pnl - level, 0.0) / (1.0 - confidence))
    return _paired(measured[0], measured[1], influence[1] - influence[0], weight)


def _pair(
    base: ArrayLike, branch: ArrayLike, weights: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = np.asarray(base, "f8"), np.asarray(branch, "f8")
    if first.shape != second.shape or not len(first):
        raise SampleError("both books must have lived through the same scenarios, at least one")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise SampleError("a difference needs finite numbers in every scenario")
    n = len(first)
    return first, second, np.full(n, 1.0 / n) if weights is None else check_weights(weights, n)


def _paired(base: float, branch: float, by_scenario: np.ndarray, weight: np.ndarray) -> Paired:
    centred = by_scenario - weight @ by_scenario
    error = float(np.sqrt(np.sum((weight * centred) ** 2)))
    return Paired(base, branch, branch - base, error)
