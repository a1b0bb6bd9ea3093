"""Low, high and last of a window as price ratios, and the rules every scenario set shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from risk.drivers import fall_gaps, join_gaps, rise_gaps
from risk.errors import ConfigError

#: A proxied price never falls below this ratio, however large its beta.
PROXY_FLOOR = 0.01


class Ratios(NamedTuple):
    """Low, high and last as ratios to the close before; NaN where the data have a hole."""

    low: np.ndarray
    high: np.ndarray
    last: np.ndarray


def window_ratios(history: xr.Dataset, ends: np.ndarray, horizon_days: int) -> Ratios:
    """Ratios to the close before each window; NaN where any day of it is missing.

    Parameters
    ----------
    history : Dataset (day, asset)
    ends : ndarray of int (window,)
        Index of each window's last day, at least `horizon_days`.
    horizon_days : int

    Returns
    -------
    Ratios of ndarray (window, asset)
        `low` at most 1 and `high` at least 1: the price was 1 before the window began.
    """
    bars = history.transpose("day", "asset")
    span = ends[:, None] - np.arange(horizon_days)
    reference = bars["close"].values[ends - horizon_days]
    # Plain minimum and maximum: a NaN on any day of the window must stay one.
    low = bars["low"].values[span].min(axis=1) / reference
    high = bars["high"].values[span].max(axis=1) / reference
    last = bars["close"].values[ends] / reference
    hole = ~np.isfinite(low + high + last + bars["close"].values[span].sum(axis=1))
    low, high, last = (np.where(hole, np.nan, part) for part in (low, high, last))
    return Ratios(np.minimum(low, 1.0), np.maximum(high, 1.0), last)


def market_ratios(moves: Ratios, assets: Sequence[str], betas: xr.DataArray) -> Ratios:
    """The market's move: the asset betas refer to, else the mean of the assets there are.

    Parameters
    ----------
    moves : Ratios of ndarray (scenario, asset)
        NaN where unknown; at least one asset known per scenario.
    assets : sequence of str
    betas : DataArray (asset)

    Returns
    -------
    Ratios of ndarray (scenario,)
    """
    mean = [np.nanmean(part, axis=1) for part in moves]
    market = betas.attrs["market"]
    if market not in assets:
        return Ratios(*mean)
    at = list(assets).index(market)
    known = np.isfinite(moves.last[:, at])
    return Ratios(*(np.where(known, p[:, at], m) for p, m in zip(moves, mean, strict=True)))


def scale_move(move: Ratios, beta: float) -> Ratios:
    """A move times beta, never below `PROXY_FLOOR`; a negative beta swaps low and high.

    Examples
    --------
    >>> move = Ratios(np.array([0.6]), np.array([1.1]), np.array([0.8]))
    >>> [round(float(part[0]), 6) for part in scale_move(move, 1.5)]
    [0.4, 1.15, 0.7]
    """
    ends = [np.maximum(1 + beta * (part - 1), PROXY_FLOOR) for part in move]
    return Ratios(np.minimum(ends[0], ends[1]), np.maximum(ends[0], ends[1]), ends[2])


def beta_of(betas: xr.DataArray, asset: str) -> float:
    """The asset's beta, or the median of all where it has none."""
    known = betas["asset"].values == asset
    return float(betas.values[known][0] if known.any() else np.median(betas.values))


def gap_rule(moves: Ratios, gap: float | np.ndarray) -> dict[str, np.ndarray]:
    """Gap columns: the share `gap` of each excursion lands as one jump at the extreme.

    Parameters
    ----------
    moves : Ratios of ndarray (scenario, asset)
    gap : float or ndarray (scenario, 1)
        In [0, 1]; at 0 there are no gaps.

    Examples
    --------
    >>> one = np.array([[1.0]])
    >>> gaps = gap_rule(Ratios(one * 0.5, one, one * 0.6), 0.3)
    >>> gaps["gap_before"].tolist(), gaps["gap_landing"].tolist()
    ([0.65], [0.5])
    """
    fall_before = moves.low + gap * (1 - moves.low)
    rise_before = moves.high - gap * (moves.high - 1)
    return join_gaps(fall_gaps(moves.low, fall_before), rise_gaps(moves.high, rise_before))


def check_gap(gap: float, name: str) -> None:
    """Raise `ConfigError` unless the gap share lies in [0, 1]."""
    if not 0 <= gap <= 1:
        raise ConfigError(f"{name}: gap is {gap:g}; it is a share, from 0 to 1")
