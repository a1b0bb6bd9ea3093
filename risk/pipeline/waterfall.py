"""Who pays the deficits: every stress, and the worst scenarios of the sampled sets."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.cube import open_cube, open_drivers
from risk.drivers import take_drivers
from risk.liquidation import auto_deleverage
from risk.liquidation.options import take_valued
from risk.pipeline.accounts import worst_scenarios
from risk.pipeline.files import pooled_outcomes, valued_options
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night


def settle_deficits(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write `waterfall.parquet` and `deleveraged.parquet`: by venue, and by deleveraged account."""
    config, folder = night.config, night.folder
    impact = read_impact(night)
    listed = pq.read_table(folder / "funds.parquet").to_pylist()
    funds = {row["venue"]: row["balance_usd"] or 0.0 for row in listed}
    cube, drivers = open_cube(folder), open_drivers(folder)
    venues: list[pa.Table] = []
    accounts: list[pa.Table] = []
    for name in config.scenarios.names:
        record = drivers[name].to_dataset().load()
        index = np.arange(record.sizes["scenario"])
        if name != "stress":
            deficit = cube[name].to_dataset().deficit.sum("cell").values
            index = worst_scenarios(deficit, config.accounts.worst_scenarios)
        if not len(index):
            continue
        valued = valued_options(folder, name)
        found = auto_deleverage(
            book,
            take_drivers(record, index),
            funds,
            impact,
            None if valued is None else take_valued(valued, index),
            pooled_outcomes(folder, name, index),
        )
        labels = pa.array([str(label) for label in record.label.values[index]])
        for table, parts in ((found.venues, venues), (found.accounts, accounts)):
            at = table["scenario"].combine_chunks()
            named = table.drop_columns("scenario")
            for place, (column, values) in enumerate(
                (
                    ("scenario_set", pa.array([name] * table.num_rows, pa.string())),
                    ("scenario", pa.array(index, pa.int32()).take(at)),
                    ("label", labels.take(at)),
                )
            ):
                named = named.add_column(place, column, values)
            parts.append(named)
    for file, parts in (("waterfall", venues), ("deleveraged", accounts)):
        if parts:
            pq.write_table(pa.concat_tables(parts), folder / f"{file}.parquet")
