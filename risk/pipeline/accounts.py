"""Who is behind the numbers: every account in every stress, and in the worst sampled scenarios."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from risk.cube import load_record, open_cube, open_drivers, total
from risk.drivers import take_drivers
from risk.liquidation import account_losses
from risk.liquidation.options import take_valued
from risk.pipeline.depths import impact_groups
from risk.pipeline.files import pooled_outcomes, valued_options
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night

_SCHEMA = pa.schema(
    [
        ("scenario_set", pa.string()), ("scenario", pa.int32()), ("account", pa.string()),
        ("venue", pa.string()), ("pnl_usd", pa.float64()), ("deficit_usd", pa.float64()),
        ("liquidations", pa.int64()),
    ]
)  # fmt: skip


def write_accounts(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write `accounts.parquet`: all accounts in the stresses, deficits alone in sampled sets."""
    config, folder = night.config, night.folder
    parts = [_SCHEMA.empty_table()]
    cube, drivers = open_cube(folder), open_drivers(folder, instruments=True)
    for name in config.scenarios.names:
        if name == "stress":
            record = load_record(folder / "scenarios" / "stress.zarr", instruments=True)
            everyone = [
                _renumbered(
                    account_losses(
                        book,
                        take_drivers(record, index),
                        impact,
                        pooled=pooled_outcomes(folder, name, index),
                    ),
                    index,
                )
                for impact, index in impact_groups(night, name, np.arange(record.sizes["scenario"]))
            ]
            order = [(key, "ascending") for key in ("scenario", "account", "venue")]
            parts.append(_named(name, pa.concat_tables(everyone).sort_by(order)))
            continue
        deficit = total(cube[name].to_dataset(), "deficit").values
        index = worst_scenarios(deficit, config.accounts.worst_scenarios)
        if not len(index):
            continue
        record = take_drivers(drivers[name].to_dataset().load(), index)
        valued = valued_options(folder, name)
        if valued is not None:
            valued = take_valued(valued, index)
        pooled = pooled_outcomes(folder, name, index)
        losses = account_losses(book, record, read_impact(night), valued, pooled)
        losses = losses.filter(pc.greater(losses["deficit_usd"], 0))
        parts.append(_named(name, _renumbered(losses, index)))
    pq.write_table(pa.concat_tables(parts), folder / "accounts.parquet")


def worst_scenarios(deficit: np.ndarray, n: int) -> np.ndarray:
    """Indices of the `n` largest deficits above zero, ascending; of equal ones the first.

    Examples
    --------
    >>> worst_scenarios(np.array([0.0, 3.0, 5.0, 3.0]), 2).tolist()
    [1, 2]
    """
    order = np.argsort(-deficit, kind="stable")[:n]
    return np.sort(order[deficit[order] > 0])


def _renumbered(losses: pa.Table, index: np.ndarray) -> pa.Table:
    """Losses whose scenarios are those at `index`, by the numbers they have in their set."""
    place = losses.schema.get_field_index("scenario")
    numbers = pa.array(index, pa.int32()).take(losses["scenario"].combine_chunks())
    return losses.set_column(place, "scenario", numbers)


def _named(name: str, losses: pa.Table) -> pa.Table:
    sets = pa.array([name] * losses.num_rows, pa.string())
    return losses.add_column(0, "scenario_set", sets).cast(_SCHEMA)
