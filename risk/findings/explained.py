"""Why value at risk moved since the night before, as a section of the officer's report."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from risk.config import Config
from risk.reports import Fact, Section


def explained_section(folder: Path, config: Config) -> Section | None:
    """The causes in their order, the residual and its limit."""
    path = folder / "explain.parquet"
    if not path.exists():
        return None
    table = pq.read_table(path, partitioning=None)
    notes = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
    rows = table.to_pylist()
    facts = []
    for row in rows:
        scope = f"value at risk since {notes['as_of']}: {row['component']}"
        facts += [
            Fact(f"explain.{row['order']}.effect", row["effect_usd"], "USD", scope),
            Fact(f"explain.{row['order']}.value_at_risk", row["value_at_risk_usd"], "USD", scope),
        ]
    if rows:
        change = rows[-1]["value_at_risk_usd"] - rows[0]["value_at_risk_usd"]
        facts.append(Fact("explain.change", change, "USD", f"value at risk since {notes['as_of']}"))
    return Section(
        name="explain",
        title="Why value at risk moved",
        nav="Explain",
        facts=tuple(facts),
        context={
            "rows": rows,
            "before": notes["as_of"],
            "run": notes["run_id"],
            "reason": notes.get("reason"),
            "is_within": bool(rows) and rows[-1]["is_within_limit"],
        },
    )
