"""Checked series and levels, shared by the backtests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlog1py, xlogy

from risk.errors import DataError

Floats = NDArray[np.float64]


class SeriesError(DataError, ValueError):
    """A series no backtest can use: empty, not a number, or of another length."""


def check_confidence(confidence: float) -> float:
    """Return the level as a float, or say that it must lie strictly between 0 and 1."""
    level = float(confidence)
    if not 0.0 < level < 1.0:
        raise ValueError(
            f"confidence must lie strictly between 0 and 1 (0.99, not 99); got {confidence}"
        )
    return level


def check_counts(n_exceedances: int, n_observations: int) -> tuple[int, int]:
    """Return both counts, or say which is impossible."""
    given = n_exceedances, n_observations
    is_whole = all(math.isfinite(count) and count == int(count) for count in given)
    if not is_whole or n_observations < 1 or not 0 <= n_exceedances <= n_observations:
        raise ValueError(
            "exceedances must be whole, between 0 and the number of observations, and that at "
            f"least 1; got {n_exceedances} of {n_observations}"
        )
    return int(n_exceedances), int(n_observations)


def check_series(**series: ArrayLike) -> list[Floats]:
    """Series (n,) of the same length, every value finite; a scalar stands for all days."""
    arrays = {}
    for name, values in series.items():
        try:
            arrays[name] = np.asarray(values, "f8")
        except (TypeError, ValueError) as error:
            raise SeriesError(f"{name} must hold numbers: {error}") from error
    first = next(iter(arrays.values()))
    if first.ndim != 1 or first.size == 0:
        raise SeriesError(f"{next(iter(arrays))} must be one series with at least one day")
    for name, array in arrays.items():
        if array.ndim and array.shape != first.shape:
            raise SeriesError(f"{name} has shape {array.shape}, the first series {first.shape}")
        if not np.isfinite(array).all():
            bad = np.count_nonzero(~np.isfinite(array))
            raise SeriesError(f"{name} holds {bad} values that are not finite: drop those days")
    return [np.broadcast_to(array, first.shape) for array in arrays.values()]


def log_likelihood(n_zeros: Any, n_ones: Any, probability: Any) -> Any:
    """Of zeros and ones, ``n_zeros ln(1 - p) + n_ones ln p`` with 0 ln 0 = 0."""
    return xlog1py(n_zeros, -np.asarray(probability)) + xlogy(n_ones, probability)
