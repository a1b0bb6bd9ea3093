"""What every estimator shares: checked samples, levels, weights and the rank.

P&L comes in with gains positive; inside this package a sample is turned into losses at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from risk.errors import DataError

Floats = NDArray[np.float64]

#: ``n * confidence`` is trusted to this relative precision before it is rounded up: 100 x 0.07
#: and 1000 x (1 - 0.007) are whole numbers to a person and not to a float.
_SLACK = 1e-12


class SampleError(DataError, ValueError):
    """A sample no estimator can use: empty, not a number, or of the wrong shape."""


def check_confidence(confidence: float) -> float:
    """Return the level as a float, or say that it must lie strictly between 0 and 1."""
    level = float(confidence)
    if not 0.0 < level < 1.0:
        raise ValueError(
            f"confidence must lie strictly between 0 and 1 (0.99, not 99); got {confidence}"
        )
    return level


def rank(n: int, confidence: float) -> int:
    """Rank, from the smallest loss, of the value at risk of `n` equally likely losses.

    Parameters
    ----------
    n : int
        Number of losses.
    confidence : float
        Level in (0, 1).

    Returns
    -------
    int
        ``ceil(n * confidence)``, not fooled by rounding; between 1 and `n`.

    Examples
    --------
    >>> rank(500, 0.99), rank(100, 0.07), rank(101, 0.07)
    (495, 7, 8)
    """
    return min(max(math.ceil(n * (check_confidence(confidence) - _SLACK)), 1), n)


def check_losses(pnl: ArrayLike, name: str = "pnl") -> Floats:
    """Losses (..., n) of a P&L (..., n), checked: at least one, every one finite."""
    try:
        losses = 0.0 - np.asarray(pnl, dtype="f8")  # not the negation: it makes -0.0
    except (TypeError, ValueError) as error:
        raise SampleError(f"{name} must hold numbers: {error}") from error
    if losses.ndim == 0 or losses.shape[-1] == 0:
        raise SampleError(f"{name} is empty: a measure needs at least one scenario")
    bad = np.count_nonzero(~np.isfinite(losses))
    if bad:
        raise SampleError(
            f"{name} holds {bad} values that are not finite of {losses.size}: "
            "price or drop those scenarios first"
        )
    return losses


def check_weights(weights: ArrayLike, n: int) -> Floats:
    """Weights (n,) of the scenarios, checked: none negative, adding up to one."""
    array = np.asarray(weights, dtype="f8")
    if array.shape != (n,):
        raise SampleError(f"weights must be one per scenario: {n} scenarios, shape {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any():
        raise SampleError("weights must be finite and not negative")
    total = math.fsum(array)
    if abs(total - 1.0) > 1e-9:
        raise SampleError(f"weights must add up to 1; they add up to {total:.12g}")
    return array / total


def first_reaching(cumulative: Floats, level: float) -> int:
    """Index of the first cumulative weight that reaches the level, rounding forgiven."""
    slack = _SLACK + cumulative.size * np.finfo("f8").eps
    return min(int(np.searchsorted(cumulative, level - slack)), cumulative.size - 1)


def labelled(pnl: Any, dim: str) -> xr.DataArray | None:
    """The input as a labelled array if it is one and has the dimension, else None."""
    if not isinstance(pnl, xr.DataArray):
        return None
    if dim not in pnl.dims:
        raise SampleError(f"no dimension {dim!r} in pnl: it has {', '.join(map(str, pnl.dims))}")
    return pnl


def over_vectors(
    function: Any,
    pnl: xr.DataArray,
    dims: Sequence[str],
    n_results: int = 1,
    *,
    one_by_one: bool = True,
) -> tuple[xr.DataArray, ...]:
    """Apply a function to every vector along `dims`, keeping labels and attrs.

    The function gets one vector at a time, or the whole array with `dims` last.
    """
    found = xr.apply_ufunc(
        function,
        pnl,
        input_core_dims=[list(dims)],
        output_core_dims=[[]] * n_results,
        vectorize=one_by_one,
        dask="parallelized",
        output_dtypes=["f8"] * n_results,
        keep_attrs=True,
    )
    return found if n_results > 1 else (found,)
