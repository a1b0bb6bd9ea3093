"""The backtest of tonight's book, as a section of the officer's report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from risk.backtest import christoffersen, kupiec, traffic_light
from risk.capital import backtest_multiplier, plus_factor
from risk.config import Config
from risk.reports import Fact, Section
from risk.reports.watch_chart import watch_chart

_CONFIDENCE = 0.99

#: Exceedances listed, the latest first.
N_LISTED = 12


def watch_section(folder: Path, config: Config) -> Section | None:
    """Exceedances with their dates and causes, tests, traffic light and multipliers."""
    path = folder / "watch.parquet"
    if not path.exists():
        return None
    days = pq.read_table(path, partitioning=None)
    if not days.num_rows:
        return None
    hits = days.filter(days["is_exceedance"])
    n, count = days.num_rows, hits.num_rows
    light = traffic_light(count, n, _CONFIDENCE)
    scope = f"backtest of tonight's book on {n} days"
    facts = [
        Fact("watch.n_days", n, "1", scope),
        Fact("watch.exceedances", count, "1", scope),
        Fact("watch.expected", n * (1.0 - _CONFIDENCE), "1", scope, 1),
        Fact("watch.windows", days["n_windows"][0].as_py(), "1", scope),
        Fact("watch.zone_probability", 100.0 * light.cumulative_probability, "%", scope, 2),
        Fact("watch.multiplier", backtest_multiplier(count), "x", "MAR32.9", 2),
        Fact("watch.plus_factor", plus_factor(count), "1", "CRR Art. 366", 2),
        Fact("watch.kupiec_p", _p(kupiec(count, n, _CONFIDENCE).p_value), "%", scope, 1),
        Fact("watch.independence_p", _independence(days), "%", scope, 1),
    ]
    rows: list[Mapping[str, Any]] = []
    for rank, row in enumerate(reversed(hits.to_pylist()), 1):
        if rank > N_LISTED:
            break
        loss = None if row["pnl_usd"] is None else -row["pnl_usd"]
        where = f"exceedance on {row['day']}"
        facts += [
            Fact(f"watch.hit.{rank}.loss", loss, "USD", where),
            Fact(f"watch.hit.{rank}.value_at_risk", row["value_at_risk_usd"], "USD", where),
        ]
        rows.append({"day": row["day"], "cause": row["cause"] or "no asset lost", "rank": rank})
    span = (days["day"][0].as_py(), days["day"][n - 1].as_py())
    return Section(
        name="backtest",
        title="Would the value at risk have held?",
        nav="Backtest",
        facts=tuple(facts),
        context={"hits": rows, "zone": light.zone, "span": span, "n_more": count - len(rows)},
        charts={"watch": lambda view: watch_chart(view, days)},
    )


def _p(value: float) -> float | None:
    return None if math.isnan(value) else 100.0 * value


def _independence(days: pa.Table) -> float | None:
    """p-value of independent exceedances, exact where it is small; none without two."""
    hits = days["is_exceedance"].to_numpy(zero_copy_only=False).astype(bool)
    try:
        found = christoffersen(hits, _CONFIDENCE).independence
    except ValueError:
        return None
    return _p(found.exact_p_value if found.exact_p_value is not None else found.p_value)
