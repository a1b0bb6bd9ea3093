"""Who pays the deficits: every stress, and the worst scenarios of the sampled sets."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.cube import open_cube, open_drivers, total
from risk.drivers import take_drivers
from risk.liquidation import auto_deleverage
from risk.liquidation.options import take_valued
from risk.pipeline.accounts import worst_scenarios
from risk.pipeline.depths import impact_groups
from risk.pipeline.files import pooled_outcomes, valued_options
from risk.pipeline.night import Night


def settle_deficits(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write `waterfall.parquet` and `deleveraged.parquet`: by venue, and by deleveraged account."""
    config, folder = night.config, night.folder
    listed = pq.read_table(folder / "funds.parquet").to_pylist()
    funds = {row["venue"]: row["balance_usd"] or 0.0 for row in listed}
    cube, drivers = open_cube(folder), open_drivers(folder, instruments=True)
    venues: list[pa.Table] = []
    accounts: list[pa.Table] = []
    for name in config.scenarios.names:
        record = drivers[name].to_dataset().load()
        index = np.arange(record.sizes["scenario"])
        if name != "stress":
            deficit = total(cube[name].to_dataset(), "deficit").values
            index = worst_scenarios(deficit, config.accounts.worst_scenarios)
        if not len(index):
            continue
        valued = valued_options(folder, name)
        labels = pa.array([str(label) for label in record.label.values])
        found = []
        for impact, some in impact_groups(night, name, index):
            here = None if valued is None else take_valued(valued, some)
            shared = pooled_outcomes(folder, name, some)
            settled = auto_deleverage(book, take_drivers(record, some), funds, impact, here, shared)
            found.append(
                [_named(name, some, labels, one) for one in (settled.venues, settled.accounts)]
            )
        for parts, tables in zip((venues, accounts), zip(*found, strict=True), strict=True):
            whole = pa.concat_tables(tables)
            # Stresses of another depth were settled apart; the sort keeps the rest as it is.
            parts.append(whole.sort_by("scenario") if len(tables) > 1 else whole)
    for file, parts in (("waterfall", venues), ("deleveraged", accounts)):
        if parts:
            pq.write_table(pa.concat_tables(parts), folder / f"{file}.parquet")


def _named(name: str, index: np.ndarray, labels: pa.Array, table: pa.Table) -> pa.Table:
    """A table of the scenarios at `index`, by set, number and label."""
    numbers = pa.array(index, pa.int32()).take(table["scenario"].combine_chunks())
    named = table.drop_columns("scenario")
    columns = (
        ("scenario_set", pa.array([name] * table.num_rows, pa.string())),
        ("scenario", numbers),
        ("label", labels.take(numbers)),
    )
    for place, (column, values) in enumerate(columns):
        named = named.add_column(place, column, values)
    return named
