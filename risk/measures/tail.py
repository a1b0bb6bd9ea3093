"""Tail measures of a P&L vector: value at risk and expected shortfall.

Gains are positive in `pnl`; every measure is a loss, so a bad tail is a large positive number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from risk.measures.samples import (
    Floats,
    check_confidence,
    check_losses,
    check_weights,
    first_reaching,
    labelled,
    over_vectors,
    rank,
)


def value_at_risk(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    *,
    weights: Any = None,
    dim: str = "scenario",
) -> Any:
    """Smallest loss that is not exceeded with probability `confidence`.

    The loss of rank ``ceil(n * confidence)`` counted from the smallest: the 6th worst of 500 at
    99 %. (Hull takes the 5th; an interpolated quantile lies between the two.)

    Parameters
    ----------
    pnl : array_like (..., n) or DataArray with `dim`
        P&L, gains positive, any currency.
    confidence : float
        Level in (0, 1), such as 0.99.
    weights : array_like (n,), optional
        Probability of each scenario, adding up to one; equal when absent.
    dim : str
        The dimension to measure along, for labelled P&L.

    Returns
    -------
    float, ndarray (...) or DataArray (...)
        Loss in the unit of `pnl`, positive is bad; negative where even the tail gains.

    Raises
    ------
    ValueError
        If the level is outside (0, 1), the sample is empty or holds a value that is not finite,
        or the weights do not add up to one.

    References
    ----------
    .. [1] A. McNeil, R. Frey and P. Embrechts, "Quantitative Risk Management", 2nd ed., 2015,
       definition 2.8.

    Examples
    --------
    >>> value_at_risk([-10.0, -4.0, 1.0, 3.0], 0.5)
    -1.0
    >>> value_at_risk([-10.0, -4.0, 1.0, 3.0], 0.75)
    4.0
    """
    return _measure(pnl, confidence, weights, dim)[0]


def expected_shortfall(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    *,
    weights: Any = None,
    dim: str = "scenario",
) -> Any:
    """Mean loss over the worst ``1 - confidence`` of the probability.

    The coherent estimator: where the tail is not a whole number of scenarios, the scenario at its
    edge enters with the fraction that is missing.

    Parameters
    ----------
    pnl : array_like (..., n) or DataArray with `dim`
        P&L, gains positive, any currency.
    confidence : float
        Level in (0, 1), such as 0.975.
    weights : array_like (n,), optional
        Probability of each scenario, adding up to one; equal when absent.
    dim : str
        The dimension to measure along, for labelled P&L.

    Returns
    -------
    float, ndarray (...) or DataArray (...)
        Loss in the unit of `pnl`. Never below the value at risk at the same level, never above
        the worst loss.

    Raises
    ------
    ValueError
        As `value_at_risk`.

    References
    ----------
    .. [1] C. Acerbi and D. Tasche, "On the coherence of expected shortfall", Journal of Banking
       and Finance 26, 2002, definition 2.6.

    Examples
    --------
    >>> expected_shortfall([-10.0, -4.0, 1.0, 3.0], 0.5)
    7.0
    >>> round(expected_shortfall(-np.arange(1.0, 101.0), 0.975), 9)  # whole ranks would say 99.0
    99.2
    """
    return _measure(pnl, confidence, weights, dim)[1]


def _measure(pnl: Any, confidence: float, weights: Any, dim: str) -> tuple[Any, Any]:
    confidence = check_confidence(confidence)
    array = labelled(pnl, dim)
    if weights is not None:
        weights = np.asarray(weights, "f8")
    if array is not None:
        value, shortfall = over_vectors(
            lambda values: tail_of(check_losses(values), confidence, weights),
            array,
            [dim],
            2,
            one_by_one=False,
        )
        return value, shortfall
    value, shortfall = tail_of(check_losses(pnl), confidence, weights)
    return (value.item(), shortfall.item()) if value.ndim == 0 else (value, shortfall)


def tail_of(
    losses: Floats, confidence: float, weights: Floats | None, *, is_sorted: bool = False
) -> tuple[Any, Any]:
    """Value at risk and expected shortfall of losses (..., n), in any order or sorted ascending.

    The shortfall is written as VaR + E[(L - VaR)+] / (1 - c): equal to the fractional tail mean,
    and never below the value at risk by rounding.
    """
    n = losses.shape[-1]
    if weights is None:
        k = rank(n, confidence) - 1
        tail = (losses if is_sorted else np.partition(losses, k, axis=-1))[..., k:]
        value = tail[..., 0]
        excess = (tail - value[..., None]).sum(axis=-1) / n
    else:
        weights = check_weights(weights, n)
        flat = losses.reshape(-1, n)
        value = np.empty(flat.shape[0])
        for row, vector in enumerate(flat):
            order = np.argsort(vector, kind="stable")
            value[row] = vector[order[first_reaching(np.cumsum(weights[order]), confidence)]]
        value = value.reshape(losses.shape[:-1])
        excess = (np.maximum(losses - value[..., None], 0.0) * weights).sum(axis=-1)
    shortfall = np.minimum(value + excess / (1.0 - confidence), losses.max(axis=-1))
    return np.asarray(value), np.asarray(shortfall)
