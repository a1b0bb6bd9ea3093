"""Walk the ladders through a driver record: one block of the cube."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from risk.drivers import FALL
from risk.errors import DataError
from risk.liquidation.kernel import correct_gaps, walk_hits
from risk.liquidation.ladder import Ladders
from risk.schema import CUBE


@dataclass(frozen=True)
class Gaps:
    """Gaps grouped by (asset, side) in adverse coordinates, in scenario and path order."""

    start: np.ndarray  # (2 * asset + side,), then the end
    scenario: np.ndarray
    before: np.ndarray
    landing: np.ndarray


def group_gaps(drivers: xr.Dataset) -> Gaps:
    """Group the gaps of a driver record by what they can hit: falls longs, rises shorts."""
    side = (drivers.gap_direction.values != FALL).astype("i8")
    key = 2 * drivers.gap_asset.values.astype("i8") + side
    order = np.argsort(key, kind="stable")
    sign = np.where(side == 0, -1.0, 1.0)
    bounds = np.searchsorted(key[order], np.arange(2 * drivers.sizes["asset"] + 1))
    return Gaps(
        start=bounds.astype("i8"),
        scenario=drivers.gap_scenario.values[order].astype("i8"),
        before=(sign * drivers.gap_before.values)[order],
        landing=(sign * drivers.gap_landing.values)[order],
    )


def sorted_extremes(drivers: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Adverse extremes (asset, side, scenario) in rising order, and which scenario each is."""
    extreme = np.stack([-drivers.low.values.T, drivers.high.values.T], axis=1)
    order = np.argsort(extreme, axis=2, kind="stable")
    return np.take_along_axis(extreme, order, axis=2), order


def walk(ladders: Ladders, drivers: xr.Dataset, *, small_window: int = 32) -> xr.Dataset:
    """Price every position of the ladders in every scenario.

    Parameters
    ----------
    ladders : Ladders
    drivers : Dataset
        Driver record on (scenario, asset) and (gap,), see `risk.drivers`.
    small_window : int
        Up to this many rungs in a gap are closed one by one, which is cheaper than four searches.

    Returns
    -------
    Dataset (scenario, cell)
        The variables of `risk.schema.CUBE`. The attributes ``windows_looked_up`` and
        ``windows_one_by_one`` count how the gaps were priced.

    Raises
    ------
    DataError
        If the drivers' assets are not the ladders'.
    """
    if tuple(drivers.asset.values) != ladders.assets:
        raise DataError("the drivers' assets are not those the ladders were built for")
    shape = (ladders.n_cells, drivers.sizes["scenario"])
    out = {name: np.zeros(shape) for name in CUBE}
    last = np.ascontiguousarray(drivers["last"].values.T)
    extreme, order = sorted_extremes(drivers)
    outputs = (
        out["pnl"], out["venue_gain"], out["deficit"], out["market_cost"],
        out["liquidations"], out["stops"], out["liquidated_notional"],
    )  # fmt: skip
    walk_hits(
        ladders.start, ladders.asset, ladders.side, ladders.cell, ladders.first, ladders.hit,
        extreme, order, last, *outputs,
    )  # fmt: skip
    gaps = group_gaps(drivers)
    looked_up, one_by_one = correct_gaps(
        ladders.start, ladders.asset, ladders.side, ladders.inverse, ladders.cell, ladders.width,
        ladders.first, ladders.hit, ladders.landing, ladders.fee_at, ladders.fee_sum,
        ladders.bankrupt_at, ladders.bankrupt_sum, ladders.single_start, ladders.single,
        ladders.is_single, ladders.margin, ladders.alpha, ladders.beta, ladders.equity,
        ladders.cost, ladders.fee, ladders.to_holder, ladders.notional,
        gaps.start, gaps.scenario, gaps.before, gaps.landing, last, small_window,
        *outputs,
    )  # fmt: skip
    # Taking a gap's rungs out of a running sum can leave a rounding crumb below zero.
    for name in ("deficit", "venue_gain", "market_cost", "liquidated_notional"):
        np.maximum(out[name], 0.0, out=out[name])
    # A transposed view: scenarios of one cell stay together in memory and on disk.
    return xr.Dataset(
        {
            name: (("scenario", "cell"), out[name].astype(variable.dtype, copy=False).T)
            for name, variable in CUBE.items()
        },
        attrs={"windows_looked_up": looked_up, "windows_one_by_one": one_by_one},
    )
