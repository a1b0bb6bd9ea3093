"""Scores that rank forecasts: the smaller mean score is the better forecast."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from risk.backtest.series import SeriesError, check_confidence, check_series


def quantile_loss(pnl: ArrayLike, value_at_risk: ArrayLike, confidence: float) -> float:
    """Mean quantile ("pinball") score of value-at-risk forecasts.

    Parameters
    ----------
    pnl : array_like (n,)
        P&L, gains positive.
    value_at_risk : array_like (n,) or float
        Forecasts, loss positive, in the unit of `pnl`.
    confidence : float
        Level of the forecasts, in (0, 1).

    Returns
    -------
    float
        Mean of (r - q)(a - 1{r <= q}) with q = -VaR and a = 1 - confidence, not negative.

    Raises
    ------
    ValueError
        If a value is not finite or the lengths differ.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, "Regression quantiles", Econometrica 46(1), 1978.

    Examples
    --------
    >>> round(quantile_loss([-3.0, 1.0], 2.0, 0.9), 12)
    0.6
    """
    r, var = check_series(pnl=pnl, value_at_risk=value_at_risk)
    a = 1.0 - check_confidence(confidence)
    return float(np.mean((r + var) * (a - (r <= -var))))


def fissler_ziegel_loss(
    pnl: ArrayLike, value_at_risk: ArrayLike, expected_shortfall: ArrayLike, confidence: float
) -> float:
    """Mean joint score of value-at-risk and expected-shortfall forecasts (FZ0).

    Parameters
    ----------
    pnl : array_like (n,)
        P&L, gains positive.
    value_at_risk, expected_shortfall : array_like (n,) or float
        Forecasts, loss positive, in the unit of `pnl`; the shortfall above zero.
    confidence : float
        Level of both forecasts, in (0, 1).

    Returns
    -------
    float
        Mean of -1{r <= q}(q - r) / (a e) + q / e + ln(-e) - 1 with q = -VaR, e = -ES and
        a = 1 - confidence; may be negative, only differences mean something.

    Raises
    ------
    ValueError
        If a value is not finite, the lengths differ or a shortfall is not above zero.

    References
    ----------
    .. [1] A. Patton, J. Ziegel and R. Chen, "Dynamic semiparametric models for expected shortfall
       (and value-at-risk)", Journal of Econometrics 211(2), 2019, equation (6).

    Examples
    --------
    >>> round(fissler_ziegel_loss([-3.0, 1.0], 1.0, 2.0, 0.5), 6)
    1.193147
    """
    r, var, es = check_series(
        pnl=pnl, value_at_risk=value_at_risk, expected_shortfall=expected_shortfall
    )
    a = 1.0 - check_confidence(confidence)
    if (es <= 0).any():
        raise SeriesError("expected_shortfall must be above zero on every day")
    beyond = np.where(r <= -var, -var - r, 0.0)
    return float(np.mean(beyond / (a * es) + var / es + np.log(es) - 1.0))
