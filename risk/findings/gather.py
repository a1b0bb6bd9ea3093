"""Gather what the reports print from the files of a run, and print them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from risk.book import read_book
from risk.capital import adequacy, load_capital
from risk.config import Config
from risk.coverage import reasons
from risk.cube import open_cube, open_tree, read_dataset, read_totals
from risk.findings.exposures import exposures
from risk.findings.identity import parameters, run_identity
from risk.findings.margins import margin_summary
from risk.findings.quality import quality
from risk.findings.reconcile import reconcile
from risk.findings.sections import sections
from risk.findings.stresses import sampled_deficits, stress_totals, worst_accounts
from risk.reports import (
    LimitState,
    PreviousNight,
    ReportInputs,
    load_limits,
    render_capital,
    render_officer,
)
from risk.reports.choose import SET_WORDS, headline, words
from risk.reports.exposures import group_words
from risk.reports.headlines import limit_states
from risk.reports.view import Facts


def report_inputs(
    folder: Path, config: Config, *, as_of: dt.date, run_id: str, inputs: Mapping[str, str]
) -> ReportInputs:
    """Gather everything the reports print from the files of a run."""
    book = read_book(folder)
    quarantine = pq.read_table(folder / "quarantine.parquet")
    funds = pq.read_table(folder / "funds.parquet")
    market, snapshot = _json(folder / "market.json"), _json(folder / "snapshot.json")
    measures = open_tree(folder / "measures.zarr").load()
    cube = open_cube(folder)
    stresses, losses = stress_totals(folder, cube, funds)
    capital = load_capital(config.capital, as_of) if config.capital else None
    base = {
        "as_of": as_of,
        "measures": measures,
        "totals": read_totals(folder, cube, config.scenarios.names),
        "stresses": stresses,
        "coverage": (covered := pq.read_table(folder / "coverage.parquet")),
        "coverage_floor": config.measures.coverage_floor,
        "reasons": reasons(book, quarantine),
        "margin": margin_summary(book),
        "curves": _stored(folder / "curves.zarr"),
        "accounts": worst_accounts(book, losses, stresses),
        "funds": funds,
        "entity": capital.entity if capital else "the reporting entity",
        "previous": _previous(folder),
        "limits": load_limits(config.limits) if config.limits else (),
        "parameters": parameters(config, market),
        "quality": quality(book, market, snapshot),
        "capital": _table(folder / "capital.parquet"),
        "gap_sensitivity": _stored(folder / "gap_sensitivity.zarr"),
        "sections": sections(folder, config),
        "reconciled": reconcile(book, covered, cube, measures, snapshot),
        "exposures": exposures(book, _stored(folder / "calibration.zarr")),
        "methods": _table(folder / "methods.parquet"),
        "run": run_identity(config, run_id, inputs, market, snapshot, measures),
    }
    draft = ReportInputs(contributors=_contributors(measures, "", 0.0), **base)
    top = headline(draft)
    contributors = _contributors(measures, top.scenario_set, top.expected_shortfall)
    lines = None
    if capital is not None:
        extreme = measures["total"].deficit_expected_shortfall_999.sel(
            scenario_set=top.scenario_set
        )
        lines = adequacy(
            funds=funds,
            settings=capital,
            deficit_by_venue=stresses.deficit_by_venue,
            account_deficits=losses,
            deficit_expected_shortfall=float(extreme.values.item()),
            sampled_deficits=sampled_deficits(folder, cube),
            deficit_basis=(
                f"{words(top.scenario_set, SET_WORDS)}, 99.9 %, coherent fractional tail mean"
            ),
        )
    return ReportInputs(contributors=contributors, adequacy=lines, **base)


def write_reports(folder: Path, facts: pa.Table, inputs: ReportInputs) -> None:
    """Print the officer's report and the capital summary into a folder."""
    (folder / "report.html").write_text(render_officer(facts, inputs), encoding="utf-8")
    page, document = render_capital(facts, inputs)
    (folder / "capital.html").write_text(page, encoding="utf-8")
    (folder / "capital.json").write_text(document, encoding="utf-8")


def breaches(facts: pa.Table, inputs: ReportInputs) -> tuple[str, ...]:
    """One sentence per breached limit, and one if coverage is below its floor."""
    view, names = Facts(facts), group_words(inputs)
    found = [
        f"{state.limit.name}{_whose(state, names)}: "
        f"{state.value:,.2f} against {state.limit.breach:,.2f}"
        for state in limit_states(view, inputs)
        if state.state == "breach" and state.value is not None
    ]
    for row in inputs.coverage.to_pylist():
        for column, what in (("share", "positions"), ("notional_share", "notional")):
            share = row[column]
            if row["status"] == "priced" and share is not None and share < inputs.coverage_floor:
                found.append(
                    f"coverage: {share:.2%} of the {what} priced, floor {inputs.coverage_floor:.2%}"
                )
    found += [
        f"reconciliation: {one.name}: {one.left:,.2f} {one.left_words}, {one.right:,.2f} "
        f"{one.right_words}"
        for one in inputs.reconciled
        if not one.is_equal
    ]
    return tuple(found)


def _whose(state: LimitState, names: Mapping[tuple[str, str], str]) -> str:
    """The worst group of a limit by level, in brackets."""
    if not state.limit.level or not state.group:
        return ""
    return f" ({names.get((state.limit.level, state.group), state.group)})"


def _stored(path: Path) -> xr.Dataset | None:
    if not path.exists():
        return None
    return read_dataset(path)


def _previous(folder: Path) -> PreviousNight | None:
    """The facts of the night before that the run was given."""
    facts = _table(folder / "previous.parquet")
    if facts is None:
        return None
    notes = facts.schema.metadata
    return PreviousNight(
        as_of=dt.date.fromisoformat(notes[b"as_of"].decode()),
        run_id=notes[b"run_id"].decode(),
        values=dict(zip(facts["fact_id"].to_pylist(), facts["value"].to_pylist(), strict=True)),
    )


def _table(path: Path) -> pa.Table | None:
    return pq.read_table(path, partitioning=None) if path.exists() else None


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _contributors(measures: xr.DataTree, scenario_set: str, confidence: float) -> pa.Table:
    """Parts of the headline expected shortfall by every level; empty without a headline."""
    rows = []
    for level, node in measures.children.items():
        if level == "total" or not scenario_set:
            continue
        part = node.dataset.expected_shortfall_contribution.sel(
            scenario_set=scenario_set, confidence=confidence
        )
        rows += [
            {"label": level, "group": str(group), "expected_shortfall_contribution": float(value)}
            for group, value in zip(part.group.values, part.values, strict=True)
        ]
    schema = pa.schema(
        [("label", "string"), ("group", "string"), ("expected_shortfall_contribution", "f8")]
    )
    return pa.Table.from_pylist(rows, schema=schema)
