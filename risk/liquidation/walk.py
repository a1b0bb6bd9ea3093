"""Walk the ladders through a driver record: one block of the cube."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import xarray as xr

from risk.drivers import FALL, PEG
from risk.errors import DataError
from risk.liquidation.cascade import stay_moved
from risk.liquidation.columns import Events, Gaps, Paths
from risk.liquidation.cross import PoolOutcomes, add_pools
from risk.liquidation.index import fill_codes
from risk.liquidation.kernel import fill_buckets, walk_cells
from risk.liquidation.ladder import Ladders
from risk.liquidation.options import Valued, add_options
from risk.liquidation.pegs import cells_in_dollars, one_cell_each
from risk.schema import CUBE, GAPS

#: Cube variables that need the second table of running sums.
_REST = {"venue_gain", "market_cost"}


def group_gaps(drivers: xr.Dataset) -> Gaps:
    """Group the gaps of a driver record by what they can hit: falls longs, rises shorts."""
    return _grouped(drivers.sizes["asset"], *_gap_columns(drivers))


def gaps_by_scenario(drivers: xr.Dataset) -> Iterator[Gaps]:
    """The gaps of each scenario alone, grouped; every scenario is number zero of its own."""
    columns = _gap_columns(drivers)
    bounds = np.searchsorted(columns[0], np.arange(drivers.sizes["scenario"] + 1))
    for start, stop in pairwise(bounds):
        scenario, *others = (column[start:stop] for column in columns)
        yield _grouped(drivers.sizes["asset"], np.zeros_like(scenario), *others)


def _gap_columns(drivers: xr.Dataset) -> list[np.ndarray]:
    """Scenario, asset, direction, before and landing of every gap, sorted by scenario."""
    return [drivers[name].values for name in GAPS]


def _grouped(
    n_assets: int,
    scenario: np.ndarray,
    asset: np.ndarray,
    direction: np.ndarray,
    before: np.ndarray,
    landing: np.ndarray,
) -> Gaps:
    side = (direction != FALL).astype("i8")
    key = 2 * asset.astype("i8") + side
    order = np.argsort(key, kind="stable")
    sign = np.where(side == 0, -1.0, 1.0)
    bounds = np.searchsorted(key[order], np.arange(2 * n_assets + 1))
    return Gaps(
        start=bounds.astype("i8"),
        scenario=scenario[order].astype("i8"),
        before=(sign * before)[order],
        landing=(sign * landing)[order],
    )


def adverse_extremes(drivers: xr.Dataset) -> np.ndarray:
    """Adverse extremes on (asset, side, scenario)."""
    return np.stack([-drivers.low.values.T, drivers.high.values.T], axis=1)


def sort_paths(
    drivers: xr.Dataset, events: Events, n_rungs: float = 0, used: np.ndarray | None = None
) -> Paths:
    """What the walk needs of a driver record, apart from its gaps.

    What the cascade's `events` leave in the price is in `last`. `n_rungs` is how many rungs a
    ladder has: finer buckets repay their making only for long ones. Drivers no ladder is `used`
    by keep their order: sorting them would cost as much as the others.
    """
    farthest = adverse_extremes(drivers)
    # Scenarios that tie hit the same rungs, so the fast sort's order among them changes no bit.
    order = np.zeros(farthest.shape, "i8")
    mine = np.arange(len(farthest)) if used is None else used
    order[mine] = np.argsort(farthest[mine], axis=2)
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
    pooled: PoolOutcomes | None = None,
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
    pooled : PoolOutcomes, optional
        The account pools in these scenarios, if they were lived before; else the record is taken
        for a bar.

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
    plain, steps, order = ladders.plain, ladders.steps, ladders.walk_order
    if PEG in drivers:
        plain, steps = one_cell_each(plain, steps)
        order = np.arange(ladders.n_ladders)
    shape = (len(order), drivers.sizes["scenario"])
    out = {
        name: np.empty(shape if is_wide or name not in _REST else (1, shape[1]), variable.dtype)
        for name, variable in CUBE.items()
    }
    looked_up, one_by_one, lived = walk_cells(
        order,
        plain,
        steps,
        sort_paths(
            drivers,
            ladders.steps.events,
            ladders.n_rungs / max(ladders.n_ladders, 1),
            np.union1d(ladders.plain.sums.asset, ladders.steps.sums.asset),
        ),
        group_gaps(drivers),
        small_window,
        is_wide,
        tuple(out.values()),
    )
    if PEG in drivers:
        out = cells_in_dollars(ladders.plain, ladders.steps, drivers, ladders.n_cells, out, is_wide)
    add_options(ladders.options, drivers, out, is_wide, valued)
    add_pools(ladders.cross, drivers, out, is_wide, pooled)
    # A transposed view: scenarios of one cell stay together in memory and on disk.
    return xr.Dataset(
        {name: (("scenario", "cell"), out[name].T) for name in variables},
        attrs={
            "windows_looked_up": looked_up,
            "windows_one_by_one": one_by_one,
            "positions_lived_again": lived,
        },
    )
