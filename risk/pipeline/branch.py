"""A what-if branch: the book it runs on, and what it changed against its base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.cube import open_cube, total
from risk.errors import RunError
from risk.measures.paired import Paired, paired_mean, paired_shortfall
from risk.pipeline.files import write_json
from risk.pipeline.night import Night
from risk.snapshot import Snapshot
from risk.snapshot.what_if import apply_what_if, load_what_if

_SCHEMA = pa.schema(
    [
        ("scenario_set", "string"),
        ("scenario", "string"),
        ("measure", "string"),
        ("unit", "string"),
        ("base", "f8"),
        ("branch", "f8"),
        ("difference", "f8"),
        ("standard_error", "f8"),
    ]
)


def branch_snapshot(night: Night, snapshot: Snapshot) -> Snapshot:
    """The snapshot the night runs on: its branch, if it is one; what was done is written down."""
    branch = night.config.what_if
    if branch is None:
        return snapshot
    what_if = load_what_if(branch.file)
    changed, done = apply_what_if(snapshot, what_if, branch.file)
    write_json(
        night.folder / "what_if.json",
        {
            "title": what_if.title,
            "base": branch.base.name,
            "changes": [{"kind": one.kind, "n_changed": one.n_changed} for one in done],
            "n_before": snapshot.positions.num_rows,
            "n_after": changed.positions.num_rows,
        },
    )
    return changed


def compare_branch(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Differences from the base on the same scenarios, for a branch."""
    branch = night.config.what_if
    if branch is None:
        return
    rows: list[dict[str, object]] = []
    for name in night.config.scenarios.names:
        before, after = (_totals(folder, name) for folder in (branch.base, night.folder))
        labels, weight = before.pop("label"), before.pop("weight")
        if not np.array_equal(labels, after.pop("label")):
            raise RunError(f"{branch.base}: holds other scenarios of {name}; run the base again")
        after.pop("weight")
        if name == "stress":
            for place, label in enumerate(labels):
                for measure, (unit, _) in _MEASURES.items():
                    a, b = (float(totals[measure][place]) for totals in (before, after))
                    rows.append(_row(name, str(label), measure, unit, Paired(a, b, b - a, np.nan)))
            continue
        for measure, (unit, _) in _MEASURES.items():
            found = paired_mean(before[measure], after[measure], weight)
            rows.append(_row(name, "", f"{measure}_mean", unit, found))
        for level in night.config.measures.confidence:
            for measure, sign in (("pnl", 1.0), ("deficit", -1.0)):
                found = paired_shortfall(
                    sign * before[measure], sign * after[measure], level, weight
                )
                rows.append(_row(name, "", f"{measure}_es_{level:g}", "USD", found))
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    pq.write_table(table, night.folder / "what_if.parquet")


#: Cube variables that are compared: unit and meaning.
_MEASURES = {
    "pnl": ("USD", "holders' P&L"),
    "deficit": ("USD", "deficit"),
    "venue_gain": ("USD", "venues' gain"),
    "liquidations": ("1", "positions liquidated"),
    "liquidated_notional": ("USD", "notional liquidated"),
}


def _totals(folder: Path, name: str) -> dict[str, np.ndarray]:
    cube = open_cube(folder)[name].to_dataset()
    found = {measure: total(cube, measure).values.astype("f8") for measure in _MEASURES}
    return found | {"label": cube["label"].values, "weight": cube["weight"].values}


def _row(
    scenario_set: str, scenario: str, measure: str, unit: str, found: Paired
) -> dict[str, object]:
    error = None if np.isnan(found.standard_error) else found.standard_error
    return {
        "scenario_set": scenario_set,
        "scenario": scenario,
        "measure": measure,
        "unit": unit,
        **found._asdict(),
        "standard_error": error,
    }
