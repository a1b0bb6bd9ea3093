"""Returns standardised by the volatility known the day before, and tomorrow's volatility."""

from __future__ import annotations

import numpy as np
import xarray as xr

from risk.market.volatility import garch_model, log_returns, variance_path


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


def garch_residuals(
    history: xr.Dataset, assets: list[str], decay: float, clip: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Standardised returns (day, asset), and tomorrow's volatility with its mean reversion.

    The fit's variance includes the jumps, which are drawn apart: residuals are scaled to unit
    variance once clipped, and the volatilities with them.
    """
    model = garch_model(history, assets, decay=decay)
    residuals = log_returns(history, assets) / model["volatility"].values[1:]
    scale = np.sqrt(np.nanmean(np.clip(residuals, -clip, clip) ** 2, axis=0))
    persistence = (model["alpha"] + model["beta"]).values
    return residuals / scale, {
        "volatility": model["next_volatility"].values * scale,
        "omega": model["omega"].values * scale**2,
        "persistence": persistence,
    }
