"""The cascade in the officer's report: first round and whole, side by side."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from risk.config import Config
from risk.reports import Fact, Section
from risk.reports.view import slug

_UNITS = {"liquidations": "1"}
_N_STRESSES = 15


def cascade_section(folder: Path, config: Config) -> Section | None:
    """First round beside the cascade; None where the config has no cascade."""
    path = folder / "cascade.parquet"
    chain = config.liquidation.cascade
    if chain is None or not path.exists():
        return None
    rows = pq.read_table(path).to_pylist()
    facts, worst = [], {}
    for row in rows:
        name, where = row["scenario_set"], row["scenario"]
        key = f"cascade.{name}.{slug(where) if where else 'set'}.{row['measure']}"
        scope = f"{name}{f', {where}' if where else ''}"
        unit = _UNITS.get(row["measure"], "USD")
        mean_count = where is None and unit == "1"
        for column in ("first_round", "cascade"):
            value = row[column]
            facts.append(Fact(f"{key}.{column}", value, unit, scope, 1 if mean_count else None))
        facts.append(Fact(f"{key}.amplification", row["amplification"], "x", scope, 2))
        if where and row["measure"] == "liquidated_notional":
            worst[where] = row["cascade"] - row["first_round"]
    facts.append(Fact("cascade.permanent", 100 * chain.permanent, "%", "config"))
    facts.append(Fact("cascade.confidence", 100 * config.measures.confidence[-1], "1", "config", 1))
    facts.append(
        Fact("cascade.coefficient", config.liquidation.impact.coefficient, "1", "config", 2)
    )
    shown = sorted(worst, key=lambda label: (-worst[label], label))[:_N_STRESSES]
    facts.append(Fact("cascade.stresses", float(len(worst)), "1", "stresses"))
    sets = [name for name in config.scenarios.names if name != "stress"]
    return Section(
        name="cascade",
        title="What the cascade adds",
        nav="Cascade",
        facts=tuple(facts),
        context={"sets": sets, "stresses": shown},
    )
