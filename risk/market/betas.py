"""Slopes of daily log returns on the market, for stresses and for assets without a history."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: The factors of the proxy rule; those the data lack are left out.
FACTORS = ("BTC", "ETH")

#: Fewest common days a slope is fitted on.
MIN_BETA_DAYS = 30


def market_betas(returns: np.ndarray, names: Sequence[str]) -> tuple[str, np.ndarray, np.ndarray]:
    """Least-squares slopes to BTC, or to the equal-weight mean where there is no BTC.

    Parameters
    ----------
    returns : ndarray (day, asset)
        Log returns, NaN where there is none.
    names : sequence of str (asset,)

    Returns
    -------
    market : str
        What the slopes refer to.
    beta, standard_error : ndarray (asset,)
        A slope of one without error where there are too few common days.
    """
    if "BTC" in names:
        market, driver = "BTC", returns[:, list(names).index("BTC")]
    else:
        alive = np.isfinite(returns).sum(axis=1)
        total = np.nansum(returns, axis=1)
        market, driver = "equal_weight", np.where(alive > 0, total / np.maximum(alive, 1), np.nan)
    beta = np.ones(len(names))
    error = np.full(len(names), np.nan)
    for column, values in enumerate(returns.T):
        both = np.isfinite(values) & np.isfinite(driver)
        if both.sum() < MIN_BETA_DAYS:
            continue
        x, y = driver[both] - driver[both].mean(), values[both] - values[both].mean()
        beta[column] = x @ y / (x @ x)
        error[column] = np.sqrt(np.sum((y - beta[column] * x) ** 2) / (len(x) - 2) / (x @ x))
    return market, beta, error


def factor_betas(returns: np.ndarray, names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Least-squares slopes to bitcoin and ether together.

    Returns
    -------
    factors : list of str
        Those of `FACTORS` that `names` holds.
    betas : ndarray (asset, factor)
        A factor's own row is its unit vector; the median of the others' slopes where an asset has
        too few common days.
    """
    factors = [name for name in FACTORS if name in names]
    places = [list(names).index(name) for name in factors]
    betas = np.full((len(names), len(factors)), np.nan)
    if not factors:
        return factors, betas
    drivers = returns[:, places]
    for column, values in enumerate(returns.T):
        if names[column] in factors:
            continue
        both = np.isfinite(values) & np.isfinite(drivers).all(axis=1)
        if both.sum() >= MIN_BETA_DAYS:
            x, y = drivers[both] - drivers[both].mean(axis=0), values[both] - values[both].mean()
            betas[column] = np.linalg.lstsq(x, y, rcond=None)[0]
    known = np.isfinite(betas).all(axis=1)
    default = np.median(betas[known], axis=0) if known.any() else np.eye(len(factors))[0]
    betas[~known] = default
    betas[places] = np.eye(len(factors))
    return factors, betas
