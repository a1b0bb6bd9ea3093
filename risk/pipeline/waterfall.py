"""Who pays the deficits: every stress, and the worst scenarios of the sampled sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.liquidation.waterfall import settle_scenarios
from risk.pipeline.gone_through import GoneThrough

_FILES = ("waterfall", "deleveraged")

#: Bytes of names that may come with a row group.
_DICTIONARY = 1 << 27


class DeficitsSettled:
    """Gathers `waterfall.parquet` and `deleveraged.parquet`: by venue, and by account that is cut.

    Parameters
    ----------
    folder : Path
        Of the night.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: tuple[list[pa.Table], list[pa.Table]] = ([], [])

    def add(self, some: GoneThrough) -> None:
        """Let the funds and the winners pay in some scenarios."""
        settled = settle_scenarios(
            some.positions, some.parties, some.drivers, some.valued, some.pooled
        )
        for parts, table in zip(self._parts, (settled.venues, settled.accounts), strict=True):
            parts.append(_named(some, table))

    def write(self) -> None:
        """Write what there is: no file where no scenario had a deficit."""
        for file, parts in zip(_FILES, self._parts, strict=True):
            if parts:
                whole = _in_order(parts)
                pq.write_table(
                    whole,
                    self._folder / f"{file}.parquet",
                    # Amounts hardly repeat; of a million accounts every name is written once.
                    use_dictionary=[one.name for one in whole.schema if one.type != pa.float64()],
                    dictionary_pagesize_limit=_DICTIONARY,
                )


def _named(some: GoneThrough, table: pa.Table) -> pa.Table:
    """A table by set, number and label instead of place."""
    numbers = pa.array(some.index, pa.int32()).take(table["scenario"].combine_chunks())
    named = table.drop_columns("scenario")
    columns = (
        ("scenario_set", pa.array([some.scenario_set] * table.num_rows, pa.string())),
        ("scenario", numbers),
        ("label", some.label.take(numbers)),
    )
    for place, (column, values) in enumerate(columns):
        named = named.add_column(place, column, values)
    return named


def _in_order(parts: list[pa.Table]) -> pa.Table:
    """Sets as they came, scenarios ascending: stresses of another depth were settled apart."""
    whole = pa.concat_tables(parts)
    names = whole["scenario_set"].combine_chunks().dictionary_encode().indices.to_numpy()
    numbers = whole["scenario"].to_numpy()
    order = np.lexsort((numbers, names))
    return whole if (np.diff(order) == 1).all() else whole.take(pa.array(order))
