"""Isolated against shared collateral in the officer's report, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from risk.book import read_book
from risk.config import Config
from risk.cube import open_cube
from risk.margin.pooling import divided_equity, pooled_rows, read_holdings
from risk.reports import Fact, Section
from risk.reports.view import slug

#: Name of the fact, column on either side, unit, how scenarios are put together.
_PAIRS = (
    ("liquidations", "liquidations", "1", "mean"),
    ("pnl", "pnl", "USD", "mean"),
    ("deficit", "deficit", "USD", "mean"),
    ("deficit_worst", "deficit", "USD", "worst"),
    ("accounts_in_deficit", "accounts_in_deficit", "1", "mean"),
)
_SINGLES = (
    "dies_of_its_neighbours",
    "saved_by_its_neighbours",
    "pools_liquidated",
    "pools_liquidated_surely",
    "pools_liquidated_at_most",
)
_N_STRESSES = 12


def pools_section(folder: Path, config: Config) -> Section | None:
    """The book's own cross-margin pools; None where it has none."""
    path = folder / "pools.parquet"
    if not path.exists():
        return None
    book, rows = read_book(folder), pq.read_table(path)
    facts = _pool_facts(book)
    names = [str(name) for name in pc.unique(rows["scenario_set"]).to_pylist()]
    for name in names:
        part = rows.filter(pc.equal(rows["scenario_set"], name))
        weight = part["weight"].to_numpy()
        weight = weight / weight.sum()
        for measure, unit in _POOL_MEASURES.items():
            values = part[measure].to_numpy()
            key, decimals = f"pools.{name}.{measure}", 2 if unit == "1" else None
            if name != "stress":  # designed, so it has no mean
                mean = float(values @ weight)
                facts.append(Fact(f"{key}.mean", mean, unit, f"{name}, mean", decimals))
            worst = float(values.max())
            facts.append(Fact(f"{key}.worst", worst, unit, f"{name}, worst scenario"))
    return Section(
        name="pools",
        title="Cross-margined accounts",
        nav="Cross-margined",
        facts=tuple(facts),
        context={"sets": names},
    )


_POOL_MEASURES = {
    "pools_liquidated": "1",
    "pools_liquidated_together": "1",
    "pools_liquidated_surely": "1",
    "liquidations": "1",
    "deficit": "USD",
    "market_cost": "USD",
    "liquidated_notional": "USD",
}


def _pool_facts(book: pa.Table) -> list[Fact]:
    """The pools at the mark."""
    priced = book.take(pa.array(pooled_rows(book)))
    held = pc.and_(book["pool_holdings"].is_valid(), pc.equal(book["status"], "liquidatable"))
    past = book.filter(held)

    def owners(table: pa.Table) -> int:
        return table.group_by(["account", "venue"], use_threads=False).aggregate([]).num_rows

    texts = priced.group_by(["account", "venue", "pool_holdings"], use_threads=False).aggregate([])
    holdings = [
        one
        for text in texts["pool_holdings"].cast(pa.string()).to_pylist()
        for one in read_holdings(text)
    ]
    coins = sum(one.amount_usd for one in holdings if one.asset is not None)
    cut = sum(one.amount_usd * one.haircut for one in holdings if one.amount_usd > 0)
    notional = float(pc.sum(priced["notional_usd"]).as_py() or 0.0)
    scope = "priced pools"
    return [
        Fact("pools.count", float(owners(priced)), "1", scope),
        Fact("pools.positions", float(priced.num_rows), "1", scope),
        Fact("pools.notional", notional, "USD", scope),
        Fact("pools.equity", float(divided_equity(priced).sum()), "USD", f"{scope}, haircuts off"),
        Fact("pools.coins", coins, "USD", f"{scope}, balances in coins before haircuts"),
        Fact("pools.haircuts", cut, "USD", f"{scope}, balances the test does not count"),
        Fact(
            "pools.liquidatable", float(owners(past)), "1", "pools past their trigger at the mark"
        ),
    ]


