"""Who the tail comes from: Euler contributions that add up, and what leaving one out changes.

`pnl` has one row per scenario and one column per cell; the total is their sum, and a
contribution is a positive loss like the measure it is part of.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from risk.measures.samples import (
    Floats,
    SampleError,
    check_confidence,
    check_losses,
    check_weights,
    first_reaching,
    rank,
)
from risk.measures.tail import tail_of


def expected_shortfall_contributions(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    over: str = "cell",
    *,
    weights: Any = None,
    dim: str = "scenario",
) -> Any:
    """Each cell's mean loss over the scenarios of the total's tail.

    Scenarios that tie at the edge of the tail share its fraction, so the result does not depend
    on their order.

    Parameters
    ----------
    pnl : array_like (scenario, cell) or DataArray with `dim` and `over`
        P&L, gains positive.
    confidence : float
        Level in (0, 1).
    over : str
        The dimension that is split, for labelled P&L.
    weights : array_like (scenario,), optional
        Probability of each scenario, adding up to one; equal when absent.
    dim : str
        The scenario dimension, for labelled P&L.

    Returns
    -------
    ndarray (cell,) or DataArray (..., cell)
        Losses that add up to the expected shortfall of the total.

    Raises
    ------
    ValueError
        As `value_at_risk`.

    References
    ----------
    .. [1] D. Tasche, "Risk contributions and performance measurement", 1999.

    Examples
    --------
    >>> pnl = [[-6.0, -4.0], [-3.0, 1.0], [0.0, 1.0], [5.0, 0.0]]
    >>> expected_shortfall_contributions(pnl, 0.5).tolist()
    [4.5, 1.5]
    """

    def split(losses: Floats) -> Floats:
        shares = tail_shares(losses.sum(axis=1), confidence, weights)
        tail = np.flatnonzero(shares)
        return (losses[tail] * shares[tail, None]).sum(axis=0)

    return _by_cell(split, pnl, confidence, over, dim)


def value_at_risk_contributions(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    over: str = "cell",
    *,
    weights: Any = None,
    half_width: int | None = None,
    dim: str = "scenario",
) -> Any:
    """Each cell's mean loss where the total loss is at its value at risk.

    One scenario alone is a noisy answer, so the mean is taken over the ranks around that of the
    value at risk; what smoothing adds or takes is shared out by size, so that they add up.

    Parameters
    ----------
    pnl, confidence, over, weights, dim
        As `expected_shortfall_contributions`.
    half_width : int, optional
        Ranks taken on either side; a quarter of the tail when absent, 0 for the one scenario.

    Returns
    -------
    ndarray (cell,) or DataArray (..., cell)
        Losses that add up to the value at risk of the total.

    Raises
    ------
    ValueError
        As `value_at_risk`.

    References
    ----------
    .. [1] D. Tasche, "Risk contributions and performance measurement", 1999; E. Epperlein and
       A. Smillie, "Cracking VaR with kernels", Risk 19(8), 2006.

    Examples
    --------
    >>> pnl = [[-6.0, -4.0], [-3.0, 1.0], [0.0, 1.0], [5.0, 0.0]]
    >>> value_at_risk_contributions(pnl, 0.75).tolist()
    [3.0, -1.0]
    """
    if half_width is not None and half_width < 0:
        raise ValueError(f"half_width must not be negative; got {half_width}")

    def split(losses: Floats) -> Floats:
        total = losses.sum(axis=1)
        near, at, chance = _near(total, confidence, weights, half_width)
        shares = np.average(losses[near], axis=0, weights=chance[near] if len(near) > 1 else None)
        missing = total[at] - shares.sum()
        sizes = np.abs(shares).sum()
        return shares + missing * (np.abs(shares) / sizes if sizes else 1.0 / shares.size)

    return _by_cell(split, pnl, confidence, over, dim)


def value_at_risk_contribution_errors(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    over: str = "cell",
    *,
    half_width: int | None = None,
    dim: str = "scenario",
) -> Any:
    """Standard error of each part of `value_at_risk_contributions`, scenarios equally likely.

    The spread of the cell's loss over the ranks the mean is taken of, over the root of their
    number; it says nothing of the error of the value at risk itself.

    Parameters
    ----------
    pnl, confidence, over, half_width, dim
        As `value_at_risk_contributions`.

    Returns
    -------
    ndarray (cell,) or DataArray (..., cell)
        In the unit of `pnl`; NaN where the mean is of one scenario alone.

    Raises
    ------
    ValueError
        As `value_at_risk`.
    """

    def split(losses: Floats) -> Floats:
        near, _, _ = _near(losses.sum(axis=1), confidence, None, half_width)
        if len(near) < 2:
            return np.full(losses.shape[1], np.nan)
        return losses[near].std(axis=0, ddof=1) / math.sqrt(len(near))

    return _by_cell(split, pnl, confidence, over, dim)


def _near(
    total: Floats, confidence: float, weights: Any, half_width: int | None
) -> tuple[np.ndarray, int, Floats]:
    """Scenarios around the value at risk, the one at it, and every scenario's probability."""
    n = total.size
    order = np.argsort(total, kind="stable")
    if weights is None:
        middle, chance = rank(n, confidence) - 1, np.full(n, 1.0 / n)
    else:
        chance = check_weights(weights, n)
        middle = first_reaching(np.cumsum(chance[order]), confidence)
    reach = int(n * (1.0 - confidence) / 4) if half_width is None else half_width
    reach = min(reach, middle, n - 1 - middle)
    near = order[middle - reach : middle + reach + 1]
    if chance[near].sum() == 0:
        near = order[middle : middle + 1]
    return near, int(order[middle]), chance


