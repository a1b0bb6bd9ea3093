"""A volatility for every asset and day: exponentially weighted, or GARCH fitted per asset.

Both are one recursion, ``v' = omega + alpha r^2 + beta v``: the exponential weights have no omega
and weights that add up to one. Scenarios take the volatilities and roll the recursion forward
(``docs/methods/historical.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from risk.errors import ConfigError

#: Fewest daily returns an asset needs for a volatility of its own.
MIN_DAYS = 30

#: Fewest daily returns a GARCH fit is tried on; below it the asset takes exponential weights.
MIN_GARCH_DAYS = 250


def variance_path(
    returns: np.ndarray,
    omega: np.ndarray,
    alpha: np.ndarray,
    beta: np.ndarray,
    start: np.ndarray,
    *,
    clip: float = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of each day's return as known the day before, and of the day after the last.

    Parameters
    ----------
    returns : ndarray (day, asset)
        NaN leaves the variance where it is: a hole says nothing about volatility.
    omega, alpha, beta : ndarray (asset,)
        Constant, weight of the squared return, weight of the variance.
    start : ndarray (asset,)
        Variance of the first day's return.
    clip : float
        A return enters at no more than this many standard deviations.

    Returns
    -------
    variance : ndarray (day, asset)
    following : ndarray (asset,)

    Examples
    --------
    Hull's worked GARCH(1,1): 1.6 % a day, a fall of 1 %, next 1.53 %.

    >>> one = np.ones(1)
    >>> _, following = variance_path(
    ...     np.array([[-0.01]]), 2e-6 * one, 0.13 * one, 0.86 * one, 0.016**2 * one)
    >>> f"{following[0]:.8f}", f"{following[0] ** 0.5:.4f}"
    ('0.00023516', '0.0153')
    """
    variance = np.array(start, "f8")
    path = np.empty(returns.shape)
    for day, move in enumerate(returns):
        path[day] = variance
        bound = clip * np.sqrt(variance)
        kept = np.clip(move, -bound, bound)
        after = omega + alpha * kept**2 + beta * variance
        variance = np.where(np.isfinite(move), after, variance)
    return path, variance


def expected_variance(
    following: np.ndarray, omega: np.ndarray, persistence: np.ndarray, days: int
) -> np.ndarray:
    """Expected variance of the day `days` after tomorrow (0: tomorrow itself).

    Mean reversion to omega / (1 - persistence); with a persistence of one it grows by omega a day.

    References
    ----------
    .. [1] J. Hull, "Risk Management and Financial Institutions", chapter on volatility, using
       GARCH(1,1) to forecast future volatility.

    Examples
    --------
    >>> one = np.ones(1)
    >>> later = expected_variance(0.03**2 * one, 8e-6 * one, 0.98 * one, 10)
    >>> round(float(later[0]), 6)
    0.000809
    """
    variance = np.array(following, "f8")
    for _ in range(days):
        variance = omega + persistence * variance
    return variance


def ewma_model(
    history: xr.Dataset,
    assets: Sequence[str],
    *,
    decay: float = 0.94,
    returns: Literal["log", "relative"] = "log",
) -> xr.Dataset:
    """Exponentially weighted volatilities, seeded with the sample variance.

    Parameters
    ----------
    history : Dataset (day, asset)
        From `risk.market.history.load_history`; only closes are read.
    assets : sequence of str
    decay : float
        Weight of the past, in (0, 1).
    returns : {"log", "relative"}
        Whose volatility; relative returns are the textbook's.

    Returns
    -------
    Dataset
        Daily: `volatility` (day, asset) of each day's return as known the day
        before (NaN on the first day and for assets with fewer than 30 returns),
        `next_volatility`, `omega`, `alpha`, `beta` and `method` (asset). Days are the history's.

    Raises
    ------
    ConfigError
        If `decay` is out of range.
    """
    if not 0 < decay < 1:
        raise ConfigError(f"volatility: decay is {decay:g}; choose one above 0 and below 1")
    moves = log_returns(history, assets)
    if returns == "relative":
        moves = np.expm1(moves)
    n = len(assets)
    terms = {
        "omega": np.zeros(n),
        "alpha": np.full(n, 1 - decay),
        "beta": np.full(n, decay),
        "start": _sample_variance(moves),
    }
    return _model(history, assets, moves, terms, ["ewma"] * n)


