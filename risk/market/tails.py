"""Margins and dependence of standardised returns: Student-t margins, t-copula, tail exponents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize, special, stats

from risk.errors import DataError

#: Degrees of freedom are sought between these; at the top the tail is Gaussian to the eye.
DF_BOUNDS = (2.2, 60.0)

#: Fewest standardised returns a fit is tried on.
MIN_VALUES = 30

#: Weight of the pooled fit in one asset's degrees of freedom, in days.
PRIOR_DAYS = 250.0

#: Share of the days on one side that the tail exponent looks at.
TAIL_SHARE = 0.05


def fit_degrees_of_freedom(residuals: np.ndarray) -> tuple[float, float]:
    """Student-t degrees of freedom of unit-variance residuals by maximum likelihood.

    Parameters
    ----------
    residuals : ndarray (day, asset)
        NaN is skipped.

    Returns
    -------
    degrees_of_freedom, standard_error : float
        The error treats the assets of one day as one observation (they share their shock).
    """
    there = np.isfinite(residuals)
    if there.sum() < MIN_VALUES:
        raise DataError("fewer than 30 standardised returns; give a longer history")
    day = np.nonzero(there)[0]
    values = residuals[there]

    def log_density(df: float) -> np.ndarray:
        return stats.t.logpdf(values, df, scale=np.sqrt((df - 2) / df))

    return _maximise(log_density, day)


def margin_degrees_of_freedom(
    residuals: np.ndarray, pooled: float
) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom of every asset's own margin, shrunk towards the pooled fit.

    The reciprocals are averaged, the asset's own weighing as many days as it has and the pooled
    one 250: the reciprocal is what the likelihood is nearly linear in.

    Parameters
    ----------
    residuals : ndarray (day, asset)
    pooled : float
        From `fit_degrees_of_freedom`.

    Returns
    -------
    degrees_of_freedom, standard_error : ndarray (asset,)
        Of the asset's own fit the error; the pooled value and NaN where it has too few days.
    """
    n_assets = residuals.shape[1]
    df, error = np.full(n_assets, pooled), np.full(n_assets, np.nan)
    for place in range(n_assets):
        days = np.isfinite(residuals[:, place]).sum()
        if days < MIN_VALUES:
            continue
        own, error[place] = fit_degrees_of_freedom(residuals[:, [place]])
        df[place] = (days + PRIOR_DAYS) / (days / own + PRIOR_DAYS / pooled)
    return df, error


def fit_copula_degrees_of_freedom(
    residuals: np.ndarray, margin_df: np.ndarray, correlation: np.ndarray
) -> tuple[float, float]:
    """Degrees of freedom of a t-copula by maximum pairwise likelihood [1]_.

    Parameters
    ----------
    residuals : ndarray (day, asset)
        Unit variance; NaN is skipped pair by pair.
    margin_df : ndarray (asset,)
        Student-t margins that turn residuals into probabilities (inference for margins).
    correlation : ndarray (asset, asset)
        Of the copula.

    Returns
    -------
    degrees_of_freedom, standard_error : float
        NaN with fewer than two assets. The error treats a day as one observation.

    References
    ----------
    .. [1] C. Varin, N. Reid and D. Firth, "An overview of composite likelihood methods",
       Statistica Sinica 21, 2011.
    """
    n_assets = residuals.shape[1]
    first, second = np.triu_indices(n_assets, 1)
    both = np.isfinite(residuals[:, first]) & np.isfinite(residuals[:, second])
    day, pair = np.nonzero(both)
    if len(day) < MIN_VALUES:
        return float("nan"), float("nan")
    uniform = special.stdtr(margin_df, residuals * np.sqrt(margin_df / (margin_df - 2)))
    rho = correlation[first, second][pair]
    left, right = first[pair], second[pair]

    def log_density(df: float) -> np.ndarray:
        quantile = special.stdtrit(df, uniform)
        margin = stats.t.logpdf(quantile, df)
        x, y = quantile[day, left], quantile[day, right]
        form = (x**2 + y**2 - 2 * rho * x * y) / (1 - rho**2)
        joint = (
            special.gammaln((df + 2) / 2) - special.gammaln(df / 2) - np.log(df * np.pi)
            - 0.5 * np.log1p(-(rho**2)) - (df + 2) / 2 * np.log1p(form / df)
        )  # fmt: skip
        return joint - margin[day, left] - margin[day, right]

    # A pass takes a tenth of a second; three digits more than the standard error are enough.
    return _maximise(log_density, day, tolerance=1e-4)


def tail_exponents(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hill's estimate of the tail exponent of falls and of rises, per asset.

    Parameters
    ----------
    residuals : ndarray (day, asset)
        Standardised returns, jump days included.

    Returns
    -------
    falls, rises : ndarray (asset,)
        P(|z| > x) falls like ``x ** -exponent``; NaN with fewer than ten exceedances.
    standard_error : ndarray (asset,)
        Relative: one over the root of the number of exceedances.

    References
    ----------
    .. [1] B. Hill, "A simple general approach to inference about the tail of a distribution",
       Annals of Statistics 3, 1975.
    """
    n_assets = residuals.shape[1]
    found = np.full((2, n_assets), np.nan)
    error = np.full(n_assets, np.nan)
    for place in range(n_assets):
        own = residuals[np.isfinite(residuals[:, place]), place]
        count = int(TAIL_SHARE * len(own))
        if count < 10:
            continue
        error[place] = 1 / np.sqrt(count)
        for side, sign in enumerate((-1, 1)):
            tail = np.sort(sign * own)[-count - 1 :]
            if tail[0] > 0:
                found[side, place] = 1 / np.log(tail[1:] / tail[0]).mean()
    return found[0], found[1], error


def _maximise(
    log_density: Callable[[float], np.ndarray], day: np.ndarray, tolerance: float = 1e-8
) -> tuple[float, float]:
    """Best degrees of freedom, and a sandwich error that counts a day as one observation."""
    fit = optimize.minimize_scalar(
        lambda df: -log_density(df).sum(),
        bounds=DF_BOUNDS,
        method="bounded",
        options={"xatol": tolerance},
    )
    df, step = float(fit.x), 1e-2
    up, here, down = log_density(df + step), log_density(df), log_density(df - step)
    score = np.bincount(day, (up - down) / (2 * step))
    curvature = -(up.sum() - 2 * here.sum() + down.sum()) / step**2
    error = np.sqrt((score**2).sum()) / curvature if curvature > 0 else np.nan
    return df, float(error)
