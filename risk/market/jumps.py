"""Jumps by threshold: how often many assets jump together, how often one alone, and how far."""

from __future__ import annotations

import numpy as np

#: Days simulated to learn how often the diffusion alone crosses the threshold.
SIMULATED_DAYS = 40_000

#: Weight of the cross-section in one asset's own jumps, in jumps.
PRIOR_JUMPS = 5.0

#: Weight of the cross-section in one asset's own jump intensity, in days.
PRIOR_DAYS = 365.0


def diffusion_exceedances(
    correlation: np.ndarray, df: float, threshold: float, common_share: float
) -> tuple[float, float]:
    """Daily rates at which jump-free multivariate Student-t days look like jump days.

    Estimated from a fixed simulation (its own constant seed), so it is a pure function.

    Returns
    -------
    common_rate, own_rate : float
        Share of days with a common jump; mean share of (day, asset) with an own one.
    """
    rng = np.random.Generator(np.random.Philox(20_200_312))
    factor = np.linalg.cholesky(correlation)
    n_assets = len(correlation)
    common = own = 0
    for _ in range(SIMULATED_DAYS // 4000):
        normal = rng.standard_normal((4000, n_assets)) @ factor.T
        mixing = np.sqrt((df - 2) / rng.chisquare(df, (4000, 1)))
        big = np.abs(normal * mixing) > threshold
        together = big.sum(axis=1) >= max(common_share * n_assets, 2)
        common += int(together.sum())
        own += int(big[~together].sum())
    return common / SIMULATED_DAYS, own / SIMULATED_DAYS / n_assets


def calibrate_jumps(
    returns: np.ndarray, big: np.ndarray, is_common: np.ndarray, expected: tuple[float, float]
) -> dict[str, np.ndarray | float]:
    """Intensity and log size of common and own jumps.

    A common jump moves the market (the mean return of the assets alive) by a normal amount, each
    asset by its loading times that plus a residual. Own jumps shrink towards the cross-section,
    measured in each asset's sample volatility. Intensities are the observed rates less `expected`;
    the variance of a day's diffusion is taken off the variances of the sizes.

    Parameters
    ----------
    returns : ndarray (day, asset)
        Log returns, NaN where there is none.
    big : ndarray of bool (day, asset)
        Returns beyond the threshold.
    is_common : ndarray of bool (day,)
        Days on which many assets jumped.
    expected : tuple of float
        From `diffusion_exceedances`.

    Returns
    -------
    dict
        Scalars `common_intensity`, `common_intensity_se` (per day), `common_mean`, `common_sd`,
        `n_common_jumps`; arrays (asset,) `common_loading`, `common_residual_sd`, `own_intensity`,
        `own_intensity_se`, `own_mean`, `own_sd`.
    """
    there = np.isfinite(returns)
    calm = np.where(big | is_common[:, None], np.nan, returns)
    diffusion = np.nanvar(calm, axis=0)
    sample_sd = np.sqrt(np.nanvar(returns, axis=0, ddof=1))
    n_days, n_assets = returns.shape
    n_common = int(is_common.sum())
    common_rate, own_rate = expected
    out: dict[str, np.ndarray | float] = {
        "n_common_jumps": n_common,
        "common_intensity": max(n_common / n_days - common_rate, 0.0),
        "common_intensity_se": np.sqrt(n_common) / n_days,
        "common_mean": 0.0,
        "common_sd": 0.0,
        "common_loading": np.ones(n_assets),
        "common_residual_sd": np.zeros(n_assets),
    }
    if n_common:
        moves = returns[is_common]
        market = np.nanmean(moves, axis=1)
        out["common_mean"] = float(market.mean())
        out["common_sd"] = float(market.std(ddof=1)) if n_common > 1 else abs(float(market[0])) / 2
        weight = np.where(np.isfinite(moves), market[:, None] ** 2, 0.0)
        total = (market**2).sum()
        # One more market's worth of evidence for a loading of one keeps young assets sane.
        prior = total / n_common
        slope = np.nansum(moves * market[:, None], axis=0) + prior
        loading = slope / (weight.sum(axis=0) + prior)
        alive = np.isfinite(moves).sum(axis=0)
        left = np.nansum((moves - loading * market[:, None]) ** 2, axis=0) / np.maximum(alive, 1)
        spread = np.where(alive > 0, left, left[alive > 0].mean())
        out["common_loading"] = loading
        out["common_residual_sd"] = np.sqrt(np.maximum(spread - diffusion, 0.25 * spread))

    own = big & ~is_common[:, None]
    days = (there & ~is_common[:, None]).sum(axis=0)
    count = own.sum(axis=0)
    pooled_rate = count.sum() / days.sum()
    rate = (count + PRIOR_DAYS * pooled_rate) / (days + PRIOR_DAYS)
    out["own_intensity"] = np.maximum(rate - own_rate, 0.0)
    out["own_intensity_se"] = np.sqrt(np.maximum(count, 1)) / days
    scaled = np.where(own, returns / sample_sd, 0.0)
    total_count = max(count.sum(), 1)
    pooled_mean = scaled.sum() / total_count
    pooled_square = (scaled**2).sum() / total_count
    mean = (scaled.sum(axis=0) + PRIOR_JUMPS * pooled_mean) / (count + PRIOR_JUMPS)
    square = ((scaled**2).sum(axis=0) + PRIOR_JUMPS * pooled_square) / (count + PRIOR_JUMPS)
    # One jump alone has no spread: its square less its mean squared may round below zero.
    spread = np.maximum(square - mean**2, 0.0) * sample_sd**2
    out["own_mean"] = mean * sample_sd
    out["own_sd"] = np.sqrt(np.maximum(spread - diffusion, 0.25 * spread))
    return out
