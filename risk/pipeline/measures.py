"""The numbers of a night: measures, positions, accounts, curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk import findings
from risk.book import read_book, write_positions
from risk.coverage import coverage, methods
from risk.cube import open_cube, open_drivers, plain_text, save_totals
from risk.engine import run_parts
from risk.liquidation import liquidation_curve, rows_in_steps
from risk.liquidation.tails import BookTerms, position_tails, required_margins
from risk.margin.book import margin_table
from risk.margin.pooling import folded
from risk.measures import measure_cube
from risk.pipeline.accounts import write_accounts
from risk.pipeline.adequacy import adequacy
from risk.pipeline.attribute import attribute
from risk.pipeline.before import compare_with_before
from risk.pipeline.branch import compare_branch
from risk.pipeline.designs import sampling_designs
from risk.pipeline.explore import explore
from risk.pipeline.files import (
    pooled_results,
    read_json,
    valued_options,
    write_tree,
)
from risk.pipeline.greeks import write_greeks
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night, Progress
from risk.pipeline.pools import write_contrast, write_pools
from risk.pipeline.regulate import regulate
from risk.pipeline.rounds import compare_rounds

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
    """Roll the cube up and measure it; go back to positions and accounts where a reader does.

    The parts read what earlier stages left and each write artifacts of their own, so that worker
    processes can do them side by side.
    """
    run_parts(
        measure_part,
        list(PARTS),
        [night.lent()],
        workers=night.workers,
        progress=(lambda done, total: progress("measure", done, total)) if progress else None,
    )


def measure_part(name: str, night: Night) -> None:
    """Do one part of the stage."""
    book = read_book(night.folder)
    assets = read_json(night.folder / "market.json")["assets"]
    if name in _ONE_PRICE:
        book = folded(book)
    for write in PARTS[name]:
        write(night, book, assets)


def _coverage(night: Night, book: pa.Table, assets: list[str]) -> None:
    proxied = read_json(night.folder / "market.json")["proxied"]
    quarantine = pq.read_table(night.folder / "quarantine.parquet")
    n_rows = read_json(night.folder / "snapshot.json")["n_rows"]
    counted = coverage(book, quarantine, n_rows, proxied)
    pq.write_table(counted, night.folder / "coverage.parquet")
    in_steps = rows_in_steps(book, assets, read_impact(night))
    pq.write_table(methods(book, in_steps), night.folder / "methods.parquet")


def _cube(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Measure every set that has probabilities, by every roll-up level."""
    config, folder = night.config, night.folder
    sampled = [name for name in config.scenarios.names if name != "stress"]
    if sampled:
        totals: dict[str, np.ndarray] = {}

        def keep(name: str, variable: str, total: np.ndarray) -> None:
            if variable == "pnl":
                totals[name] = total

        measures = measure_cube(
            open_cube(folder),
            confidences=config.measures.confidence,
            levels=config.cells,
            sets=sampled,
            designs=sampling_designs(config),
            keep=keep,
        )
        save_totals(folder, totals)
        write_tree(measures, folder / "measures.zarr")


def _curves(night: Night, book: pa.Table, assets: list[str]) -> None:
    curves = liquidation_curve(folded(book), assets, CURVE_MOVES, read_impact(night))
    plain_text(curves).to_zarr(night.folder / "curves.zarr", mode="w", consolidated=False)


def _gap_sensitivity(night: Night, book: pa.Table, assets: list[str]) -> None:
    sensitivity = findings.gap_sensitivity(night.folder, night.config)
    if sensitivity is not None:
        path = night.folder / "gap_sensitivity.zarr"
        sensitivity.to_zarr(path, mode="w", consolidated=False)


def _positions(night: Night, book: pa.Table, assets: list[str]) -> None:
    write_positions(_tails_and_needs(night, book), night.folder / "positions.parquet")


#: Parts that move assets by hand, where no contract pays funding.
_ONE_PRICE = {"capital", "explore"}

#: Writes an artifact, given the night, its book and its assets.
Write = Callable[[Night, pa.Table, list[str]], None]

#: The parts of the stage, the longest first. Inside a part a later one may read what an earlier
#: one wrote; what the config does not ask for is not written.
PARTS: dict[str, tuple[Write, ...]] = {
    "positions": (_positions, adequacy),
    "accounts": (write_accounts,),
    "cube": (_coverage, _cube),
    "capital": (regulate,),
    "rounds": (compare_rounds,),
    "explore": (explore,),
    "contrast": (write_pools, write_contrast),
    "attribution": (attribute,),
    "branch": (compare_branch,),
    "rest": (_gap_sensitivity, _curves, write_greeks),
    "before": (compare_with_before,),
}


def _tails_and_needs(night: Night, book: pa.Table) -> pa.Table:
    """The margin table beside each scenario set's tail and requirement of every position."""
    margin = margin_table(book)
    names = ("account", *(name for name in ("venue", "symbol", "asset", "side", "book")))
    labels = book.select(names)
    targets = night.config.margin
    parts = []
    impact, terms = read_impact(night), None
    stored = open_drivers(night.folder, instruments=True, labels=False)
    for name in night.config.scenarios.names:
        columns = {"scenario_set": pa.repeat(name, len(book))}
        columns |= {column: margin[column] for column in margin.column_names}
        columns |= {column: labels[column] for column in names}
        if name == "stress":  # designed, so it has no probabilities
            nulls = pa.nulls(len(book), pa.float64())
            columns |= {column: nulls for column in (*TAILS, *NEEDS)}
        else:
            drivers = stored[name].to_dataset().load()
            if terms is None:
                terms = BookTerms(book, list(drivers.asset.values), impact)
            valued = valued_options(night.folder, name)
            pooled = pooled_results(night.folder, name)
            tails = position_tails(book, drivers, valued=valued, pooled=pooled, terms=terms)
            needs = required_margins(
                folded(book),
                drivers,
                deficit_probability=targets.target_deficit_probability,
                liquidation_probability=targets.target_liquidation_probability,
                terms=terms,
            )
            found = {column: tails[column].values for column in TAILS}
            found |= {column: needs[column].values for column in NEEDS}
            columns |= {k: pa.array(v, mask=np.isnan(v)) for k, v in found.items()}
            del drivers, valued, pooled  # before the next set's are read
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
