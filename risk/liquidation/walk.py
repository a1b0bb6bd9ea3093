"""Walk the ladders through a driver record: one block of the cube."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from risk.drivers import FALL
from risk.errors import DataError
from risk.liquidation.cascade import stay_moved
from risk.liquidation.columns import Events, Gaps, Paths
from risk.liquidation.index import fill_codes
from risk.liquidation.kernel import fill_buckets, walk_cells
from risk.liquidation.ladder import Ladders
from risk.liquidation.options import Valued, add_options
from risk.schema import CUBE

#: Cube variables that need the second table of running sums.
_REST = {"venue_gain", "market_cost"}


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


def adverse_extremes(drivers: xr.Dataset) -> np.ndarray:
    """Adverse extremes on (asset, side, scenario)."""
    return np.stack([-drivers.low.values.T, drivers.high.values.T], axis=1)


def sort_paths(drivers: xr.Dataset, events: Events, n_rungs: float = 0) -> Paths:
    """What the walk needs of a driver record, apart from its gaps.

    What the cascade's `events` leave in the price is in `last`. `n_rungs` is how many rungs a
    ladder has: finer buckets repay their making only for long ones.
    """
    farthest = adverse_extremes(drivers)
    # Scenarios that tie hit the same rungs, so the fast sort's order among them changes no bit.
    order = np.argsort(farthest, axis=2)
    extreme = np.take_along_axis(farthest, order, axis=2)
    fineness = 8 if n_rungs > 1000 else 2
    bucket = np.empty((*extreme.shape[:2], fineness * extreme.shape[2] + 2), "u4")
    scale = np.empty(extreme.shape[:2])
    fill_buckets(extreme, bucket, scale)
    code = np.empty(extreme.shape, "u2")
    fill_codes(extreme, code)
    last = stay_moved(events, np.ascontiguousarray(drivers["last"].values.T), farthest)
    return Paths(farthest, extreme, order.astype("u4"), last, bucket, scale, code)


def walk(
    ladders: Ladders,
    drivers: xr.Dataset,
    *,
    small_window: int = 32,
    variables: Sequence[str] = tuple(CUBE),
    valued: Valued | None = None,
) -> xr.Dataset:
    """Price every position of the ladders in every scenario.

    Parameters
    ----------
    ladders : Ladders
    drivers : Dataset
        Driver record on (scenario, asset) and (gap,), see `risk.drivers`.
    small_window : int
        Up to this many rungs in a gap are closed one by one, which is cheaper than four searches.
    variables : sequence of str
        Which variables of `risk.schema.CUBE` to return; without venue gain and market cost the
        walk reads less.
    valued : Valued, optional
        The options' contracts in these scenarios, if they were valued before.

    Returns
    -------
    Dataset (scenario, cell)
        The attributes ``windows_looked_up`` and ``windows_one_by_one`` count how the gaps were
        priced, ``positions_lived_again`` the positions with several rungs that a gap hit.

    Raises
    ------
    DataError
        If the drivers' assets are not the ladders'.
    """
    if tuple(drivers.asset.values) != ladders.assets:
        raise DataError("the drivers' assets are not those the ladders were built for")
    is_wide = not _REST.isdisjoint(variables)
    shape = (ladders.n_cells, drivers.sizes["scenario"])
    out = {
        name: np.empty(shape if is_wide or name not in _REST else (1, shape[1]), variable.dtype)
        for name, variable in CUBE.items()
    }
    looked_up, one_by_one, lived = walk_cells(
        ladders.walk_order,
        ladders.plain,
        ladders.steps,
        sort_paths(drivers, ladders.steps.events, ladders.n_rungs / max(ladders.n_ladders, 1)),
        group_gaps(drivers),
        small_window,
        is_wide,
        tuple(out.values()),
    )
    add_options(ladders.options, drivers, out, is_wide, valued)
    # A transposed view: scenarios of one cell stay together in memory and on disk.
    return xr.Dataset(
        {name: (("scenario", "cell"), out[name].T) for name in variables},
        attrs={
            "windows_looked_up": looked_up,
            "windows_one_by_one": one_by_one,
            "positions_lived_again": lived,
        },
    )
