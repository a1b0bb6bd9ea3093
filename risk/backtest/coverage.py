"""How many days lost more than the value at risk, and whether that is too many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from risk.backtest.series import SeriesError, check_confidence, check_counts, log_likelihood

#: Cumulative probabilities at which the zones of the traffic light begin (Basel MAR99).
YELLOW_FROM, RED_FROM = 0.95, 0.9999


@dataclass(frozen=True)
class Outcome:
    """A test statistic and its p-value; a small p-value speaks against the forecast."""

    statistic: float
    p_value: float


@dataclass(frozen=True)
class Binomial:
    """The normal approximation of the number of exceedances; two-sided."""

    z_score: float
    p_value: float


@dataclass(frozen=True)
class TrafficLight:
    """Basel's zone, P(X <= x) and P(X >= x) if the forecast is right."""

    zone: str
    cumulative_probability: float
    type_one_probability: float


def exceedances(pnl: ArrayLike | xr.DataArray, value_at_risk: ArrayLike | xr.DataArray) -> Any:
    """Days whose loss was strictly larger than the value at risk forecast for them.

    Parameters
    ----------
    pnl : array_like (n,) or DataArray
        P&L of the day, gains positive; None or NaN where it is missing.
    value_at_risk : array_like (n,), float or DataArray
        Forecast for that day, loss positive, in the unit of `pnl`. Labelled series are matched by
        their labels, and a day only one of them has is missing in the other.

    Returns
    -------
    ndarray or DataArray of bool
        True for an exceedance. A missing P&L or forecast counts as one; an equal loss does not.

    Raises
    ------
    ValueError
        If the lengths differ, there is no day, or a value is infinite: a day without a number
        is NaN or None.

    References
    ----------
    .. [1] Basel Committee, MAR32.5 and MAR32.18.

    Examples
    --------
    >>> exceedances([-3.0, -2.0, 1.0, None], 2.0).tolist()
    [True, False, False, True]
    """
    if isinstance(pnl, xr.DataArray) and isinstance(value_at_risk, xr.DataArray):
        gain, forecast = xr.align(pnl, value_at_risk, join="outer")
        if np.isinf(gain).any() or np.isinf(forecast).any():
            raise SeriesError(
                "pnl or value_at_risk is infinite: leave a day without a number empty"
            )
        return (-gain > forecast) | gain.isnull() | forecast.isnull()
    if isinstance(pnl, xr.DataArray):
        return pnl.copy(data=exceedances(pnl.values, value_at_risk))
    try:
        left, right = np.asarray(pnl, "f8"), np.asarray(value_at_risk, "f8")
        left, right = np.broadcast_arrays(left, right)
    except (TypeError, ValueError) as error:
        raise SeriesError(f"pnl and value_at_risk must be series of one length: {error}") from error
    if left.size == 0:
        raise SeriesError("pnl is empty: a backtest needs at least one day")
    if np.isinf(left).any() or np.isinf(right).any():
        raise SeriesError("pnl or value_at_risk is infinite: leave a day without a number empty")
    return (-left > right) | np.isnan(left) | np.isnan(right)


def kupiec(n_exceedances: int, n_observations: int, confidence: float) -> Outcome:
    """Proportion of failures: likelihood ratio of the observed against the expected rate.

    Parameters
    ----------
    n_exceedances, n_observations : int
    confidence : float
        Level of the value at risk, in (0, 1).

    Returns
    -------
    Outcome
        `statistic`, chi-squared with one degree of freedom if the forecast is right, `p_value`.

    Raises
    ------
    ValueError
        If a count is impossible or the level is outside (0, 1).

    References
    ----------
    .. [1] P. Kupiec, "Techniques for verifying the accuracy of risk measurement models", Journal
       of Derivatives 3, 1995.

    Examples
    --------
    >>> result = kupiec(57, 1043, 0.95)
    >>> round(result.statistic, 5), round(result.p_value, 5)
    (0.46147, 0.49694)
    """
    x, n = check_counts(n_exceedances, n_observations)
    p = 1.0 - check_confidence(confidence)
    return ratio_test(log_likelihood(n - x, x, p), log_likelihood(n - x, x, x / n), 1)


def ratio_test(null: float, alternative: float, df: int) -> Outcome:
    """Likelihood-ratio test of two log-likelihoods, asymptotically chi-squared."""
    statistic = max(-2.0 * float(null - alternative), 0.0)
    return Outcome(statistic, float(stats.chi2.sf(statistic, df)))


def binomial(n_exceedances: int, n_observations: int, confidence: float) -> Binomial:
    """Number of exceedances in standard deviations from the expected, with two-sided p-value.

    Parameters and errors are those of `kupiec`.

    References
    ----------
    .. [1] P. Jorion, "Value at Risk", 3rd ed., 2007, chapter 6.

    Examples
    --------
    >>> result = binomial(57, 1043, 0.95)
    >>> round(result.z_score, 5), round(result.p_value, 5)
    (0.68905, 0.49079)
    """
    x, n = check_counts(n_exceedances, n_observations)
    p = 1.0 - check_confidence(confidence)
    z = (x - n * p) / math.sqrt(n * p * (1.0 - p))
    return Binomial(z, float(2.0 * stats.norm.sf(abs(z))))


def time_until_first_failure(first: int, confidence: float) -> Outcome:
    """Likelihood ratio of the waiting time for the first exceedance.

    Parameters
    ----------
    first : int
        Number of the day of the first exceedance, counted from 1.
    confidence : float
        Level of the value at risk, in (0, 1).

    Returns
    -------
    Outcome
        `statistic`, chi-squared with one degree of freedom if the forecast is right, `p_value`.

    Raises
    ------
    ValueError
        If `first` is not a whole number from 1 on, or the level is outside (0, 1).

    References
    ----------
    .. [1] P. Kupiec, "Techniques for verifying the accuracy of risk measurement models", Journal
       of Derivatives 3, 1995.

    Examples
    --------
    >>> result = time_until_first_failure(58, 0.95)
    >>> round(result.statistic, 4), round(result.p_value, 5)
    (1.7354, 0.18773)
    """
    if not (math.isfinite(first) and first == int(first) and first >= 1):
        raise ValueError(f"first is the number of a day, from 1 on; got {first}")
    p = 1.0 - check_confidence(confidence)
    waited = int(first) - 1
    return ratio_test(log_likelihood(waited, 1, p), log_likelihood(waited, 1, 1 / first), 1)


def traffic_light(n_exceedances: int, n_observations: int, confidence: float) -> TrafficLight:
    """Basel's zones for any number of days and level.

    Yellow begins at the smallest count whose cumulative binomial probability reaches 95 %, red
    where it reaches 99.99 %. No exceedance at all is green, however few the days.

    Parameters and errors are those of `kupiec`.

    Returns
    -------
    TrafficLight
        `zone` ("green", "yellow" or "red"), `cumulative_probability` P(X <= x) and
        `type_one_probability` P(X >= x).

    References
    ----------
    .. [1] Basel Committee, MAR99.

    Examples
    --------
    >>> [traffic_light(x, 250, 0.99).zone for x in (4, 5, 9, 10)]
    ['green', 'yellow', 'yellow', 'red']
    """
    x, n = check_counts(n_exceedances, n_observations)
    count = stats.binom(n, 1.0 - check_confidence(confidence))
    below = float(count.cdf(x))
    # Of few days even none is more than 95 % likely, but no exceedance speaks against no forecast.
    zone = "red" if below >= RED_FROM else "yellow" if below >= YELLOW_FROM else "green"
    if x == 0:
        zone = "green"
    return TrafficLight(zone, below, float(count.sf(x - 1)))
