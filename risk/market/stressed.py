"""How today's volatility compares with that of bad times and of ten years."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from risk.market.volatility import MIN_DAYS, log_returns, variance_path

#: Days of a year; the markets never close.
_YEAR = 365


def volatility_multiples(
    history: xr.Dataset,
    assets: Sequence[str],
    today: xr.DataArray,
    *,
    decay: float = 0.94,
    quantile: float = 0.95,
    years: int = 10,
) -> xr.Dataset:
    """Stressed and long-run volatility over today's.

    Parameters
    ----------
    history : Dataset (day, asset)
        From `risk.market.history.load_history`; only closes are read.
    assets : sequence of str
    today : DataArray (asset,)
        Daily volatility that stands for tomorrow.
    decay : float
        Exponential weight of the past in the volatility of a day.
    quantile : float
        Which of the past days' volatilities counts as stressed.
    years : int
        How far back both look.

    Returns
    -------
    Dataset (asset,)
        `stressed`, never under one, and `long_run`, the root mean square return of the years, which
        is under one when today is wild; both as multiples of `today`. `n_days` looked at. An
        asset with a shorter history than a month takes the medians of the others.
    """
    names = list(assets)
    returns = log_returns(history, names)[-years * _YEAR :]
    n_days = np.isfinite(returns).sum(axis=0)
    known = n_days >= MIN_DAYS
    stressed, long_run = np.full(len(names), np.nan), np.full(len(names), np.nan)
    if known.any():
        own = returns[:, known]
        square = np.nanmean(own**2, axis=0)
        one = np.ones(known.sum())
        variance, _ = variance_path(own, 0 * one, (1 - decay) * one, decay * one, square)
        daily = today.sel(asset=np.array(names, object)[known]).values
        past = np.where(np.isfinite(own), variance, np.nan)
        stressed[known] = np.sqrt(np.nanquantile(past, quantile, axis=0)) / daily
        long_run[known] = np.sqrt(square) / daily
    for values in (stressed, long_run):
        values[~known] = np.median(values[known]) if known.any() else 1.0
    return xr.Dataset(
        {
            "stressed": ("asset", np.maximum(stressed, 1.0), {"units": "1"}),
            "long_run": ("asset", long_run, {"units": "1"}),
            "n_days": ("asset", n_days),
        },
        coords={"asset": np.array(names, object)},
    )
