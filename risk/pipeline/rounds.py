"""What a cascade adds: every set again as if nobody's closing moved the price for others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from risk.cube import open_cube, open_drivers
from risk.drivers import slice_drivers, take_drivers
from risk.liquidation import Ladders, build_ladders, walk
from risk.liquidation.cross import PoolOutcomes, take_outcomes
from risk.liquidation.options import Valued, take_valued
from risk.measures import expected_shortfall
from risk.pipeline.depths import impact_groups
from risk.pipeline.files import pooled_outcomes, valued_options
from risk.pipeline.night import Night

#: Scenarios walked at once: bounds the memory.
_BATCH = 4096

_VARIABLES = ("pnl", "deficit", "liquidations", "liquidated_notional")


def compare_rounds(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write `cascade.parquet`: the first round beside the cascade.

    Every stress, and of every sampled set what a reader compares. In the first round each position
    still pays for its own size.
    """
    if night.config.liquidation.cascade is None:
        return
    cube, drivers = open_cube(night.folder), open_drivers(night.folder, instruments=True)
    confidence = night.config.measures.confidence[-1]
    rows: list[tuple[str, str | None, str, float, float, float | None]] = []
    for name in night.config.scenarios.names:
        record = drivers[name].to_dataset().load()
        outcome = cube[name].to_dataset()
        whole = {v: outcome[v].values.sum(axis=1, dtype="f8") for v in _VARIABLES}
        alone = {v: np.zeros(record.sizes["scenario"]) for v in _VARIABLES}
        valued = valued_options(night.folder, name)
        pooled = pooled_outcomes(night.folder, name)
        everyone = np.arange(record.sizes["scenario"])
        for impact, index in impact_groups(night, name, everyone, cascade=False):
            ladders = build_ladders(book, assets, ["venue"], max(len(book), 1), impact=impact)
            some = None if valued is None else take_valued(valued, index)
            lived = None if pooled is None else take_outcomes(pooled, index)
            part = take_drivers(record, index)
            for v, values in _totals(ladders, part, some, lived).items():
                alone[v][index] = values
        if name == "stress":
            for i, label in enumerate(record.label.values):
                first, all_ = ({v: x[v][i] for v in _VARIABLES} for x in (alone, whole))
                rows += [(name, str(label), *row) for row in _beside(first, all_)]
            continue
        weight = record.weight.values
        first, all_ = (_summary(x, weight, confidence) for x in (alone, whole))
        rows += [(name, None, *row) for row in _beside(first, all_)]
    schema = pa.schema(
        [
            ("scenario_set", pa.string()), ("scenario", pa.string()), ("measure", pa.string()),
            ("first_round", pa.float64()), ("cascade", pa.float64()),
            ("amplification", pa.float64()),
        ]
    )  # fmt: skip
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * len(schema)
    pq.write_table(pa.table(columns, schema=schema), night.folder / "cascade.parquet")


def _totals(
    ladders: Ladders, record: xr.Dataset, valued: Valued | None, pooled: PoolOutcomes | None
) -> dict[str, np.ndarray]:
    parts = []
    for start in range(0, record.sizes["scenario"], _BATCH):
        stop = min(start + _BATCH, record.sizes["scenario"])
        part = slice_drivers(record, start, stop)
        # Paths step by step are not in the drivers: what options and pools came to is kept.
        index = np.arange(start, stop)
        some = None if valued is None else take_valued(valued, index)
        lived = None if pooled is None else take_outcomes(pooled, index)
        outcome = walk(ladders, part, variables=_VARIABLES, valued=some, pooled=lived)
        parts.append([outcome[v].values.sum(axis=1, dtype="f8") for v in _VARIABLES])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return dict(zip(_VARIABLES, columns, strict=True))


def _summary(
    totals: dict[str, np.ndarray], weight: np.ndarray, confidence: float
) -> dict[str, float]:
    weights = None if np.ptp(weight) <= 1e-9 / len(weight) else weight
    return {
        "expected_shortfall": float(expected_shortfall(totals["pnl"], confidence, weights=weights)),
        "deficit_expected_shortfall": float(
            expected_shortfall(-totals["deficit"], confidence, weights=weights)
        ),
        **{v: float(totals[v] @ weight) for v in _VARIABLES[1:]},
    }


def _beside(
    first: dict[str, float], whole: dict[str, float]
) -> Iterator[tuple[str, float, float, float | None]]:
    for name, value in first.items():
        ratio = whole[name] / value if value else None
        yield name, float(value), float(whole[name]), ratio
