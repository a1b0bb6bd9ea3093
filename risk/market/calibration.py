"""Calibrate the Monte Carlo model on daily closes: volatility, correlation, tails, jumps, betas.

A day's log return is Student-t diffusion plus jumps. A day is a jump day of an asset when its
return is more than `jump_threshold` EWMA volatilities. What the diffusion alone would show as jump
days is subtracted from the jump intensities, so nothing is counted twice. Method and limits:
``docs/methods/monte_carlo.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import optimize, stats

from risk.errors import ConfigError, DataError
from risk.market.betas import factor_betas, market_betas
from risk.market.dependence import shrunk_correlation
from risk.market.jumps import calibrate_jumps, diffusion_exceedances
from risk.market.volatility import log_returns, variance_path

#: Degrees of freedom are sought between these; at the top the tail is Gaussian to the eye.
DF_BOUNDS = (2.2, 60.0)


def calibrate(
    history: xr.Dataset,
    assets: Sequence[str],
    *,
    decay: float = 0.94,
    jump_threshold: float = 4.0,
    common_share: float = 0.25,
    min_days: int = 60,
    correlation_days: int = 730,
    beta_days: int = 365,
) -> xr.Dataset:
    """Parameters of the Monte Carlo model as of the history's last day.

    Parameters
    ----------
    history : Dataset (day, asset)
        From `risk.market.history.load_history`; only closes are read.
    assets : sequence of str
        The universe. An asset absent from the history, or with fewer than `min_days` returns, takes
        the cross-section's medians and is flagged in `proxied`.
    decay : float
        EWMA weight of the past, seeded with the sample variance.
    jump_threshold : float
        In EWMA volatilities of the day before.
    common_share : float
        A day is a common jump when at least this share of the assets (and two of them) jump.
    correlation_days, beta_days : int
        How far back correlations and betas look.

    Returns
    -------
    Dataset (asset)
        All daily, of log returns. `volatility`; `correlation` (asset, asset_2); the scalar
        `degrees_of_freedom`; `beta`, to the asset (or ``equal_weight``) in ``attrs["market"]`` of
        the dataset and of `beta` itself, and `factor_beta` (asset, factor) to bitcoin and ether
        together, for the proxy rule; common jumps: `common_intensity` per day, `common_mean`
        and `common_sd` of the market's jump, `common_loading` and `common_residual_sd` (asset); own
        jumps: `own_intensity`, `own_mean`, `own_sd` (asset); `pit_statistic` (asset) and
        `pit_statistic_pooled`, Kolmogorov-Smirnov distances of the diffusion's probability
        transforms from uniform, and `pit_histogram` (bin); standard errors as ``*_se``; `n_days`,
        `n_jumps` and `proxied` (asset).

    Raises
    ------
    ConfigError
        If no asset has `min_days` returns, or a setting is out of range.
    DataError
        If a price never moves.
    """
    _check_settings(decay, jump_threshold, common_share, min_days)
    names = sorted(set(assets))
    returns = log_returns(history, names)
    n_days = np.isfinite(returns).sum(axis=0)
    kept = n_days >= min_days
    if not kept.any():
        raise ConfigError(
            f"no asset has {min_days} daily returns; give a longer history or lower min_days"
        )
    own = returns[:, kept]
    if (still := np.nanmax(np.abs(own), axis=0) == 0).any():
        frozen = ", ".join(np.array(names)[kept][still])
        raise DataError(f"the price of {frozen} never moves; leave it out or correct the history")
    residuals, volatility = ewma_residuals(own, decay, clip=jump_threshold)
    big = np.abs(residuals) > jump_threshold
    alive = np.isfinite(residuals)
    n_alive = alive.sum(axis=1)
    is_common = big.sum(axis=1) >= np.maximum(common_share * n_alive, 2)
    calm = np.where(big | is_common[:, None], np.nan, residuals)
    df, df_se = fit_degrees_of_freedom(calm)

    clipped = np.clip(residuals, -jump_threshold, jump_threshold)
    correlation, shrinkage = shrunk_correlation(clipped[-correlation_days:], min_days)
    expected = diffusion_exceedances(correlation, df, jump_threshold, common_share)
    jumps = calibrate_jumps(own, big, is_common, expected)
    recent, known = own[-beta_days:], list(np.array(names)[kept])
    market, beta, beta_se = market_betas(recent, known)
    factors, loadings = factor_betas(recent, known)

    n_eff = (1 + decay) / (1 - decay)
    kurtosis = np.nanmean(clipped**4, axis=0) / np.nanmean(clipped**2, axis=0) ** 2
    pit = stats.t.cdf(calm / np.sqrt((df - 2) / df), df)
    per_asset = {
        "volatility": volatility,
        "volatility_se": volatility * np.sqrt((kurtosis - 1) / (4 * n_eff)),
        "beta": beta,
        "beta_se": beta_se,
        "pit_statistic": np.array([_uniform_distance(column) for column in pit.T]),
        **{name: value for name, value in jumps.items() if np.ndim(value)},
    }
    data: dict[str, tuple] = {
        name: ("asset", _spread(value, kept), {"units": _unit(name)})
        for name, value in per_asset.items()
    }
    data |= {
        name: ((), value, {"units": _unit(name)})
        for name, value in jumps.items()
        if not np.ndim(value)
    }
    data["beta"][2]["market"] = market
    counts, _ = np.histogram(pit[np.isfinite(pit)], bins=20, range=(0, 1))
    data |= {
        "correlation": (("asset", "asset_2"), _spread_correlation(correlation, kept)),
        "factor_beta": (("asset", "factor"), _spread_rows(loadings, kept), {"units": "1"}),
        "degrees_of_freedom": ((), df),
        "degrees_of_freedom_se": ((), df_se),
        "pit_statistic_pooled": ((), _uniform_distance(pit.ravel())),
        "pit_histogram": ("bin", counts / max(counts.sum(), 1)),
        "n_days": ("asset", n_days),
        "n_jumps": ("asset", _spread((big & ~is_common[:, None]).sum(axis=0), kept, fill=0)),
        "proxied": ("asset", ~kept),
    }
    days = history["day"].values.astype("M8[D]")
    return xr.Dataset(
        data,
        coords={
            "asset": np.array(names, object),
            "asset_2": np.array(names, object),
            "factor": np.array(factors, object),
        },
        attrs={
            "first_day": str(days[0]),
            "last_day": str(days[-1]),
            "market": market,
            "decay": decay,
            "jump_threshold": jump_threshold,
            "common_share": common_share,
            "shrinkage": shrinkage,
            "method": (
                f"EWMA {decay:g} without mean, seeded with the sample variance; correlation of "
                f"standardised returns of {correlation_days} days, shrunk {shrinkage:.3f} towards "
                "its mean, eigenvalues floored; Student-t by maximum likelihood on days without "
                f"jumps; jumps beyond {jump_threshold:g} volatilities, less those the diffusion "
                "itself shows"
            ),
        },
    )


def ewma_residuals(
    returns: np.ndarray, decay: float, *, clip: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Standardise returns by the EWMA volatility known the day before.

    Parameters
    ----------
    returns : ndarray (day, asset)
        Log returns; NaN leaves the volatility unchanged.
    decay : float
        Weight of the past; the start is the sample variance (divisor n - 1).
    clip : float
        A return enters the next volatility at no more than this many volatilities, so that a jump
        raises it without becoming diffusion for months.

    Returns
    -------
    residuals : ndarray (day, asset)
    volatility : ndarray (asset,)
        After the last day: what the next day is expected to do.

    Examples
    --------
    >>> residuals, volatility = ewma_residuals(np.array([[0.01], [-0.03]]), 0.5)
    >>> residuals.round(3).ravel().tolist(), volatility.round(4).tolist()
    ([0.354, -1.414], [0.026])
    """
    n = returns.shape[1]
    start = np.nanvar(returns, axis=0, ddof=1)
    weights = np.zeros(n), np.full(n, 1 - decay), np.full(n, decay)
    variance, following = variance_path(returns, *weights, start, clip=clip)
    return returns / np.sqrt(variance), np.sqrt(following)


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
    if there.sum() < 30:
        raise DataError("fewer than 30 standardised returns; give a longer history")
    day = np.nonzero(there)[0]
    values = residuals[there]

    def log_density(df: float) -> np.ndarray:
        return stats.t.logpdf(values, df, scale=np.sqrt((df - 2) / df))

    fit = optimize.minimize_scalar(
        lambda df: -log_density(df).sum(),
        bounds=DF_BOUNDS,
        method="bounded",
        options={"xatol": 1e-8},
    )
    df, step = float(fit.x), 1e-2
    up, here, down = log_density(df + step), log_density(df), log_density(df - step)
    score = np.bincount(day, (up - down) / (2 * step))
    curvature = -(up.sum() - 2 * here.sum() + down.sum()) / step**2
    error = np.sqrt((score**2).sum()) / curvature if curvature > 0 else np.nan
    return df, float(error)


