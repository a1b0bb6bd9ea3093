"""Intervals of the tail measures, for independent and equally likely scenarios.

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

from risk.measures.precision import shortfall_error
from risk.measures.samples import Floats, check_confidence, check_losses, labelled, over_vectors

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
) -> Interval:
    """Order statistics that hold the true value at risk, whatever the distribution.

    Parameters
    ----------
    pnl : array_like (n,) or DataArray with `dim`
        P&L of independent, equally likely scenarios, gains positive.
    confidence : float
        Level of the value at risk, in (0, 1).
    coverage : float
        Least probability that the interval holds the true value, in (0, 1).
    dim : str
        The dimension to measure along, for labelled P&L.

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
    return _interval(pnl, confidence, coverage, dim, value_at_risk_ends)


def expected_shortfall_interval(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    coverage: float = 0.95,
    *,
    dim: str = "scenario",
) -> Interval:
    """Asymptotic interval of the expected shortfall, skewed as the sampling error is.

    The half-width is Student's quantile, with one degree of freedom less than there are losses in
    the tail, times `expected_shortfall_standard_error`. The lower end is the estimate less the
    half-width; the upper end lengthens the mean excess ES - VaR by the same ratio on a log scale,
    since a sample that lacks the largest losses is short of both its mean and its spread. No
    interval is quoted below five losses in the tail.

    Parameters
    ----------
    pnl, confidence, coverage, dim
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
    return _interval(pnl, confidence, coverage, dim, expected_shortfall_ends)


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
    width = float(stats.t.ppf((1.0 + check_confidence(coverage)) / 2, n_tail - 1.0)) * error
    excess = shortfall - value
    if excess <= 0:
        return shortfall, shortfall
    return shortfall - width, value + excess * math.exp(min(width / excess, 700.0))


def _interval(pnl: Any, confidence: float, coverage: float, dim: str, ends: Any) -> Interval:
    level, array = check_confidence(confidence), labelled(pnl, dim)
    check_confidence(coverage)
    if array is not None:
        return Interval(
            *over_vectors(
                lambda vector: ends(np.sort(check_losses(vector)), level, coverage), array, [dim], 2
            )
        )
    low, high = ends(np.sort(check_losses(pnl).ravel()), level, coverage)
    return Interval(None if math.isnan(low) else low, None if math.isnan(high) else high)
