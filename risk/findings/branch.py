"""The report's section on a what-if branch: what was changed, and what that changed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from risk.config import Config
from risk.reports import Fact, Section
from risk.reports.branch_charts import stress_differences
from risk.reports.view import slug

#: Stresses listed, the most changed first.
_N_STRESSES = 10

#: What a change is called.
CHANGES = {
    "add": "positions added",
    "remove": "positions removed",
    "re_lever": "positions re-levered",
    "top_up": "positions topped up",
    "tiers": "tier tables changed",
}

_MEASURES = {
    "pnl_mean": "holders' P&L, mean",
    "deficit_mean": "deficit, mean",
    "venue_gain_mean": "venues' gain, mean",
    "liquidations_mean": "positions liquidated, mean",
    "liquidated_notional_mean": "notional liquidated, mean",
}


def what_if(folder: Path, config: Config) -> Section | None:
    """Differences from the base on the same scenarios; None where the run is no branch."""
    if not (folder / "what_if.json").exists():
        return None
    note = json.loads((folder / "what_if.json").read_text(encoding="utf-8"))
    rows = pq.read_table(folder / "what_if.parquet").to_pylist()
    sampled = [row for row in rows if not row["scenario"]]
    facts = [
        Fact("what_if.positions.before", note["n_before"], "1", "the base's book", 0),
        Fact("what_if.positions.after", note["n_after"], "1", "the branch's book", 0),
    ]
    changes = []
    for place, change in enumerate(note["changes"], 1):
        key = f"what_if.change.{place}"
        facts.append(Fact(key, change["n_changed"], "1", CHANGES[change["kind"]], 0))
        changes.append((CHANGES[change["kind"]], key))
    listed = []
    for row in sampled:
        key = f"what_if.{row['scenario_set']}.{row['measure']}"
        listed.append({"set": row["scenario_set"], "words": words_of(row["measure"]), "key": key})
        facts += _facts(key, row)
    stresses = sorted(
        (row for row in rows if row["scenario"] and row["measure"] == "pnl"),
        key=lambda row: (-abs(row["difference"]), row["scenario"]),
    )[:_N_STRESSES]
    by_name = {(row["scenario"], row["measure"]): row for row in rows}
    shown = []
    for row in stresses:
        key = f"what_if.stress.{slug(row['scenario'])}"
        shown.append((row["scenario"], key))
        for measure in ("pnl", "deficit", "liquidations"):
            facts += _facts(f"{key}.{measure}", by_name[row["scenario"], measure])
    return Section(
        name="what_if",
        title="What if",
        nav="What if",
        facts=tuple(facts),
        context={
            "title": note["title"],
            "base": note["base"],
            "changes": changes,
            "rows": listed,
            "stresses": shown,
        },
        charts={"stresses": partial(stress_differences, rows=shown)} if shown else {},
    )


def words_of(measure: str) -> str:
    """A measure of the comparison in words."""
    if measure in _MEASURES:
        return _MEASURES[measure]
    what, _, level = measure.partition("_es_")
    who = "holders' loss" if what == "pnl" else "deficit"
    return f"{who}, expected shortfall {100 * float(level):g} %"


def _facts(key: str, row: dict[str, Any]) -> list[Fact]:
    places = 2 if row["unit"] == "1" else None
    scope = f"{row['scenario_set']} {row['scenario']} {row['measure']}".replace("  ", " ")
    names = ("base", "branch", "difference", "standard_error")
    return [Fact(f"{key}.{name}", row[name], row["unit"], scope, places) for name in names]
