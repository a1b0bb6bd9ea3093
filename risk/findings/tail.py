"""How settled the headline is, and who is in its tail: two sections of the officer's report."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from risk.config import Config
from risk.reports import Fact, Section
from risk.reports.convergence_chart import convergence_chart
from risk.reports.view import slug

#: Groups of a level and positions that are listed.
N_GROUPS, N_POSITIONS = 8, 15

_WORDS = {"value_at_risk": "Value at risk", "expected_shortfall": "Expected shortfall"}


def settled_section(folder: Path, config: Config) -> Section | None:
    """Other estimators beside the empirical one, and the measures as scenarios are added."""
    estimates = _read(folder / "estimates.parquet")
    if estimates is None:
        return None
    name = _note(estimates, "scenario_set")
    rows, facts = estimates.to_pylist(), []
    for rank, row in enumerate(rows, 1):
        scope = f"{name}, {row['measure'].replace('_', ' ')} by {row['estimator']}"
        facts.append(Fact(f"estimate.{rank}.value", row["value"], "USD", scope))
        facts.append(Fact(f"estimate.{rank}.error", row["standard_error"], "USD", scope))
        facts.append(Fact(f"estimate.{rank}.confidence", 100 * row["confidence"], "%", scope, 1))
    steps = _read(folder / "convergence.parquet")
    charts = {}
    if steps is not None:
        facts.append(Fact("convergence.n", steps["n"][-1].as_py(), "1", f"scenarios of {name}"))
        half = max(steps.num_rows - 1 - steps.num_rows // 4, 0)
        for key, row in (("last", steps.num_rows - 1), ("before", half)):
            for measure in _WORDS:
                value = steps[measure][row].as_py()
                facts.append(Fact(f"convergence.{key}.{measure}", value, "USD", f"{name}, {key}"))
        facts.append(Fact("convergence.before.n", steps["n"][half].as_py(), "1", name))
        charts["convergence"] = lambda view: convergence_chart(view, steps)
    return Section(
        name="settled",
        title="How settled are the numbers?",
        nav="Estimators",
        facts=tuple(facts),
        context={"rows": rows, "set": name, "words": _WORDS, "has_steps": steps is not None},
        charts=charts,
    )


def parts_section(folder: Path, config: Config) -> Section | None:
    """Contributions, stand-alone and incremental figures by group, and the positions behind."""
    parts = _read(folder / "parts.parquet")
    if parts is None or not parts.num_rows:
        return None
    name = _note(parts, "scenario_set")
    levels: dict[str, list[str]] = {}
    facts = [
        Fact(f"parts.confidence.{key}", 100 * float(_note(parts, key)), "%", name, 1)
        for key in _WORDS
    ]
    for level in dict.fromkeys(parts["level"].to_pylist()):
        mine = [row for row in parts.to_pylist() if row["level"] == level]
        mine.sort(key=lambda row: (-row["contribution"], row["group"]))
        alone = sum(row["expected_shortfall"] for row in mine)
        whole = sum(row["contribution"] for row in mine)
        key = f"parts.{level}"
        facts += [
            Fact(f"{key}.alone", alone, "USD", f"{name}, {level}, stand-alone sum"),
            Fact(f"{key}.whole", whole, "USD", f"{name}, {level}, together"),
            Fact(f"{key}.benefit", alone - whole, "USD", f"{name}, {level}, diversification"),
            Fact(f"{key}.n", len(mine), "1", f"groups of {level}"),
        ]
        levels[level] = [row["group"] for row in mine[:N_GROUPS]]
        for row in mine[:N_GROUPS]:
            scope = f"{name}, {level} {row['group']}"
            units = {"liquidations_contribution": "1"}
            facts += [
                Fact(f"{key}.{slug(row['group'])}.{column}", row[column],
                     units.get(column, "USD"), scope,
                     1 if column in units else None)
                for column in row
                if column not in ("level", "group")
            ]  # fmt: skip
    positions = _read(folder / "tail_positions.parquet")
    rows = [] if positions is None else positions.slice(0, N_POSITIONS).to_pylist()
    for rank, row in enumerate(rows, 1):
        scope = f"position {row['position_id']} in the tail of {name}"
        facts += [
            Fact(f"tail_position.{rank}.loss", row["loss_usd"], "USD", scope),
            Fact(f"tail_position.{rank}.deficit", row["deficit_usd"], "USD", scope),
            Fact(f"tail_position.{rank}.notional", row["notional_usd"], "USD", scope),
            Fact(f"tail_position.{rank}.liquidated", 100 * row["liquidations"], "%", scope),
        ]
    return Section(
        name="parts",
        title="Who is in the tail, down to the position",
        nav="Positions",
        facts=tuple(facts),
        context={"levels": levels, "positions": rows, "set": name, "most": N_GROUPS},
    )


def _read(path: Path) -> pa.Table | None:
    return pq.read_table(path, partitioning=None) if path.exists() else None


def _note(table: pa.Table, key: str) -> str:
    return table.schema.metadata[key.encode()].decode()
