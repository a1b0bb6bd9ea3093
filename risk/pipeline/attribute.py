"""Who is in the tail, down to the position; other estimators; how the numbers settle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.cube import open_cube, open_drivers
from risk.drivers import take_drivers
from risk.margin.pooling import rows_apart
from risk.measures import (
    compare_estimators,
    convergence,
    expected_shortfall,
    expected_shortfall_contributions,
    incremental,
    value_at_risk_contribution_errors,
    value_at_risk_contributions,
)
from risk.measures.contribution import tail_shares
from risk.measures.rollup import group_sums
from risk.pipeline.designs import sampling_designs
from risk.pipeline.files import pooled_outcomes
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night
from risk.solvency import pool_parts, position_parts

#: Levels with more groups than this get no value-at-risk parts and no incremental figures.
MOST_GROUPS = 40

#: Positions priced again in the tail: those of the cells that lose most there.
MOST_POSITIONS = 2000

#: Positions kept, the largest contributors.
N_POSITIONS = 50


def attribute(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write estimates, convergence, parts by group and the positions behind the tail."""
    config, folder = night.config, night.folder
    sampled = [name for name in config.scenarios.names if name != "stress"]
    is_priced = pc.any(pc.equal(book["status"], "ok")).as_py()
    if not (config.measures.attribution and sampled and is_priced):
        return
    name = "monte_carlo" if "monte_carlo" in sampled else sampled[0]
    given = config.measures.confidence
    level, es_level = (min(given, key=lambda c: abs(c - wanted)) for wanted in (0.99, 0.975))
    cube = open_cube(folder)[name].to_dataset()
    weights = cube["weight"].values if "weight" in cube.coords else None
    if weights is not None and np.ptp(weights) <= 1e-9 / len(weights):
        weights = None
    # In the config's order: a store lists its coordinates in any.
    cells = {label: cube[label].values.astype(str) for label in config.cells}
    groups = [np.unique(labels, return_inverse=True) for labels in cells.values()]
    every = [(of_cell, len(names)) for names, of_cell in groups]
    total = (np.zeros(cube.sizes["cell"], "i8"), 1)
    sums = {
        variable: group_sums(cube[variable], [total, *every])
        for variable in ("pnl", "deficit", "liquidations")
    }
    whole = sums["pnl"][0]
    estimates = compare_estimators(whole, level, es_level, weights=weights)
    _write(folder / "estimates.parquet", estimates, name)
    if weights is None:
        design = sampling_designs(config).get(name)
        grown = convergence(whole, level, es_level, design=design)
        _write(folder / "convergence.parquet", grown, name)

    shares = {v: tail_shares(_losses(v, s[0]), es_level, weights) for v, s in sums.items()}
    rows: list[dict[str, Any]] = []
    first = 1
    for label, (names, _) in zip(cells, groups, strict=True):
        part = slice(first, first + len(names))
        first = part.stop
        rows += _parts(label, names, sums, part, shares, level, es_level, weights)
    notes = {"value_at_risk": f"{level:g}", "expected_shortfall": f"{es_level:g}"}
    table = pa.Table.from_pylist(rows, schema=PARTS)
    _write(folder / "parts.parquet", table, name, **notes)

    by_cell = _cell_losses(cube, shares["pnl"])
    positions = _positions(night, book, name, shares["pnl"], by_cell, list(cells))
    _write(folder / "tail_positions.parquet", positions, name, **notes)


_TEXT, _NUMBER = pa.string(), pa.float64()
PARTS = pa.schema(
    [
        pa.field("level", _TEXT, False),
        pa.field("group", _TEXT, False),
        pa.field("expected_shortfall", _NUMBER, False),
        pa.field("contribution", _NUMBER, False),
        pa.field("value_at_risk_contribution", _NUMBER, True),
        pa.field("value_at_risk_contribution_error", _NUMBER, True),
        pa.field("incremental", _NUMBER, True),
        pa.field("deficit_contribution", _NUMBER, False),
        pa.field("liquidations_contribution", _NUMBER, False),
    ]
)


def _losses(variable: str, sums: np.ndarray) -> np.ndarray:
    return 0.0 - sums if variable == "pnl" else sums