def garch_model(
    history: xr.Dataset,
    assets: Sequence[str],
    *,
    decay: float = 0.94,
    min_days: int = MIN_GARCH_DAYS,
) -> xr.Dataset:
    """GARCH(1,1) volatilities with Student-t innovations, fitted asset by asset.

    The mean is zero. Days without a return are left out of the likelihood; a young asset, or one
    whose fit does not converge, takes exponential weights and says so in `method`.

    Parameters
    ----------
    history : Dataset (day, asset)
    assets : sequence of str
    decay : float
        Of the exponential weights of assets without a fit.
    min_days : int
        Fewest returns a fit is tried on.

    Returns
    -------
    Dataset
        As `ewma_model`, with `degrees_of_freedom`, `persistence`, `log_likelihood` and the robust
        standard errors ``omega_se``, ``alpha_se``, ``beta_se``, ``degrees_of_freedom_se`` (asset),
        NaN where there is no fit.

    References
    ----------
    .. [1] T. Bollerslev, "Generalized autoregressive conditional heteroskedasticity", J.
       Econometrics 31, 1986; "A conditionally heteroskedastic time series model for speculative
       prices and rates of return", Rev. Economics and Statistics 69, 1987 (Student-t).
    """
    model = ewma_model(history, assets, decay=decay)
    returns = log_returns(history, assets)
    terms = {name: model[name].values.copy() for name in ("omega", "alpha", "beta")}
    terms["start"] = _sample_variance(returns)
    method = ["ewma"] * len(assets)
    fitted = {name: np.full(len(assets), np.nan) for name in _FITTED}
    for place in range(len(assets)):
        own = returns[np.isfinite(returns[:, place]), place]
        found = _fit(own) if len(own) >= min_days and np.ptp(own) > 0 else None
        if found is None:
            continue
        method[place] = "garch"
        for name in terms:
            terms[name][place] = found[name]
        for name in fitted:
            fitted[name][place] = found[name]
    out = _model(history, assets, returns, terms, method)
    units = {"log_likelihood": "1", "omega_se": "1/day"}
    return out.assign(
        {
            name: ("asset", values, {"units": units.get(name, "1")})
            for name, values in fitted.items()
        }
    )


#: What a fit says beside the recursion's own terms.
_FITTED = (
    "degrees_of_freedom", "persistence", "log_likelihood",
    "omega_se", "alpha_se", "beta_se", "degrees_of_freedom_se",
)  # fmt: skip


def _fit(own: np.ndarray) -> dict[str, float] | None:
    """Terms of one asset's GARCH(1,1), or None where the optimiser does not converge."""
    # A second of import that no other command should pay for.
    from arch.univariate import GARCH, StudentsT, ZeroMean

    percent = 100.0  # the optimiser wants returns of order one
    model = ZeroMean(
        own * percent, volatility=GARCH(1, 0, 1), distribution=StudentsT(), rescale=False
    )
    result = model.fit(disp="off", show_warning=False)
    omega, alpha, beta, df = (float(value) for value in result.params)
    first = float(result.conditional_volatility[0])
    if result.convergence_flag or not np.isfinite([omega, alpha, beta, df, first]).all():
        return None
    errors = [float(value) for value in result.std_err]
    return {
        "omega": omega / percent**2,
        "alpha": alpha,
        "beta": beta,
        "start": (first / percent) ** 2,
        "degrees_of_freedom": df,
        "persistence": alpha + beta,
        "log_likelihood": float(result.loglikelihood) + len(own) * np.log(percent),
        "omega_se": errors[0] / percent**2,
        "alpha_se": errors[1],
        "beta_se": errors[2],
        "degrees_of_freedom_se": errors[3],
    }


def log_returns(history: xr.Dataset, assets: Sequence[str]) -> np.ndarray:
    """Returns between consecutive days that both have a close; NaN across a hole."""
    close = history["close"].reindex(asset=list(assets)).transpose("day", "asset").values
    return np.diff(np.log(close), axis=0)


def _sample_variance(returns: np.ndarray) -> np.ndarray:
    """Divisor n - 1; NaN where there are too few returns for a volatility."""
    enough = np.isfinite(returns).sum(axis=0) >= MIN_DAYS
    variance = np.full(returns.shape[1], np.nan)
    variance[enough] = np.nanvar(returns[:, enough], axis=0, ddof=1)
    return variance


def _model(
    history: xr.Dataset,
    assets: Sequence[str],
    returns: np.ndarray,
    terms: dict[str, np.ndarray],
    method: Sequence[str],
) -> xr.Dataset:
    path, following = variance_path(
        returns, terms["omega"], terms["alpha"], terms["beta"], terms["start"]
    )
    empty = np.full((1, len(assets)), np.nan)
    daily = np.sqrt(np.vstack([empty, path]))
    units = {"omega": "1/day", "alpha": "1", "beta": "1"}
    return xr.Dataset(
        {
            "volatility": (("day", "asset"), daily, {"units": "1"}),
            "next_volatility": ("asset", np.sqrt(following), {"units": "1"}),
            "method": ("asset", np.asarray(method, object)),
        }
        | {name: ("asset", terms[name], {"units": unit}) for name, unit in units.items()},
        coords={"day": history["day"].values, "asset": np.asarray(assets, object)},
    )
