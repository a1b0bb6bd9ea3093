"""The scenarios that are gone through position by position: every stress, and the worst sampled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from risk.cube import load_record, open_cube, open_drivers, total
from risk.drivers import take_drivers
from risk.liquidation import Impact
from risk.liquidation.accounts import Holders, find_holders
from risk.liquidation.cross import PoolOutcomes
from risk.liquidation.options import Valued
from risk.liquidation.positions import Positions, read_positions
from risk.liquidation.waterfall import Parties, find_parties
from risk.pipeline.depths import impact_groups
from risk.pipeline.files import pooled_outcomes, valued_options
from risk.pipeline.night import Night


@dataclass(frozen=True)
class GoneThrough:
    """Some scenarios of a set, in which closing does the same to the price.

    Attributes
    ----------
    scenario_set : str
    index : ndarray of int (scenario,)
        Their numbers in the set, ascending.
    among : ndarray of int
        Numbers of all scenarios of the set that are gone through, ascending.
    label : Array (scenario of the set,)
        The names of all scenarios of the set.
    positions : Positions
    holders : Holders
    parties : Parties
        With the funds of the night.
    drivers : Dataset (scenario,)
    valued : Valued or None
        The options' contracts in them; None without options.
    pooled : PoolOutcomes or None
        What account pools came to in them; None without pools.
    """

    scenario_set: str
    index: np.ndarray
    among: np.ndarray
    label: pa.Array
    positions: Positions
    holders: Holders
    parties: Parties
    drivers: xr.Dataset
    valued: Valued | None
    pooled: PoolOutcomes | None


def gone_through(night: Night, book: pa.Table) -> Iterator[GoneThrough]:
    """Set by set, all that is needed to close a book in them."""
    config, folder = night.config, night.folder
    cube, drivers = open_cube(folder), open_drivers(folder, instruments=True)
    funds = {
        row["venue"]: row["balance_usd"] or 0.0
        for row in pq.read_table(folder / "funds.parquet").to_pylist()
    }

    def read(assets: list[str], impact: Impact | None) -> tuple[Positions, Holders, Parties]:
        positions = read_positions(book, assets, impact)
        return positions, find_holders(positions), find_parties(positions, funds)

    usual: tuple[Positions, Holders, Parties] | None = None
    for name in config.scenarios.names:
        if name == "stress":
            # The drivers of the blocks do not say what happens to pegs and volatilities.
            record = load_record(folder / "scenarios" / "stress.zarr", instruments=True)
            index = np.arange(record.sizes["scenario"])
        else:
            deficit = total(cube[name].to_dataset(), "deficit").values
            index = worst_scenarios(deficit, config.accounts.worst_scenarios)
            record = drivers[name].to_dataset()
        if not len(index):
            continue
        label = pa.array([str(one) for one in record.label.values])
        record = take_drivers(record.load(), index)
        for impact, some in impact_groups(night, name, index):
            mine = np.searchsorted(index, some)
            assets = [str(asset) for asset in record.asset.values]
            is_usual = impact is None or name != "stress"
            held = usual if is_usual and usual is not None else read(assets, impact)
            usual = held if is_usual else usual
            yield GoneThrough(
                name,
                some,
                index,
                label,
                *held,
                record if len(mine) == len(index) else take_drivers(record, mine),
                valued_options(folder, name, some),
                pooled_outcomes(folder, name, some),
            )


def worst_scenarios(deficit: np.ndarray, n: int) -> np.ndarray:
    """Indices of the `n` largest deficits above zero, ascending; of equal ones the first.

    Examples
    --------
    >>> worst_scenarios(np.array([0.0, 3.0, 5.0, 3.0]), 2).tolist()
    [1, 2]
    """
    order = np.argsort(-deficit, kind="stable")[:n]
    return np.sort(order[deficit[order] > 0])
