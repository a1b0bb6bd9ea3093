"""Implied volatilities along Monte Carlo paths, for the options of the book.

They have a random stream of their own: prices are the same with and without them, and whichever
assets are recorded, every block draws the same shocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from risk.scenarios.draws import TILE, Paths
from risk.scenarios.paths import correlate


class Shocks(NamedTuple):
    """How the recorded assets' implied volatilities move; see `risk.market.implied`."""

    slope: np.ndarray  # (row,)
    curve: np.ndarray
    typical: np.ndarray
    residual: np.ndarray
    source: np.ndarray  # whose shocks: row of the factor
    factor: np.ndarray  # (index, index_2)
    df: float


def shocks_of(calibration: xr.Dataset, rows: np.ndarray) -> Shocks | None:
    """The figures of the assets `rows`; None where implied volatilities stay where they are."""
    if "implied_slope" not in calibration:
        return None

    def of(name: str) -> np.ndarray:
        return calibration[f"implied_{name}"].values[rows]

    return Shocks(
        of("slope"),
        of("curve"),
        of("typical"),
        of("residual"),
        of("index"),
        calibration["implied_factor"].values,
        float(calibration["implied_df"]),
    )


class ImpliedPaths:
    """Draws one tile of implied volatilities after the other.

    Parameters
    ----------
    paths : Paths
        The random key, steps and horizon.
    shocks : Shocks or None
        None: nothing moves and nothing is drawn.
    """

    def __init__(self, paths: Paths, shocks: Shocks | None) -> None:
        self._shocks, self._steps, self._days = shocks, paths.steps, paths.horizon_days
        self._stream = paths.stream("implied")

    def draw(self, log_price: np.ndarray) -> np.ndarray:
        """Log multiples of the implied volatility along a tile's prices (row, step, scenario)."""
        if self._shocks is None:
            return np.zeros_like(log_price)
        shocks, per_day = self._shocks, self._steps // self._days
        n_indices = len(shocks.factor)
        walk = np.zeros((n_indices, self._steps, TILE))
        here = np.zeros((n_indices, TILE))
        for step in range(self._steps):
            if step % per_day == 0:
                mixed = self._stream.chisquare(shocks.df, TILE)
                wild = np.sqrt((shocks.df - 2) / mixed / per_day)
            normal = self._stream.standard_normal((n_indices, TILE))
            here = here + wild * correlate(shocks.factor, normal)
            walk[:, step] = here
        days = (np.arange(self._steps) + 1) / per_day
        own = shocks.residual[:, None, None] * walk[shocks.source]
        size = np.abs(log_price) - shocks.typical[:, None, None] * np.sqrt(days)[:, None]
        slope, curve = shocks.slope[:, None, None], shocks.curve[:, None, None]
        return slope * log_price + curve * size + own
