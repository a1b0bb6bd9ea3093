"""Windows of the past told in today's volatility: every day's move over its own, times today's.

The standardised moves of one day are kept together, so the dependence between assets is the
historical one; only its size is today's. Method and limits: ``docs/methods/historical.md``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from risk.errors import ConfigError
from risk.scenarios.moves import Ratios

#: How far a relative move may fall: a price stays above zero.
_RATIO_FLOOR = 1e-6


def rescaled_ratios(
    history: xr.Dataset,
    ends: np.ndarray,
    horizon_days: int,
    volatility: xr.Dataset,
    *,
    roll_forward: bool,
    returns: Literal["log", "relative"] = "log",
) -> Ratios:
    """Windows with each day's low, high and close rescaled to the coming day's volatility.

    Parameters
    ----------
    history : Dataset (day, asset)
    ends : ndarray of int (window,)
        Index of each window's last day, at least `horizon_days`.
    horizon_days : int
    volatility : Dataset
        `volatility` (day, asset), `next_volatility`, `omega`, `alpha` and `beta` (asset), on the
        history's days.
    roll_forward : bool
        Whether the second day's volatility follows from the first day's rescaled move (filtered
        historical simulation [1]_) or stays at tomorrow's (volatility scaling [2]_). The same for
        a horizon of one day.
    returns : {"log", "relative"}
        What is scaled. Log moves keep prices above zero; relative moves are the textbook's.

    Returns
    -------
    Ratios of ndarray (window, asset)
        In the order of the history's assets; NaN where a price or a volatility is missing.

    References
    ----------
    .. [1] G. Barone-Adesi, K. Giannopoulos and L. Vosper, "VaR without correlations for
       portfolios of derivative securities", J. Futures Markets 19, 1999.
    .. [2] J. Hull and A. White, "Incorporating volatility updating into the historical simulation
       method for value at risk", J. Risk 1(1), 1998.
    """
    own = volatility.reindex(asset=history["asset"].values)
    if not np.array_equal(own["day"].values, history["day"].values):
        raise ConfigError("the volatilities are not on the history's days; calibrate them on it")
    moves = _daily_moves(history, returns)
    sigma = own["volatility"].transpose("day", "asset").values
    shape = (len(ends), history.sizes["asset"])
    low, high, at = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    variance = np.broadcast_to(own["next_volatility"].values ** 2, shape)
    for lag in range(horizon_days - 1, -1, -1):
        day = ends - lag
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.sqrt(variance) / sigma[day]
        today = [_stretch(part[day], factor, returns) for part in moves]
        low, high = np.minimum(low, at + today[0]), np.maximum(high, at + today[1])
        at = at + today[2]
        if roll_forward:
            variance = (
                own["omega"].values + own["alpha"].values * today[2] ** 2
                + own["beta"].values * variance
            )  # fmt: skip
    low, high, last = np.exp(low), np.exp(high), np.exp(at)
    hole = ~np.isfinite(low + high + last)
    return Ratios(*(np.where(hole, np.nan, part) for part in (low, high, last)))


def _daily_moves(history: xr.Dataset, returns: str) -> Ratios:
    """Low, high and close against the close of the day before (day, asset); NaN on the first."""
    bars = history.transpose("day", "asset")
    close = bars["close"].values
    before = np.vstack([np.full((1, close.shape[1]), np.nan), close[:-1]])
    ratio = Ratios(bars["low"].values / before, bars["high"].values / before, close / before)
    return Ratios(*(np.log(part) if returns == "log" else part - 1 for part in ratio))


def _stretch(move: np.ndarray, factor: np.ndarray, returns: str) -> np.ndarray:
    """Log move of a daily move times a factor."""
    if returns == "log":
        return move * factor
    return np.log(np.maximum(1 + move * factor, _RATIO_FLOOR))