def _check_settings(decay: float, threshold: float, share: float, min_days: int) -> None:
    for name, value, low, high in (
        ("decay", decay, 0.0, 1.0),
        ("common_share", share, 0.0, 1.0),
        ("jump_threshold", threshold, 1.0, np.inf),
        ("min_days", min_days, 29, np.inf),
    ):
        if not low < value < high:
            raise ConfigError(
                f"calibration: {name} is {value:g}; choose one above {low:g}"
                + (f" and below {high:g}" if np.isfinite(high) else "")
            )


def _spread(values: np.ndarray, kept: np.ndarray, fill: float | None = None) -> np.ndarray:
    """Put values of the kept assets among all; the others take the median (or `fill`)."""
    out = np.full(len(kept), np.nanmedian(values) if fill is None else fill, values.dtype)
    out[kept] = values
    return out


def _spread_rows(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`_spread` of every column."""
    return np.stack([_spread(column, kept) for column in values.T], axis=1)


def _spread_correlation(correlation: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Give a proxied asset the market's mean correlation with everything.

    Such a row is that of a noisy copy of the equal-weight market, so the matrix stays definite.
    """
    n, m = len(kept), len(correlation)
    out = np.eye(n)
    out[np.ix_(kept, kept)] = correlation
    new = np.flatnonzero(~kept)
    if not len(new):
        return out
    mean = (correlation.sum() - m) / (m * (m - 1)) if m > 1 else 0.5
    # Loading of a copy on the standardised market: its own variance makes up the rest.
    row_sums = correlation.sum(axis=1)
    market_sd = np.sqrt(row_sums.sum())
    loading = np.sqrt(max(mean, 0.0))
    out[np.ix_(new, kept)] = loading * row_sums / market_sd
    out[np.ix_(kept, new)] = out[np.ix_(new, kept)].T
    out[np.ix_(new, new)] = loading**2
    out[new, new] = 1.0
    return out


def _unit(name: str) -> str:
    """Moves and their spread are daily log returns, which have no unit."""
    return "1/day" if "intensity" in name else "1"


def _uniform_distance(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(stats.kstest(values, "uniform").statistic) if len(values) else np.nan
