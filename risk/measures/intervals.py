"""Intervals of the tail measures, for independent, dependent and weighted scenarios.

"None" is an answer: where the sample is too small to bound a measure on one side, that end is
None, and NaN in labelled results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from risk.measures.dependence import Design, Independent, value_at_levels, worth_of
from risk.measures.precision import shortfall_error
from risk.measures.samples import (
    Floats,
    check_confidence,
    check_losses,
    check_weights,
    labelled,
    over_vectors,
)

#: Fewest losses beyond the level from which an expected shortfall interval is quoted.
LEAST_TAIL = 5


@dataclass(frozen=True)
class Interval:
    """Two ends of an interval, in the unit of the P&L; None where there is none."""

    low: Any
    high: Any


def value_at_risk_interval(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    coverage: float = 0.95,
    *,
    dim: str = "scenario",
    weights: ArrayLike | None = None,
    design: Design | None = None,
) -> Interval:
    """Order statistics that hold the true value at risk, whatever the distribution.

    Parameters
    ----------
    pnl : array_like (n,) or DataArray with `dim`
        P&L, gains positive, in the order the scenarios were made.
    confidence : float
        Level of the value at risk, in (0, 1).
    coverage : float
        Least probability that the interval holds the true value, in (0, 1).
    dim : str
        The dimension to measure along, for labelled P&L.
    weights : array_like (n,), optional
        Probabilities of the scenarios, adding up to one; equal when absent.
    design : Design, optional
        How the scenarios depend on each other (`risk.measures.dependence`); independent when
        absent. The ranks of weighted or dependent scenarios are those of as many independent ones
        as they are worth; coverage is then approximate.

    Returns
    -------
    Interval
        `low`, `high`: losses in the unit of `pnl`; None (NaN if labelled) where the sample is
        too small: at 99 % no upper end exists below 368 scenarios.

    Raises
    ------
    ValueError
        As `value_at_risk`.

    References
    ----------
    .. [1] H. A. David and H. N. Nagaraja, "Order Statistics", 3rd ed., 2003, section 7.1.

    Examples
    --------
    >>> interval = value_at_risk_interval(-np.arange(1.0, 501.0), 0.99)
    >>> interval.low, interval.high
    (490.0, 500.0)
    >>> value_at_risk_interval(-np.arange(1.0, 101.0), 0.99).high is None
    True
    """
    return _interval(pnl, confidence, coverage, dim, value_at_risk_ends, 0, weights, design)


def expected_shortfall_interval(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    coverage: float = 0.95,
    *,
    dim: str = "scenario",
    weights: ArrayLike | None = None,
    design: Design | None = None,
) -> Interval:
    """Asymptotic interval of the expected shortfall, skewed as the sampling error is.

    The half-width is Student's quantile, with one degree of freedom less than there are losses in
    the tail, times `expected_shortfall_standard_error`. The lower end is the estimate less the
    half-width; the upper end lengthens the mean excess ES - VaR by the same ratio on a log scale,
    since a sample that lacks the largest losses is short of both its mean and its spread. No
    interval is quoted below five losses in the tail.

    Parameters
    ----------
    pnl, confidence, coverage, dim, weights, design
        As `value_at_risk_interval`.

    Returns
    -------
    Interval
        `low`, `high`: losses in the unit of `pnl`; None (NaN if labelled) where the sample is
        too small.

    Raises
    ------
    ValueError
        As `value_at_risk`.

    References
    ----------
    .. [1] B. J. Manistre and G. H. Hancock, "Variance of the CTE estimator", North American
       Actuarial Journal 9(2), 2005 (the standard error; the ends are ours, see
       docs/methods/intervals.md for the coverage measured).

    Examples
    --------
    >>> interval = expected_shortfall_interval(-np.arange(1.0, 1001.0), 0.975)
    >>> round(interval.low, 1), round(interval.high, 1)
    (981.9, 995.8)
    """
    return _interval(pnl, confidence, coverage, dim, expected_shortfall_ends, 1, weights, design)


@lru_cache(maxsize=256)
def interval_ranks(n: int, confidence: float, coverage: float) -> tuple[int | None, int | None]:
    """Ranks from the smallest loss, None where even the extreme one does not bound the quantile.

    The low rank is the largest l with P(B < l) <= a / 2 and the high rank the smallest u with
    P(B >= u) <= a / 2, for B binomial (n, confidence) and a = 1 - coverage.
    """
    half = (1.0 - check_confidence(coverage)) / 2
    counts = stats.binom(n, check_confidence(confidence))
    low, high = int(counts.ppf(half)), int(counts.isf(half)) + 1
    # The quantile functions stop at equality; one step is missing where it is met exactly.
    low += bool(counts.cdf(low) <= half)
    return low or None, high if high <= n else None


def value_at_risk_ends(ordered: Floats, confidence: float, coverage: float) -> tuple[float, float]:
    """Interval of the value at risk from losses in ascending order; NaN for none."""
    low, high = interval_ranks(ordered.size, confidence, coverage)
    return (
        math.nan if low is None else float(ordered[low - 1]),
        math.nan if high is None else float(ordered[high - 1]),
    )


def expected_shortfall_ends(
    ordered: Floats, confidence: float, coverage: float
) -> tuple[float, float]:
    """Interval of the expected shortfall from losses in ascending order; NaN for none."""
    n_tail = ordered.size * (1.0 - confidence)
    if ordered.size < 2 or n_tail < LEAST_TAIL - 1e-9:
        return math.nan, math.nan
    value, shortfall, error = shortfall_error(ordered, confidence)
    return _skewed(value, shortfall, error, n_tail - 1.0, coverage)


def dependent_ends(
    losses: Floats,
    confidence: float,
    coverage: float,
    weights: Floats | None,
    design: Design,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Intervals of value at risk and expected shortfall of weighted or dependent scenarios.

    Parameters
    ----------
    losses : ndarray (n,)
        In the order of the scenarios.
    confidence, coverage : float
    weights : ndarray (n,) or None
        Adding up to one.
    design : Design

    Returns
    -------
    tuple of (low, high)
        NaN for none.
    """
    none = (math.nan, math.nan)
    worth = worth_of(losses, confidence, weights, design)
    if not worth.effective >= 1.0:
        return none, none
    n = int(worth.effective + 1e-9)
    low, high = interval_ranks(n, confidence, coverage)
    value = value_at_levels(
        losses,
        weights,
        None if low is None else (low - 1) / n,
        None if high is None else high / n,
    )
    n_tail = worth.effective * (1.0 - confidence)
    if n_tail < LEAST_TAIL - 1e-9:
        return value, none
    degrees = min(worth.degrees, n_tail - 1.0)
    return value, _skewed(worth.value, worth.shortfall, worth.error, degrees, coverage)


def _skewed(
    value: float, shortfall: float, error: float, degrees: float, coverage: float
) -> tuple[float, float]:
    """Student's half-width below, the same on a log scale above."""
    width = float(stats.t.ppf((1.0 + check_confidence(coverage)) / 2, degrees)) * error
    excess = shortfall - value
    if excess <= 0:
        return shortfall, shortfall
    return shortfall - width, value + excess * math.exp(min(width / excess, 700.0))


def _interval(
    pnl: Any,
    confidence: float,
    coverage: float,
    dim: str,
    ends: Any,
    which: int,
    weights: ArrayLike | None,
    design: Design | None,
) -> Interval:
    level, array = check_confidence(confidence), labelled(pnl, dim)
    check_confidence(coverage)

    def of(vector: Floats) -> tuple[float, float]:
        losses = check_losses(vector).ravel()
        if weights is None and design is None:
            return ends(np.sort(losses), level, coverage)
        given = None if weights is None else check_weights(weights, losses.size)
        return dependent_ends(losses, level, coverage, given, design or Independent())[which]

    if array is not None:
        return Interval(*over_vectors(of, array, [dim], 2))
    low, high = of(pnl)
    return Interval(None if math.isnan(low) else low, None if math.isnan(high) else high)
