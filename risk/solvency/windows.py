"""P&L of tonight's book over every past window, by asset.

Isolated positions of different assets do not touch each other, so the P&L of any set of assets is
the sum of their columns: one walk answers for every subset of factors and every year.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from risk.drivers import slice_drivers
from risk.instruments import follow_assets, is_instrument
from risk.liquidation import Ladders, uncounted_outcomes, walk
from risk.scenarios.historical import historical_drivers


@dataclass(frozen=True)
class WindowPnl:
    """Holders' P&L by window and asset.

    Attributes
    ----------
    day : ndarray of datetime64[D] (window,)
        Last day of each window, ascending.
    assets : tuple of str
    pnl : ndarray (window, asset)
        USD, gain positive.
    liquidations : ndarray (window, asset)
    is_own : ndarray of bool (window, asset)
        Whether the asset had prices of its own all through the window.
    last : ndarray (window, asset)
        Price at the end over that at the start.
    drivers : Dataset
        The driver record behind it.
    """

    day: np.ndarray
    assets: tuple[str, ...]
    pnl: np.ndarray
    liquidations: np.ndarray
    is_own: np.ndarray
    last: np.ndarray
    drivers: xr.Dataset

    def latest(self, n: int) -> WindowPnl:
        """The last `n` windows, or all of them if there are fewer."""
        first, stop = max(len(self.day) - n, 0), len(self.day)
        rows = slice(first, stop)
        return WindowPnl(
            day=self.day[rows],
            assets=self.assets,
            pnl=self.pnl[rows],
            liquidations=self.liquidations[rows],
            is_own=self.is_own[rows],
            last=self.last[rows],
            drivers=slice_drivers(self.drivers, first, stop),
        )


def window_pnl(
    ladders: Ladders,
    bars: xr.Dataset,
    calibration: xr.Dataset,
    *,
    windows: int,
    horizon_days: int,
    gap: float,
    seed: int,
    set_code: int,
) -> WindowPnl:
    """Walk tonight's ladders through the last `windows` windows of the history.

    Parameters
    ----------
    ladders : Ladders
        Their cells carry the label ``asset``.
    bars : Dataset (day, asset)
        `low`, `high`, `close`; its last day is tonight's.
    calibration : Dataset (asset)
        For the proxies.
    windows, horizon_days : int
    gap : float
        Share of an excursion that lands as one jump.
    seed, set_code : int
        Of the proxies' residuals.
    """
    assets = [name for name in ladders.assets if not is_instrument(name)]
    drivers = historical_drivers(
        bars,
        assets,
        windows=windows,
        horizon_days=horizon_days,
        gap=gap,
        betas=calibration["beta"],
        factor_betas=calibration["factor_beta"],
        seed=seed,
        set_code=set_code,
    )
    whole = follow_assets(drivers, ladders.assets)
    pooled = uncounted_outcomes(ladders.cross.pools, whole)
    cube = walk(ladders, whole, variables=("pnl", "liquidations"), pooled=pooled)
    day = drivers["label"].values.astype("M8[D]")
    return WindowPnl(
        day=day,
        assets=tuple(assets),
        pnl=_by_asset(cube["pnl"].values, ladders, assets),
        liquidations=_by_asset(cube["liquidations"].values, ladders, assets),
        is_own=_own(bars, assets, day, horizon_days),
        last=drivers["last"].values,
        drivers=drivers,
    )


def _by_asset(values: np.ndarray, ladders: Ladders, assets: Sequence[str]) -> np.ndarray:
    """Sums over the cells of each asset (window, asset)."""
    place = {name: at for at, name in enumerate(assets)}
    column = np.array([place[name] for name in ladders.cells["asset"].to_pylist()], "i8")
    sums = np.zeros((len(values), len(place)))
    # One column after the other: the same order of addition every time.
    for cell, at in enumerate(column):
        sums[:, at] += values[:, cell]
    return sums


def _own(bars: xr.Dataset, assets: Sequence[str], day: np.ndarray, horizon_days: int) -> np.ndarray:
    """Whether an asset has a close on every day of a window and on the day before it."""
    close = bars["close"].sel(asset=list(assets)).transpose("day", "asset").values
    seen = np.concatenate([np.zeros((1, close.shape[1]), "i8"), np.cumsum(np.isfinite(close), 0)])
    end = np.searchsorted(bars["day"].values.astype("M8[D]"), day) + 1
    return seen[end] - seen[end - horizon_days - 1] == horizon_days + 1