def incremental(
    pnl: ArrayLike | xr.DataArray,
    confidence: float,
    over: str = "cell",
    *,
    measure: str = "expected_shortfall",
    weights: Any = None,
    dim: str = "scenario",
) -> Any:
    """What each cell adds: the measure of the total less that of the total without the cell.

    Parameters
    ----------
    pnl, confidence, over, weights, dim
        As `expected_shortfall_contributions`.
    measure : {"expected_shortfall", "value_at_risk"}
        The measure taken.

    Returns
    -------
    ndarray (cell,) or DataArray (..., cell)
        Losses; negative for a cell that hedges the rest. They do not add up to the total.

    Raises
    ------
    ValueError
        As `value_at_risk`, or for an unknown measure.

    Examples
    --------
    >>> pnl = [[-6.0, -4.0], [-3.0, 1.0], [0.0, 1.0], [5.0, 0.0]]
    >>> incremental(pnl, 0.5).tolist()
    [4.0, 1.5]
    """
    if measure not in ("expected_shortfall", "value_at_risk"):
        raise ValueError(
            f"measure must be 'expected_shortfall' or 'value_at_risk'; got {measure!r}"
        )
    which = int(measure == "expected_shortfall")

    def split(losses: Floats) -> Floats:
        total = losses.sum(axis=1)
        whole = tail_of(total, confidence, weights)[which]
        without = [tail_of(total - cell, confidence, weights)[which] for cell in losses.T]
        return whole - np.array(without, "f8")

    return _by_cell(split, pnl, confidence, over, dim)


def tail_shares(total: Floats, confidence: float, weights: Any = None) -> Floats:
    """Weight of each scenario in the tail of the total losses (n,); they add up to one."""
    n = total.size
    chance = np.full(n, 1.0 / n) if weights is None else check_weights(weights, n)
    edge = float(tail_of(total, confidence, weights)[0])
    shares = np.where(total > edge, chance, 0.0)
    at_edge = np.where(total == edge, chance, 0.0)
    missing = max((1.0 - confidence) - math.fsum(shares), 0.0)
    shares += at_edge * (missing / (math.fsum(at_edge) or 1.0))
    return shares / math.fsum(shares)


def _by_cell(split: Any, pnl: Any, confidence: float, over: str, dim: str) -> Any:
    check_confidence(confidence)
    if not isinstance(pnl, xr.DataArray):
        return split(_table(np.asarray(pnl)))
    absent = [name for name in (dim, over) if name not in pnl.dims]
    if absent:
        have = ", ".join(map(str, pnl.dims))
        raise SampleError(f"no dimension {absent[0]!r} in pnl: it has {have}")
    return xr.apply_ufunc(
        lambda table: split(_table(table)),
        pnl,
        input_core_dims=[[dim, over]],
        output_core_dims=[[over]],
        vectorize=True,
        keep_attrs=True,
    )


def _table(pnl: Any) -> Floats:
    losses = check_losses(pnl)
    if losses.ndim != 2 or losses.shape[0] == 0:
        raise SampleError(
            f"pnl must be (scenario, cell) with at least one of each; got {losses.shape}"
        )
    return losses