def _parts(
    label: str, names: np.ndarray, sums: dict[str, np.ndarray], part: slice,
    shares: dict[str, np.ndarray], level: float, es_level: float, weights: np.ndarray | None,
) -> list[dict[str, Any]]:  # fmt: skip
    pnl = sums["pnl"][part]
    contribution = expected_shortfall_contributions(pnl.T, es_level, weights=weights)
    alone = expected_shortfall(pnl, es_level, weights=weights)
    columns: dict[str, Any] = {
        f"{name}_contribution": (sums[name][part] * shares[name]).sum(axis=1)
        for name in ("deficit", "liquidations")
    }
    if len(names) <= MOST_GROUPS:
        at = value_at_risk_contributions(pnl.T, level, weights=weights)
        columns["value_at_risk_contribution"] = at
        columns["incremental"] = incremental(pnl.T, es_level, weights=weights)
        if weights is None:
            errors = value_at_risk_contribution_errors(pnl.T, level)
            columns["value_at_risk_contribution_error"] = np.where(np.isnan(errors), None, errors)
    return [
        {
            "level": label,
            "group": str(name),
            "expected_shortfall": float(alone[k]),
            "contribution": float(contribution[k]),
        }
        | {key: None if column[k] is None else float(column[k]) for key, column in columns.items()}
        for k, name in enumerate(names)
    ]


def _cell_losses(cube: xr.Dataset, share: np.ndarray) -> np.ndarray:
    """Mean loss of every cell in the tail."""
    tail = np.flatnonzero(share)
    rows = cube["pnl"].transpose("scenario", "cell")
    losses = np.zeros(rows.shape[1])
    for start in range(0, len(tail), 256):
        few = tail[start : start + 256]
        losses -= (rows[few].values * share[few, None]).sum(axis=0)
    return losses


def _positions(
    night: Night, book: pa.Table, name: str, share: np.ndarray, by_cell: np.ndarray,
    labels: list[str],
) -> pa.Table:  # fmt: skip
    """The positions of the cells that lose most, priced again in the tail scenarios."""
    cube = open_cube(night.folder)[name].to_dataset()
    keys = list(zip(*(cube[label].values.astype(str) for label in labels), strict=True))
    rank = {keys[cell]: at for at, cell in enumerate(np.argsort(-by_cell, kind="stable"))}
    is_ok = pc.equal(book["status"], "ok").to_numpy(zero_copy_only=False)
    columns = [book[label].cast(pa.string()).to_pylist() for label in labels]
    place = np.array([rank.get(key, len(rank)) for key in zip(*columns, strict=True)])
    candidates = np.flatnonzero(is_ok & (place < len(rank)))
    chosen = candidates[np.argsort(place[candidates], kind="stable")[:MOST_POSITIONS]]
    chosen = np.sort(chosen)
    part = book.take(pa.array(chosen))
    tail = np.flatnonzero(share)
    record = take_drivers(
        open_drivers(night.folder, instruments=True)[name].to_dataset().load(), tail
    )
    # A pool cannot be priced in part: its positions have their results from the whole of it.
    shared = part["pool_holdings"].is_valid().to_numpy(zero_copy_only=False)
    shared[rows_apart(part)] = True
    alone, impact = np.flatnonzero(~shared), read_impact(night)
    found = position_parts(part.take(pa.array(alone)), record, share[tail], impact)
    found = found.set_column(0, "row", pa.array(alone[found["row"].to_numpy()]))
    if shared.any():
        pooled = pooled_outcomes(night.folder, name, tail)
        more = pool_parts(book, record, share[tail], impact, pooled)
        mine = np.isin(more["row"].to_numpy(), chosen)
        more = more.filter(pa.array(mine))
        places = np.searchsorted(chosen, more["row"].to_numpy())
        found = pa.concat_tables([found, more.set_column(0, "row", pa.array(places))])
    kept = found.sort_by([("loss_usd", "descending"), ("row", "ascending")]).slice(0, N_POSITIONS)
    who = part.select(["position_id", "account", "venue", "symbol", "side"])
    who = who.take(kept["row"].combine_chunks())
    columns_kept = {column: who[column].cast(pa.string()) for column in who.column_names}
    notional = part["notional_usd"].take(kept["row"].combine_chunks())
    return pa.table(
        columns_kept
        | {"notional_usd": notional}
        | {column: kept[column] for column in ("loss_usd", "deficit_usd", "liquidations")}
    )


def _write(path: Path, table: pa.Table, scenario_set: str, **notes: str) -> None:
    metadata = {"scenario_set": scenario_set, **notes}
    pq.write_table(table.replace_schema_metadata(metadata), path)