def cross_section(folder: Path, config: Config) -> Section | None:
    """The contrast; None where the config has none."""
    path = folder / "cross.parquet"
    if not path.exists():
        return None
    rows = pq.read_table(path)
    facts: list[Fact] = []
    names = [str(name) for name in pc.unique(rows["scenario_set"]).to_pylist()]
    sets = [name for name in names if name != "stress"]
    for name in sets:
        facts += _set_facts(name, rows.filter(pc.equal(rows["scenario_set"], name)))
    stresses: list[str] = []
    if "stress" in names:
        stresses, more = _stress_facts(
            folder, rows.filter(pc.equal(rows["scenario_set"], "stress"))
        )
        facts += more
    held = folder / "cross_collateral.parquet"
    if held.exists():
        facts += _collateral_facts(pq.read_table(held), config)
    return Section(
        name="cross",
        title="Isolated against cross margin",
        nav="Isolated or cross",
        facts=tuple(facts),
        context={
            "sets": sets,
            "stresses": stresses,
            "has_collateral": held.exists(),
        },
    )


def _set_facts(name: str, rows: pa.Table) -> list[Fact]:
    weight = rows["weight"].to_numpy()
    weight = weight / weight.sum()

    def value(column: str, how: str) -> float:
        values = rows[column].to_numpy()
        return float(values @ weight) if how == "mean" else float(values.max())

    key, scope = f"cross.{name}", f"{name}, as if closing moved no price"
    facts = [Fact(f"{key}.scenarios", float(rows.num_rows), "1", scope, 0)]
    for measure, column, unit, how in _PAIRS:
        decimals = 1 if unit == "1" else None
        for side in ("isolated", "cross"):
            amount = value(f"{side}_{column}", how)
            facts.append(Fact(f"{key}.{measure}.{side}", amount, unit, scope, decimals))
    return facts + [Fact(f"{key}.{one}", value(one, "mean"), "1", scope, 1) for one in _SINGLES]


def _stress_facts(folder: Path, rows: pa.Table) -> tuple[list[str], list[Fact]]:
    labels = [str(label) for label in open_cube(folder)["stress"].label.values]
    columns = rows.to_pydict()
    order = np.argsort(-np.asarray(columns["isolated_deficit"]), kind="stable")[:_N_STRESSES]
    facts, shown = [], []
    for i in order.tolist():
        label = labels[columns["scenario"][i]]
        shown.append(label)
        key = f"cross.stress.{slug(label)}"
        for measure in ("liquidations", "deficit", "pnl"):
            unit = "1" if measure == "liquidations" else "USD"
            facts += [
                Fact(f"{key}.{measure}.{side}", columns[f"{side}_{measure}"][i], unit, label)
                for side in ("isolated", "cross")
            ]
        facts += [Fact(f"{key}.{one}", columns[one][i], "1", label) for one in _SINGLES[:2]]
    facts.append(Fact("cross.stresses", float(rows.num_rows), "1", "stresses"))
    return shown, facts


def _collateral_facts(held: pa.Table, config: Config) -> list[Fact]:
    posted, alone, shared = (
        float(np.sum(held[name].to_numpy()))
        for name in ("posted_usd", "needed_isolated_usd", "needed_cross_usd")
    )
    target = config.margin.target_deficit_probability
    scope = "historical, lows together and highs together, nothing closed on the way"
    several = int(pc.sum(pc.greater(held["positions"], 1)).as_py() or 0)
    return [
        Fact("cross.collateral.probability", 100 * target, "%", "config", 1),
        Fact("cross.collateral.posted", posted, "USD", "equity at the mark"),
        Fact("cross.collateral.isolated", alone, "USD", scope),
        Fact("cross.collateral.cross", shared, "USD", scope),
        Fact("cross.collateral.share", 100 * shared / alone if alone else None, "%", scope, 1),
        Fact("cross.accounts", float(held.num_rows), "1", "accounts at a venue"),
        Fact("cross.accounts.several", float(several), "1", "accounts with several positions"),
    ]
