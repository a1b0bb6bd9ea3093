"""Whether losses beyond the value at risk are as large as the expected shortfall says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from risk.backtest.coverage import Outcome
from risk.backtest.series import SeriesError, check_confidence, check_series


@dataclass(frozen=True)
class AcerbiSzekely:
    """Both statistics: zero when right, negative when the risk was under-estimated.

    `z1` is None when no day exceeded the value at risk: it is a mean over such days.
    """

    z1: float | None
    z2: float


@dataclass(frozen=True)
class DuEscanciano:
    """The tests of the mean and of the autocorrelation of cumulative violations."""

    unconditional: Outcome
    conditional: Outcome


def acerbi_szekely(
    losses: ArrayLike, value_at_risk: ArrayLike, expected_shortfall: ArrayLike, confidence: float
) -> AcerbiSzekely:
    """First and second statistic of Acerbi and Szekely.

    Parameters
    ----------
    losses : array_like (n,)
        Losses, loss positive.
    value_at_risk, expected_shortfall : array_like (n,)
        Forecasts in the unit of `losses`; the shortfall above zero.
    confidence : float
        Level of both forecasts, in (0, 1).

    Returns
    -------
    AcerbiSzekely
        `z1` = 1 - mean of L / ES over the exceedances (None if there are none);
        `z2` = 1 - sum of L / ES over the exceedances / (n (1 - c)).

    Raises
    ------
    ValueError
        If a value is not finite, the lengths differ or a shortfall is not above zero.

    References
    ----------
    .. [1] C. Acerbi and B. Szekely, "Backtesting expected shortfall", MSCI, 2014, equations (4)
       and (6).

    Examples
    --------
    >>> result = acerbi_szekely([3.0, 0.0, -1.0, 1.0], 2.0, 2.5, 0.75)
    >>> round(result.z1, 12), round(result.z2, 12)
    (-0.2, -0.2)
    """
    loss, var, es = check_series(
        losses=losses, value_at_risk=value_at_risk, expected_shortfall=expected_shortfall
    )
    p = 1.0 - check_confidence(confidence)
    if (es <= 0).any():
        raise SeriesError("expected_shortfall must be above zero on every day")
    severity = loss[loss > var] / es[loss > var]
    z1 = 1.0 - float(severity.mean()) if severity.size else None
    return AcerbiSzekely(z1, 1.0 - float(severity.sum()) / (loss.size * p))


def du_escanciano(pit: ArrayLike, confidence: float, lags: int = 1) -> DuEscanciano:
    """Tests of cumulative violations, the shortfall's analogue of exceedances.

    Parameters
    ----------
    pit : array_like (n,)
        Forecast probability of a P&L at most the realised one; small is a loss.
    confidence : float
        Level of the expected shortfall, in (0, 1).
    lags : int
        Number of autocorrelations in the conditional test, from 1 to n - 1.

    Returns
    -------
    DuEscanciano
        `unconditional`: z-score of the mean violation, normal, two-sided; `conditional`:
        n times the sum of squared autocorrelations, chi-squared with `lags` degrees of freedom.
        Without a violation there is no correlation: statistic 0, p-value 1.

    Raises
    ------
    ValueError
        If a PIT is outside [0, 1], a level outside (0, 1) or `lags` outside 1..n-1.

    References
    ----------
    .. [1] Z. Du and J. C. Escanciano, "Backtesting expected shortfall: accounting for tail risk",
       Management Science 63(4), 2017. A lag's covariance is divided by its n - j terms.

    Examples
    --------
    >>> result = du_escanciano((np.arange(200) + 0.5) / 200, 0.95)
    >>> round(result.unconditional.statistic, 6)
    0.0
    """
    (u,) = check_series(pit=pit)
    a = 1.0 - check_confidence(confidence)
    if ((u < 0) | (u > 1)).any():
        raise SeriesError("pit must lie between 0 and 1")
    n = u.size
    if lags != int(lags) or not 1 <= lags < n:
        raise ValueError(f"lags must be a whole number from 1 to {n - 1}; got {lags}")
    violation = np.maximum(a - u, 0.0) / a
    z = math.sqrt(n) * (float(violation.mean()) - a / 2) / math.sqrt(a * (1 / 3 - a / 4))
    centred = violation - a / 2
    variance = float((centred**2).mean())
    # With no violation every deviation is the same constant: nothing is correlated with anything.
    correlations = [
        float((centred[j:] * centred[:-j]).sum()) / (n - j) / variance if violation.any() else 0.0
        for j in range(1, lags + 1)
    ]
    portmanteau = n * math.fsum(rho**2 for rho in correlations)
    return DuEscanciano(
        Outcome(z, float(2.0 * stats.norm.sf(abs(z)))),
        Outcome(portmanteau, float(stats.chi2.sf(portmanteau, lags))),
    )
