"""Beyond the night's scenarios: grids of moves, and the smallest moves that exhaust a fund.

Both ask the ladders, many times; reverse stress prices its answers again position by position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.config import Grid, Reverse
from risk.drivers import slice_drivers
from risk.liquidation import Impact, Ladders, build_ladders, uncounted_outcomes, walk
from risk.liquidation.accounts import find_holders, holder_losses
from risk.liquidation.positions import read_positions
from risk.scenarios.grids import SHOWN, asset_ladders, heat_table
from risk.scenarios.joint import Bounds
from risk.scenarios.reverse import reverse_stress

#: Scenarios walked at once: bounds the memory of a search.
_BATCH = 4096


def price_grids(
    book: pa.Table,
    assets: Sequence[str],
    calibration: xr.Dataset,
    wanted: Grid,
    *,
    labels: Sequence[str],
    max_cells: int,
    horizon_days: int,
    impact: Impact | None = None,
    ladders: Ladders | None = None,
) -> tuple[dict[str, xr.Dataset], pa.Table]:
    """Heat table of common moves and ladders of each asset's own.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    assets : sequence of str
    calibration : Dataset (asset)
        For today's volatilities.
    wanted : Grid
    labels : sequence of str
        Roll-up labels of the cells the tables name.
    max_cells : int
    horizon_days : int
    impact : Impact, optional
        What closing does to the price.
    ladders : Ladders, optional
        Of this book, these assets, labels and impact, if they were built before.

    Returns
    -------
    tables : dict of str to Dataset
        ``common`` (move, volatility) and ``asset`` (asset, move).
    cells : Table (cell,)
        Labels of the cells.
    """
    built = ladders or build_ladders(book, assets, labels, max_cells, impact=impact)

    def price(drivers: xr.Dataset) -> xr.Dataset:
        pooled = uncounted_outcomes(built.cross.pools, drivers)
        return walk(built, drivers, variables=SHOWN, pooled=pooled)

    tables = {
        "common": heat_table(
            price,
            assets,
            wanted.moves,
            wanted.volatility,
            calibration["volatility"],
            gap=wanted.gap,
            horizon_days=horizon_days,
        ),
        "asset": asset_ladders(price, assets, wanted.moves, gap=wanted.gap),
    }
    return tables, built.cells


def reverse_stresses(
    book: pa.Table,
    assets: Sequence[str],
    calibration: xr.Dataset,
    funds_usd: Mapping[str, float],
    wanted: Reverse,
    *,
    seed: int,
    horizon_days: int,
    impact: Impact | None = None,
    ladders: Ladders | None = None,
) -> xr.Dataset:
    """Smallest moves that exhaust each venue's insurance fund, or breach a limit of the config.

    Parameters
    ----------
    book : Table (position,)
    assets : sequence of str
    calibration : Dataset (asset)
        Volatilities, correlation and degrees of freedom.
    funds_usd : mapping of str to float
        Balance of every venue's fund, USD; venues without one are left out.
    wanted : Reverse
    seed : int
    horizon_days : int
    impact : Impact, optional
        What closing does to the price.
    ladders : Ladders, optional
        Of this book, these assets and this impact, if they were built before; their cells have the
        labels ``asset`` and ``venue``.

    Returns
    -------
    Dataset (target, search)
        As `risk.scenarios.reverse.reverse_stress`, with `verified`: the exhaustion of the same
        move priced position by position. Targets are the venues, then ``total deficit`` and
        ``holders' loss`` where the config limits them.
    """
    if ladders is None:
        n_cells = (len(funds_usd) + 1000) * max(len(assets), 1)
        ladders = build_ladders(book, assets, ["venue", "asset"], n_cells, impact=impact)
    built = ladders
    venues = sorted(set(built.cells["venue"].to_pylist()))
    cell_venue, cell_asset = (
        [names.index(one) for one in built.cells[label].to_pylist()]
        for label, names in (("venue", venues), ("asset", list(assets)))
    )
    funded = [name for name in venues if funds_usd.get(name, 0.0) > 0]
    limits = {"total deficit": wanted.deficit_limit, "holders' loss": wanted.loss_limit}
    limits = {name: value for name, value in limits.items() if value is not None}
    targets = [*funded, *limits]
    if not targets:
        return reverse_stress(_nothing, [], assets, np.eye(len(assets)), gap=wanted.gap)

    def share(deficit: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """Deficits (venue, ...) and losses (...,) over what may be used (..., target)."""
        columns = [deficit[venues.index(name)] / funds_usd[name] for name in funded]
        totals = {"total deficit": deficit.sum(axis=0), "holders' loss": loss}
        columns += [totals[name] / limit for name, limit in limits.items()]
        return np.stack(columns, axis=-1)

    is_loss_wanted = wanted.loss_limit is not None

    def own_of(drivers: xr.Dataset) -> np.ndarray:
        """What every asset's own move uses up (scenario, asset, target)."""
        pools = built.cross.pools
        pooled = uncounted_outcomes(pools, drivers, only_deficits=not is_loss_wanted)
        cube = walk(built, drivers, variables=("pnl", "deficit"), pooled=pooled)
        n = drivers.sizes["scenario"]
        deficit, loss = np.zeros((len(venues), len(assets), n)), np.zeros((len(assets), n))
        cells = cube["deficit"].values.T, cube["pnl"].values.T
        # One cell after the other: the same order of addition every time.
        for venue, asset, short, pnl in zip(cell_venue, cell_asset, *cells, strict=True):
            deficit[venue, asset] += short
            loss[asset] -= pnl
        return share(deficit.swapaxes(1, 2), loss.T)

    own = _in_batches(own_of)

    def exhaustion(drivers: xr.Dataset) -> np.ndarray:
        return own(drivers).sum(axis=1)

    def one_by_one(drivers: xr.Dataset) -> np.ndarray:
        positions = read_positions(book, assets, impact)
        holders = find_holders(positions)
        place = np.array([venues.index(name) for name in holders.venues], "i8")[holders.venue]
        n = drivers.sizes["scenario"]
        deficit, loss = np.zeros((len(venues), n)), np.zeros(n)
        for i, losses in enumerate(holder_losses(positions, holders, drivers)):
            deficit[:, i] = np.bincount(place, losses.deficit, len(venues))
            loss[i] = -losses.pnl.sum()
        return share(deficit, loss)

    sd = calibration["volatility"].sel(asset=list(assets)).values * np.sqrt(horizon_days)
    correlation = calibration["correlation"].sel(asset=list(assets), asset_2=list(assets)).values
    return reverse_stress(
        exhaustion,
        targets,
        assets,
        correlation * np.outer(sd, sd),
        gap=wanted.gap,
        bounds=Bounds(wanted.fall, wanted.rise),
        seed=seed,
        df=float(calibration["degrees_of_freedom"]),
        own=own,
        verify=one_by_one,
    )


def _in_batches(
    exhaustion: Callable[[xr.Dataset], np.ndarray],
) -> Callable[[xr.Dataset], np.ndarray]:
    def batched(drivers: xr.Dataset) -> np.ndarray:
        n = drivers.sizes["scenario"]
        parts = [
            exhaustion(slice_drivers(drivers, start, min(start + _BATCH, n)))
            for start in range(0, n, _BATCH)
        ]
        return np.concatenate(parts)

    return batched


def _nothing(drivers: xr.Dataset) -> np.ndarray:
    """No target is ever used up: there is none."""
    return np.zeros((drivers.sizes["scenario"], 0))
