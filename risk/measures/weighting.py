"""Recent days count more: age weights, and returns scaled to today's volatility."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from risk.measures.samples import Floats, SampleError


def age_weights(n: int, decay: float) -> Floats:
    """Exponentially falling weights of `n` scenarios, oldest first, adding up to one.

    Parameters
    ----------
    n : int
        Number of scenarios, at least 1.
    decay : float
        Weight of a day over that of the day after it, in (0, 1]; 1 weighs all alike.

    Returns
    -------
    ndarray (n,)
        ``decay**(n - i) (1 - decay) / (1 - decay**n)`` for i = 1..n.

    Raises
    ------
    ValueError
        If `n` is below 1 or `decay` outside (0, 1].

    References
    ----------
    .. [1] J. Boudoukh, M. Richardson and R. Whitelaw, "The best of both worlds", Risk 11(5), 1998.

    Examples
    --------
    >>> age_weights(3, 0.5).round(4).tolist()
    [0.1429, 0.2857, 0.5714]
    """
    if not (np.isfinite(n) and n == int(n) and n >= 1):
        raise ValueError(f"n must be a whole number, at least 1; got {n}")
    _check_decay(decay)
    weights = decay ** np.arange(n - 1, -1, -1, dtype="f8")
    return weights / weights.sum()


def volatility_scaled(
    returns: ArrayLike | xr.DataArray, decay: float, *, dim: str = "scenario"
) -> Floats | xr.DataArray:
    """Returns rescaled to the volatility of the day after the last one.

    The variance is an exponentially weighted mean of squares without a mean, seeded with the
    sample variance; each return is multiplied by sigma(n + 1) / sigma(i).

    Parameters
    ----------
    returns : array_like (n,) or (n, k), or DataArray with `dim`
        Returns or P&L, oldest first; columns are scaled one by one.
    decay : float
        Weight of yesterday's variance, in (0, 1).
    dim : str
        The time dimension, for labelled returns.

    Returns
    -------
    ndarray or DataArray
        Same shape, unit and labels as `returns`.

    Raises
    ------
    ValueError
        If there are fewer than two returns, one is not finite, or `decay` is outside (0, 1].

    References
    ----------
    .. [1] J. Hull and A. White, "Incorporating volatility updating into the historical
       simulation method for value at risk", Journal of Risk 1(1), 1998.

    Examples
    --------
    >>> volatility_scaled([1.0, -1.0, 1.0, -1.0], 1.0).tolist()
    [1.0, -1.0, 1.0, -1.0]
    """
    _check_decay(decay)
    if isinstance(returns, xr.DataArray):
        return xr.apply_ufunc(
            lambda block: np.moveaxis(_scaled(np.moveaxis(block, -1, 0), decay), 0, -1),
            returns,
            input_core_dims=[[dim]],
            output_core_dims=[[dim]],
            keep_attrs=True,
        ).transpose(*returns.dims)
    return _scaled(np.asarray(returns, "f8"), decay)


def _scaled(returns: Floats, decay: float) -> Floats:
    if returns.ndim == 0 or returns.shape[0] < 2:
        raise SampleError("a volatility needs at least two returns")
    if not np.isfinite(returns).all():
        raise SampleError("returns must be finite: drop or fill the missing days first")
    variance = returns.var(axis=0, ddof=1)
    sigma = np.empty_like(returns)
    for day, row in enumerate(returns):
        sigma[day] = np.sqrt(variance)
        variance = decay * variance + (1.0 - decay) * row**2
    # A series that never moves has no volatility, before or after: it stays as it is.
    ratio = np.divide(np.sqrt(variance), sigma, out=np.ones_like(sigma), where=sigma > 0)
    return returns * ratio


def _check_decay(decay: float) -> None:
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"decay must lie in (0, 1]; got {decay}")
