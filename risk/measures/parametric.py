"""Tail measures of a fitted distribution: normal, Student's t, and the Cornish-Fisher expansion.

`mean`, `sd` and the higher moments are those of the P&L, gains positive; results are losses.
Every argument may be an array; they broadcast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from risk.measures.samples import Floats, SampleError


def normal_value_at_risk(mean: ArrayLike, sd: ArrayLike, confidence: ArrayLike) -> Any:
    """Value at risk of a normal P&L: z sd - mean.

    Parameters
    ----------
    mean, sd : array_like
        Of the P&L, gains positive, any currency.
    confidence : array_like
        Level in (0, 1).

    Returns
    -------
    float or ndarray
        Loss in the unit of `sd`.

    Raises
    ------
    ValueError
        If `sd` is negative, a moment is not finite or the level is outside (0, 1).

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, "Quantitative Risk Management", 2nd ed., example 2.11.

    Examples
    --------
    >>> round(normal_value_at_risk(0.0, 1.0, 0.99), 4)
    2.3263
    """
    mean, sd, level = _moments(mean, sd, confidence)
    return _plain(stats.norm.ppf(level) * sd - mean)


def normal_expected_shortfall(mean: ArrayLike, sd: ArrayLike, confidence: ArrayLike) -> Any:
    """Expected shortfall of a normal P&L: sd phi(z) / (1 - c) - mean.

    Parameters, errors and units are those of `normal_value_at_risk`.

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, "Quantitative Risk Management", 2nd ed., example 2.14.

    Examples
    --------
    >>> round(normal_expected_shortfall(0.0, 1.0, 0.975), 4)
    2.3378
    """
    mean, sd, level = _moments(mean, sd, confidence)
    return _plain(sd * stats.norm.pdf(stats.norm.ppf(level)) / (1.0 - level) - mean)


def student_t_value_at_risk(
    mean: ArrayLike, sd: ArrayLike, df: ArrayLike, confidence: ArrayLike
) -> Any:
    """Value at risk of a Student-t P&L of the given standard deviation.

    Parameters
    ----------
    mean, sd : array_like
        Of the P&L; `sd` is the distribution's own standard deviation, not its scale.
    df : array_like
        Degrees of freedom, above 2 (below, there is no standard deviation).
    confidence : array_like
        Level in (0, 1).

    Returns
    -------
    float or ndarray
        Loss in the unit of `sd`.

    Raises
    ------
    ValueError
        As `normal_value_at_risk`, or if `df` is not above 2.

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, "Quantitative Risk Management", 2nd ed., example 2.11.

    Examples
    --------
    >>> round(student_t_value_at_risk(0.0, 1.0, 4, 0.99), 4)
    2.6495
    """
    mean, sd, level = _moments(mean, sd, confidence)
    df = _degrees(df)
    return _plain(stats.t.ppf(level, df) * _scale(sd, df) - mean)


def student_t_expected_shortfall(
    mean: ArrayLike, sd: ArrayLike, df: ArrayLike, confidence: ArrayLike
) -> Any:
    """Expected shortfall of a Student-t P&L of the given standard deviation.

    Parameters, errors and units are those of `student_t_value_at_risk`.

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, "Quantitative Risk Management", 2nd ed., example 2.15.

    Examples
    --------
    >>> round(student_t_expected_shortfall(0.0, 1.0, 4, 0.99), 4)
    3.6915
    """
    mean, sd, level = _moments(mean, sd, confidence)
    df = _degrees(df)
    q = stats.t.ppf(level, df)
    tail = stats.t.pdf(q, df) / (1.0 - level) * (df + q**2) / (df - 1.0)
    return _plain(tail * _scale(sd, df) - mean)


def cornish_fisher_value_at_risk(
    mean: ArrayLike,
    sd: ArrayLike,
    skew: ArrayLike,
    excess_kurtosis: ArrayLike,
    confidence: ArrayLike,
) -> Any:
    """Value at risk of a P&L known by four moments ("modified" value at risk).

    The normal quantile of the P&L corrected to second order in the skew and first in the
    kurtosis. Outside a small region around the normal the corrected quantile is not monotone in
    the level: do not use it for a skew beyond about one.

    Parameters
    ----------
    mean, sd, skew, excess_kurtosis : array_like
        Of the P&L, gains positive (a P&L with a heavy loss tail has a negative skew).
    confidence : array_like
        Level in (0, 1).

    Returns
    -------
    float or ndarray
        Loss in the unit of `sd`.

    Raises
    ------
    ValueError
        As `normal_value_at_risk`.

    References
    ----------
    .. [1] P. Zangari, "A VaR methodology for portfolios that include options", RiskMetrics
       Monitor, 1996 Q1.

    Examples
    --------
    >>> round(cornish_fisher_value_at_risk(0.0, 1.0, 0.0, 0.0, 0.99), 4)
    2.3263
    >>> round(cornish_fisher_value_at_risk(0.0, 1.0, -0.5, 1.0, 0.99), 4)
    2.8337
    """
    mean, sd, level = _moments(mean, sd, confidence)
    s, k = _finite(skew), _finite(excess_kurtosis)
    z = stats.norm.ppf(1.0 - level)
    corrected = z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36
    return _plain(-corrected * sd - mean)


def _moments(mean: ArrayLike, sd: ArrayLike, confidence: ArrayLike) -> tuple[Floats, ...]:
    mean, sd, level = _finite(mean), _finite(sd), np.asarray(confidence, "f8")
    if (sd < 0).any():
        raise SampleError("sd must not be negative")
    if not ((level > 0) & (level < 1)).all():
        raise ValueError(
            f"confidence must lie strictly between 0 and 1 (0.99, not 99); got {confidence!r}"
        )
    return mean, sd, level


def _degrees(df: ArrayLike) -> Floats:
    df = np.asarray(df, "f8")
    if not ((df > 2) & np.isfinite(df)).all():
        raise ValueError(
            "df must be finite and above 2: below, the distribution has no standard deviation"
        )
    return df


def _scale(sd: Floats, df: Floats) -> Floats:
    return sd * np.sqrt((df - 2.0) / df)


def _finite(value: ArrayLike) -> Floats:
    array = np.asarray(value, "f8")
    if not np.isfinite(array).all():
        raise SampleError("moments must be finite")
    return array


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value
