"""The report's section on margin adequacy."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from risk.config import Config
from risk.measures.adequacy import ALL, LEVERAGE_LABELS
from risk.reports import Fact, Section
from risk.reports.margin_charts import posted_and_required
from risk.reports.view import slug

#: Assets and tiers that are listed; all are in the artifacts.
_N_ASSETS, _N_TIERS, _N_TIER_ASSETS = 10, 4, 3

#: Years the floor looks back, and days of a year: the markets never close.
FLOOR_YEARS, _YEAR = 10, 365

#: Tools against procyclicality, in the order they are listed, and what each is called.
TOOLS = {
    "buffer": "a buffer on every requirement",
    "stressed_weight": "a weight for stressed volatility",
    "floor": "a floor at the volatility of ten years",
}


def margin_adequacy(folder: Path, config: Config) -> Section | None:
    """What holders have posted beside what they need; None where the night has not measured it."""
    path = folder / "margin_adequacy.parquet"
    if not path.exists():
        return None
    table = pq.read_table(path)
    scenario_set = table["scenario_set"][0].as_py()
    rows = table.filter(pc.equal(table["scenario_set"], scenario_set)).to_pylist()
    by_leverage = [row for row in rows if row["asset"] == ALL]
    whole = by_leverage[0]
    found = {row["leverage"] for row in by_leverage}
    assets = sorted(
        (row for row in rows if row["leverage"] == ALL and row["asset"] != ALL),
        key=lambda row: (-row["notional"], row["asset"]),
    )[:_N_ASSETS]
    notes = json.loads((folder / "market.json").read_text(encoding="utf-8"))
    years = min(notes["n_days"] / _YEAR, FLOOR_YEARS)
    facts = _target_facts(config) + _whole_facts(whole)
    facts.append(Fact("margin.floor_years", years, "years", "of history behind the floor", 1))
    for row in by_leverage:
        facts += _row_facts(f"margin.leverage.{slug(row['leverage'])}", row, row["leverage"])
    for row in assets:
        facts += _row_facts(f"margin.asset.{slug(row['asset'])}", row, row["asset"])
    tiers, more = _tiers(pq.read_table(folder / "margin_tiers.parquet"), scenario_set)
    levels = [ALL, *(label for label in LEVERAGE_LABELS if label in found)]
    return Section(
        name="margin",
        title="Margin adequacy",
        nav="Margin",
        facts=tuple(facts + more),
        context={
            "set": scenario_set,
            "leverages": [(label, f"margin.leverage.{slug(label)}") for label in levels],
            "assets": [(row["asset"], f"margin.asset.{slug(row['asset'])}") for row in assets],
            "tools": [(words, f"margin.tool.{name}") for name, words in TOOLS.items()],
            "tiers": tiers,
        },
        charts={
            "posted": partial(
                posted_and_required,
                rows=[(label, f"margin.leverage.{slug(label)}") for label in levels],
            )
        },
    )


def _target_facts(config: Config) -> list[Fact]:
    margin = config.margin
    values = {
        "deficit": margin.target_deficit_probability,
        "liquidation": margin.target_liquidation_probability,
        "buffer": margin.buffer,
        "stressed_weight": margin.stressed_weight,
        "unit": margin.unit,
        "covered_99": 0.99,
        "covered_995": 0.995,
    }
    return [
        Fact(f"margin.target.{name}", 100.0 * value, "%", "from the config", 1)
        for name, value in values.items()
    ]


def _whole_facts(whole: dict[str, Any]) -> list[Fact]:
    facts = [
        Fact("margin.notional.under", whole["under"], "USD", "equity below the requirement"),
        Fact("margin.notional.over", whole["over"], "USD", "equity at or above the requirement"),
        Fact("margin.excess", whole["excess"], "USD", "equity beyond the requirement"),
    ]
    base = whole["required_call"]
    tools = {"none": "required", **{name: name for name in TOOLS}}
    for name, column in tools.items():
        call = whole[f"{column}_call"]
        scope = "as required" if name == "none" else TOOLS[name]
        facts += [
            Fact(f"margin.tool.{name}.required", whole[column], "USD", scope),
            Fact(f"margin.tool.{name}.call", call, "USD", f"{scope}: what holders would add"),
            Fact(f"margin.tool.{name}.cost", call - base, "USD", f"{scope}: more than without"),
        ]
    return facts


def _row_facts(key: str, row: dict[str, Any], scope: str) -> list[Fact]:
    notional = row["notional"]
    facts = [
        Fact(f"{key}.n_positions", row["n_positions"], "1", scope, 0),
        Fact(f"{key}.notional", notional, "USD", scope),
        Fact(f"{key}.under", row["under"], "USD", f"{scope}, equity below the requirement"),
        Fact(f"{key}.call", row["required_call"], "USD", f"{scope}, missing one by one"),
        Fact(f"{key}.covered_99", 100 * row["covered_99"], "%", f"{scope}, of notional", 1),
        Fact(f"{key}.covered_995", 100 * row["covered_995"], "%", f"{scope}, of notional", 1),
        Fact(f"{key}.price_moved", 100 * row["price_moved"], "%", f"{scope}, of the mark", 2),
        Fact(f"{key}.probability_moved", 100 * row["probability_moved"], "%", scope, 2),
        Fact(f"{key}.deficit_moved", 1e4 * row["deficit_moved"] / row["unit"], "bp", scope, 2),
    ]
    shares = ("equity", "required", "required_stressed", "liquidation", "liquidation_stressed")
    for name in shares:
        share = 100 * row[name] / notional
        facts.append(Fact(f"{key}.{name}", share, "%", f"{scope}, {name} over notional", 1))
    return facts


def _tiers(table: pa.Table, scenario_set: str) -> tuple[list[dict[str, Any]], list[Fact]]:
    """The suggested tiers of the assets with most notional, low tiers first."""
    rows = table.filter(pc.equal(table["scenario_set"], scenario_set)).to_pylist()
    size = {row["asset"]: row["notional_usd"] for row in rows}
    top = sorted(size, key=lambda name: (-size[name], name))[:_N_TIER_ASSETS]
    shown, facts = [], []
    for name in top:
        for row in [row for row in rows if row["asset"] == name][:_N_TIERS]:
            key = f"margin.tier.{slug(name)}.{row['tier']}"
            shown.append(
                {"asset": name, "symbol": row["symbol"], "venue": row["venue"], "key": key}
            )
            scope = f"{row['venue']} {row['symbol']}, tier {row['tier']}"
            facts += [
                Fact(f"{key}.tier", row["tier"], "1", scope, 0),
                Fact(f"{key}.floor", row["floor"], "settle", scope, 0),
                Fact(f"{key}.rate", 100 * row["rate"], "%", scope, 2),
                Fact(f"{key}.suggested", 100 * row["suggested_rate"], "%", scope, 2),
                Fact(f"{key}.jump", 100 * row["jump_part"], "%", scope, 2),
                Fact(f"{key}.cost", 100 * row["cost_part"], "%", scope, 2),
            ]
    return shown, facts
