"""Standard errors of tail measures, for independent and equally likely scenarios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import special, stats

from risk.measures.samples import (
    Floats,
    check_confidence,
    check_losses,
    labelled,
    over_vectors,
    rank,
)
from risk.measures.tail import tail_of


@dataclass(frozen=True)
class HarrellDavis:
    """A Harrell-Davis quantile and its jackknife standard error."""

    value: float
    standard_error: float


def value_at_risk_standard_error(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    density: str = "kernel",
    *,
    dim: str = "scenario",
) -> Any:
    """Standard error of the sample value at risk, sqrt(q (1 - q) / n) / f(x).

    Parameters
    ----------
    pnl : array_like (n,) or DataArray with `dim`
        P&L of independent, equally likely scenarios, gains positive.
    confidence : float
        Level q in (0, 1).
    density : {"kernel", "normal"}
        Density f: a Gaussian kernel (Silverman's bandwidth) at the sample value at risk, or the
        normal of the sample's mean and standard deviation at its own quantile.
    dim : str
        The dimension to measure along, for labelled P&L.

    Returns
    -------
    float or DataArray
        In the unit of `pnl`; zero for a constant sample.

    Raises
    ------
    ValueError
        As `value_at_risk`; also for fewer than two scenarios or an unknown density.

    References
    ----------
    .. [1] M. Kendall and A. Stuart, "The Advanced Theory of Statistics", vol. 1, 1972, as used in
       J. Hull, "Risk Management and Financial Institutions", section 13.3.

    Examples
    --------
    >>> round(value_at_risk_standard_error([-3.0, -1.0, 0.0, 1.0, 3.0], 0.8, "normal"), 4)
    1.4288
    """
    if density not in ("kernel", "normal"):
        raise ValueError(f"density must be 'kernel' or 'normal'; got {density!r}")
    error = _kernel_error if density == "kernel" else _normal_error
    return _one_number(error, pnl, confidence, dim)


def expected_shortfall_standard_error(
    pnl: ArrayLike | xr.DataArray, confidence: float, *, dim: str = "scenario"
) -> Any:
    """Asymptotic standard error of the expected shortfall.

    The root of (Var(L | L > VaR) + q (ES - VaR)^2) / (n (1 - q)), written as the standard
    deviation of the excess (L - VaR)+ over sqrt(n) (1 - q): the same number, fractional tail
    included.

    Parameters
    ----------
    pnl : array_like (n,) or DataArray with `dim`
        P&L of independent, equally likely scenarios, gains positive.
    confidence : float
        Level q in (0, 1).
    dim : str
        The dimension to measure along, for labelled P&L.

    Returns
    -------
    float or DataArray
        In the unit of `pnl`. It says little below some ten losses in the tail.

    Raises
    ------
    ValueError
        As `value_at_risk`; also for fewer than two scenarios.

    References
    ----------
    .. [1] B. J. Manistre and G. H. Hancock, "Variance of the CTE estimator", North American
       Actuarial Journal 9(2), 2005.

    Examples
    --------
    >>> round(expected_shortfall_standard_error(-np.arange(1.0, 1001.0), 0.975), 4)
    2.9461
    """
    return _one_number(
        lambda losses, level: shortfall_error(losses, level)[2], pnl, confidence, dim
    )


def harrell_davis(sample: ArrayLike, quantile: float) -> HarrellDavis:
    """Quantile as a weighted mean of all order statistics, with its jackknife error.

    Parameters
    ----------
    sample : array_like (n,)
        Any sample; no sign convention.
    quantile : float
        In (0, 1).

    Returns
    -------
    HarrellDavis
        `value` and `standard_error`, in the unit of the sample.

    Raises
    ------
    ValueError
        If the sample has fewer than two values or one that is not finite.

    References
    ----------
    .. [1] F. E. Harrell and C. E. Davis, "A new distribution-free quantile estimator",
       Biometrika 69(3), 1982.

    Examples
    --------
    >>> round(harrell_davis(range(11), 0.5).value, 12)
    5.0
    """
    level = check_confidence(quantile)
    x = np.sort(-check_losses(sample, "sample").ravel())
    n = x.size
    if n < 2:
        raise ValueError("a jackknife needs a sample of at least two values")
    # Leaving out the j-th value shifts the weights of n - 1 by one place from j on.
    weights = _harrell_davis_weights(n - 1, level)
    below = np.concatenate([[0.0], np.cumsum(weights * x[:-1])])
    above = np.concatenate([np.cumsum((weights * x[1:])[::-1])[::-1], [0.0]])
    left_out = below + above
    spread = (n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)
    return HarrellDavis(float(_harrell_davis_weights(n, level) @ x), math.sqrt(spread))


def _harrell_davis_weights(n: int, level: float) -> Floats:
    steps = np.arange(n + 1) / n
    return np.diff(special.betainc((n + 1) * level, (n + 1) * (1 - level), steps))


def shortfall_error(losses: Floats, confidence: float) -> tuple[float, float, float]:
    """Value at risk, expected shortfall and the standard error of the latter."""
    if losses.size < 2:
        raise ValueError("a standard error needs at least two scenarios")
    value, shortfall = tail_of(losses, confidence, None)
    excess = np.maximum(losses - value, 0.0)
    error = excess.std(ddof=1) / (math.sqrt(losses.size) * (1.0 - confidence))
    return float(value), float(shortfall), float(error)


def _normal_error(losses: Floats, confidence: float) -> float:
    height = float(stats.norm.pdf(stats.norm.ppf(confidence)))
    return _binomial_error(losses.size, confidence) * _spread(losses) / height


def _kernel_error(losses: Floats, confidence: float) -> float:
    spread, n = _spread(losses), losses.size
    if spread == 0:
        return 0.0
    quartiles = np.subtract(*np.quantile(losses, [0.75, 0.25])) / 1.34
    bandwidth = 0.9 * (min(spread, quartiles) or spread) * n**-0.2
    value = np.partition(losses, rank(n, confidence) - 1)[rank(n, confidence) - 1]
    height = float(stats.norm.pdf((losses - value) / bandwidth).mean() / bandwidth)
    return _binomial_error(n, confidence) / height


def _binomial_error(n: int, confidence: float) -> float:
    return math.sqrt(confidence * (1.0 - confidence) / n)


def _spread(losses: Floats) -> float:
    if losses.size < 2:
        raise ValueError("a standard error needs at least two scenarios")
    return float(losses.std(ddof=1))


def _one_number(function: Any, pnl: Any, confidence: float, dim: str) -> Any:
    level, array = check_confidence(confidence), labelled(pnl, dim)
    if array is None:
        return float(function(check_losses(pnl).ravel(), level))
    return over_vectors(lambda vector: function(check_losses(vector), level), array, [dim])[0]
