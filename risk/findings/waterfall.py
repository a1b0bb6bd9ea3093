"""Insurance funds and auto-deleveraging in the officer's report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.config import Config
from risk.findings.by_account import coded, sum_by_account, worst_by_account
from risk.reports import Fact, Section
from risk.reports.view import slug

_MONEY = (
    "fund_before", "inflow", "deficit", "paid_by_fund", "paid_by_winners", "unpaid",
    "deleveraged_notional",
)  # fmt: skip
_COUNTS = ("deleveraged_positions", "deleveraged_accounts")
_COSTS = ("deleveraged_notional", "paid", "missed")
_N_ROWS = 20
_N_ACCOUNTS = 15


def waterfall_section(folder: Path, config: Config) -> Section | None:
    """Who pays the deficits; None for a run without any closing."""
    path = folder / "waterfall.parquet"
    if not path.exists():
        return None
    rows = pq.read_table(path).to_pylist()
    beyond = [row for row in rows if row["deficit"] > row["paid_by_fund"]]
    shown = sorted(
        beyond,
        key=lambda row: (
            row["paid_by_fund"] - row["deficit"], row["scenario_set"], row["label"], row["venue"]
        ),
    )[:_N_ROWS]  # fmt: skip
    facts, table = [], []
    for row in shown:
        key = f"waterfall.{row['scenario_set']}.{row['scenario']}.{slug(row['venue'])}"
        scope = f"{row['scenario_set']}, {row['label']}, {row['venue']}"
        facts += [Fact(f"{key}.{name}", row[name], "USD", scope) for name in _MONEY]
        facts += [Fact(f"{key}.{name}", float(row[name]), "1", scope) for name in _COUNTS]
        table.append(
            {"key": key, **{name: row[name] for name in ("scenario_set", "label", "venue")}}
        )
    scenarios = {(row["scenario_set"], row["label"]) for row in rows}
    hit = {(row["scenario_set"], row["label"]) for row in beyond}
    facts += [
        Fact("waterfall.scenarios", float(len(scenarios)), "1", "stresses and worst scenarios"),
        Fact("waterfall.beyond", float(len(hit)), "1", "stresses and worst scenarios"),
        Fact("waterfall.rows", float(len(beyond)), "1", "scenario and venue"),
    ]
    accounts = _accounts(folder / "deleveraged.parquet")
    for k, account in enumerate(accounts, 1):
        for name in _COSTS:
            facts.append(Fact(f"deleveraged.{k}.{name}", account[name], "USD", "worst scenario"))
    return Section(
        name="waterfall",
        title="Who pays the deficits",
        nav="Who pays deficits",
        facts=tuple(facts),
        context={"rows": table, "accounts": accounts},
    )


def _accounts(path: Path) -> list[dict]:
    """Every account in the scenario that costs it most, the dearest first."""
    if not path.exists():
        return []
    names = ["scenario_set", "label", "account"]
    columns = [*names, *_COSTS]
    found = pq.read_table(path, columns=columns, read_dictionary=names, partitioning=None)
    found = found.unify_dictionaries()
    sets, of_set = coded(found["scenario_set"])
    labels, label = coded(found["label"])
    key = of_set.astype("i8") * max(len(labels), 1) + label
    scenarios, place = np.unique(key, return_inverse=True)
    where = [(sets[at // len(labels)], labels[at % len(labels)]) for at in scenarios.tolist()]
    # By set and label, as text that sorts so.
    titles = pa.array([f"{one[0]}\0{one[1]}" for one in where], pa.string())
    named = found.append_column("named", pa.DictionaryArray.from_arrays(place, titles))
    sums = sum_by_account(named, "named", _COSTS)
    return [
        {
            "account": sums.accounts[sums.account[pair]],
            "scenario_set": where[sums.scenario[pair]][0],
            "label": where[sums.scenario[pair]][1],
            **{name: float(column[pair]) for name, column in sums.columns.items()},
        }
        for pair in worst_by_account(sums, sums.columns["paid"], _N_ACCOUNTS)
    ]
