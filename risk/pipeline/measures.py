"""The numbers of a night: measures, positions, accounts, curves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk import findings
from risk.coverage import coverage, methods
from risk.cube import open_cube, open_drivers, plain_text
from risk.liquidation import liquidation_curve, rows_in_steps
from risk.liquidation.tails import position_tails, required_margins
from risk.margin.book import margin_table
from risk.measures import measure_cube
from risk.pipeline.accounts import write_accounts
from risk.pipeline.extras import EXTRAS
from risk.pipeline.files import pooled_outcomes, read_json, valued_options, write_tree
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night, Progress

#: What a position's row says of a sampled set: 99 % value at risk, 97.5 % expected shortfall.
TAILS = (
    "liquidation_probability",
    "value_at_risk",
    "expected_shortfall",
    "expected_deficit",
)

#: Equity a position needs: see `risk.liquidation.tails.required_margins`.
NEEDS = ("required_margin", "liquidation_required_margin")

#: Own-price moves the liquidation curves are drawn at, as fractions of the mark.
CURVE_MOVES = tuple(round(move / 100, 2) for move in range(-60, 61, 2))


def measure(night: Night, progress: Progress | None = None) -> None:
    """Roll the cube up and measure it; go back to positions and accounts where a reader does."""
    config, folder = night.config, night.folder
    book = pq.read_table(folder / "book.parquet")
    assets = read_json(folder / "market.json")["assets"]
    proxied = read_json(folder / "market.json")["proxied"]
    quarantine = pq.read_table(folder / "quarantine.parquet")
    n_rows = read_json(folder / "snapshot.json")["n_rows"]
    pq.write_table(coverage(book, quarantine, n_rows, proxied), folder / "coverage.parquet")
    in_steps = rows_in_steps(book, assets, read_impact(night))
    pq.write_table(methods(book, in_steps), folder / "methods.parquet")
    sampled = [name for name in config.scenarios.names if name != "stress"]
    if sampled:
        measures = measure_cube(
            open_cube(folder),
            confidences=config.measures.confidence,
            levels=config.cells,
            sets=sampled,
        )
        write_tree(measures, folder / "measures.zarr")
    pq.write_table(_positions(night, book), folder / "positions.parquet")
    write_accounts(night, book)
    curves = liquidation_curve(book, assets, CURVE_MOVES, read_impact(night))
    plain_text(curves).to_zarr(folder / "curves.zarr", mode="w", consolidated=False)
    sensitivity = findings.gap_sensitivity(folder, config)
    if sensitivity is not None:
        sensitivity.to_zarr(folder / "gap_sensitivity.zarr", mode="w", consolidated=False)
    for extra in EXTRAS:
        extra(night, book, assets)


def _positions(night: Night, book: pa.Table) -> pa.Table:
    """The margin table beside each scenario set's tail and requirement of every position."""
    margin = margin_table(book)
    names = ("account", *(name for name in ("venue", "symbol", "asset", "side", "book")))
    labels = book.select(names)
    targets = night.config.margin
    parts = []
    impact = read_impact(night)
    for name in night.config.scenarios.names:
        columns = {"scenario_set": pa.array([name] * len(book), pa.string())}
        columns |= {column: margin[column] for column in margin.column_names}
        columns |= {column: labels[column] for column in names}
        if name == "stress":  # designed, so it has no probabilities
            nulls = pa.nulls(len(book), pa.float64())
            columns |= {column: nulls for column in (*TAILS, *NEEDS)}
        else:
            drivers = open_drivers(night.folder)[name].to_dataset().load()
            valued = valued_options(night.folder, name)
            pooled = pooled_outcomes(night.folder, name)
            tails = position_tails(book, drivers, impact=impact, valued=valued, pooled=pooled)
            needs = required_margins(
                book,
                drivers,
                deficit_probability=targets.target_deficit_probability,
                liquidation_probability=targets.target_liquidation_probability,
                impact=impact,
            )
            found = {column: tails[column].values for column in TAILS}
            found |= {column: needs[column].values for column in NEEDS}
            columns |= {k: pa.array(v, mask=np.isnan(v)) for k, v in found.items()}
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
