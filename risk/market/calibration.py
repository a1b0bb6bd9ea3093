"""Calibrate the Monte Carlo model on daily closes: volatility, correlation, tails, jumps, betas.

A day's log return is Student-t diffusion plus jumps. A day is a jump day of an asset when its
return is more than `jump_threshold` EWMA volatilities. What the diffusion alone would show as jump
days is subtracted from the jump intensities, so nothing is counted twice. Method and limits:
``docs/methods/monte_carlo.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from scipy import stats

from risk.errors import ConfigError, DataError
from risk.market.betas import factor_betas, market_betas
from risk.market.dependence import shrunk_correlation
from risk.market.jumps import calibrate_jumps, diffusion_exceedances
from risk.market.residuals import ewma_residuals, garch_residuals
from risk.market.tails import (
    fit_copula_degrees_of_freedom,
    fit_degrees_of_freedom,
    margin_degrees_of_freedom,
    tail_exponents,
)
from risk.market.volatility import log_returns


def calibrate(
    history: xr.Dataset,
    assets: Sequence[str],
    *,
    volatility: Literal["ewma", "garch"] = "ewma",
    copula: bool = False,
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
    volatility : {"ewma", "garch"}
        Which volatilities standardise the returns and stand for tomorrow.
    copula : bool
        Whether margins of their own and a t-copula are fitted.
    decay : float
        EWMA weight of the past, seeded with the sample variance.
    jump_threshold : float
        In volatilities of the day before.
    common_share : float
        A day is a common jump when at least this share of the assets (and two of them) jump.
    correlation_days, beta_days : int
        How far back correlations and betas look.

    Returns
    -------
    Dataset (asset)
        All daily, of log returns. `volatility` of tomorrow, and `omega` and `persistence` of the
        days after it (0 and 1: flat); `correlation` (asset, asset_2); the scalar
        `degrees_of_freedom`; `beta`, to the asset (or ``equal_weight``) in ``attrs["market"]`` of
        the dataset and of `beta` itself, and `factor_beta` (asset, factor) to bitcoin and ether
        together, for the proxy rule; common jumps: `common_intensity` per day, `common_mean`
        and `common_sd` of the market's jump, `common_loading` and `common_residual_sd` (asset); own
        jumps: `own_intensity`, `own_mean`, `own_sd` (asset); with `copula`, `margin_df` (asset) and
        `copula_df`; `tail_exponent_falls` and `tail_exponent_rises` (Hill, asset); `pit_statistic`
        (asset) and `pit_statistic_pooled`, Kolmogorov-Smirnov distances of the diffusion's
        probability transforms from uniform, and `pit_histogram` (bin); standard errors as
        ``*_se`` (`tail_exponent_relative_se` is a fraction of the exponents); `n_days`,
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
    known = list(np.array(names)[kept])
    if volatility == "garch":
        residuals, forecast = garch_residuals(history, known, decay, jump_threshold)
    else:
        residuals, sigma = ewma_residuals(own, decay, clip=jump_threshold)
        n = len(known)
        forecast = {"volatility": sigma, "omega": np.zeros(n), "persistence": np.ones(n)}
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
    recent = own[-beta_days:]
    market, beta, beta_se = market_betas(recent, known)
    factors, loadings = factor_betas(recent, known)

    n_eff = (1 + decay) / (1 - decay)
    kurtosis = np.nanmean(clipped**4, axis=0) / np.nanmean(clipped**2, axis=0) ** 2
    scalars = {name: value for name, value in jumps.items() if not np.ndim(value)}
    margins = np.full(len(known), df)
    if copula:
        margins, margins_se = margin_degrees_of_freedom(calm, df)
        fitted = fit_copula_degrees_of_freedom(calm, margins, correlation)
        scalars |= dict(zip(("copula_df", "copula_df_se"), fitted, strict=True))
    pit = np.asarray(stats.t.cdf(calm / np.sqrt((margins - 2) / margins), margins))
    falls, rises, exponent_se = tail_exponents(residuals)
    per_asset = {
        **forecast,
        "volatility_se": forecast["volatility"] * np.sqrt((kurtosis - 1) / (4 * n_eff)),
        "tail_exponent_falls": falls,
        "tail_exponent_rises": rises,
        "tail_exponent_relative_se": exponent_se,
        "beta": beta,
        "beta_se": beta_se,
        "pit_statistic": np.array([_uniform_distance(column) for column in pit.T]),
        **{name: value for name, value in jumps.items() if np.ndim(value)},
    }
    if copula:
        per_asset |= {"margin_df": margins, "margin_df_se": margins_se}
    data: dict[str, tuple] = {
        name: ("asset", _spread(value, kept), {"units": _unit(name)})
        for name, value in per_asset.items()
    }
    data |= {name: ((), value, {"units": _unit(name)}) for name, value in scalars.items()}
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
            "volatility_model": volatility,
            "method": (
                f"{_VOLATILITY_WORDS[volatility].format(decay)}; correlation of "
                f"standardised returns of {correlation_days} days, shrunk {shrinkage:.3f} towards "
                "its mean, eigenvalues floored; Student-t by maximum likelihood on days without "
                f"jumps; jumps beyond {jump_threshold:g} volatilities, less those the diffusion "
                "itself shows"
            ),
        },
    )


_VOLATILITY_WORDS = {
    "ewma": "EWMA {:g} without mean, seeded with the sample variance",
    "garch": "GARCH(1,1) per asset with Student-t innovations, scaled to returns clipped as jumps "
    "are (EWMA {:g} where there is no fit)",
}


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
    if fill is None:
        known = values[np.isfinite(values)]
        fill = float(np.median(known)) if len(known) else np.nan
    out = np.full(len(kept), fill, values.dtype)
    out[kept] = values
    return out


def _spread_rows(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`_spread` of every column; there may be none."""
    columns = [_spread(column, kept) for column in values.T]
    return np.stack(columns, axis=1) if columns else np.empty((len(kept), 0))


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
