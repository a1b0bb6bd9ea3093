"""Totals of every stress, and the accounts that suffer most in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.reports.choose import SET_WORDS, words

#: Accounts listed in the report, by worst stress.
_N_ACCOUNTS = 25


def stress_totals(folder: Path, cube: xr.DataTree, funds: pa.Table) -> tuple[xr.Dataset, pa.Table]:
    """Totals per stress with the deficit by venue; and the accounts' losses, by stress label."""
    venues = np.asarray(funds["venue"].to_pylist(), object)
    schema = pa.schema(
        [
            ("scenario", "string"), ("account", "string"), ("venue", "string"),
            ("pnl_usd", "f8"), ("deficit_usd", "f8"), ("liquidations", "i8"),
        ]
    )  # fmt: skip
    if "stress" not in cube.children:
        empty = {
            name: ("scenario", np.empty(0))
            for name in (
                "pnl", "deficit", "venue_gain", "market_cost", "liquidations", "stops",
                "liquidated_notional",
            )
        }  # fmt: skip
        none = xr.Dataset(
            empty | {"deficit_by_venue": (("scenario", "venue"), np.empty((0, len(venues))))},
            coords={
                "label": ("scenario", np.empty(0, object)),
                "source": ("scenario", np.empty(0, object)),
                "venue": venues,
            },
        )
        return none, schema.empty_table()
    totals = cube["stress"].to_dataset().load().sum("cell", skipna=False)
    losses = pq.read_table(folder / "accounts.parquet", filters=[("scenario_set", "=", "stress")])
    index = losses["scenario"].to_numpy()
    codes = {venue: i for i, venue in enumerate(venues)}
    where = np.array([codes[venue] for venue in losses["venue"].to_pylist()], "i8")
    by_venue = np.zeros((totals.sizes["scenario"], len(venues)))
    np.add.at(by_venue, (index, where), losses["deficit_usd"].to_numpy())
    totals = totals.assign(deficit_by_venue=(("scenario", "venue"), by_venue)).assign_coords(
        venue=venues
    )
    labels = pa.array([str(label) for label in totals.label.values])
    place = losses.schema.get_field_index("scenario")
    named = losses.set_column(place, "scenario", labels.take(losses["scenario"].combine_chunks()))
    return totals, named.select(schema.names).cast(schema)


def sampled_deficits(folder: Path, cube: xr.DataTree) -> pa.Table | None:
    """Deficits by account in the worst sampled scenarios, by the scenarios' names."""
    path = folder / "accounts.parquet"
    if not path.exists():
        return None
    names = [name for name in cube.children if name != "stress"]
    found = pq.read_table(path, filters=[("scenario_set", "in", names), ("deficit_usd", ">", 0.0)])
    if not names or not found.num_rows:
        return None
    labels = {name: cube[name].dataset["label"].values for name in names}
    pairs = zip(found["scenario_set"].to_pylist(), found["scenario"].to_pylist(), strict=True)
    scenario = [f"{words(name, SET_WORDS)}, {labels[name][at]}" for name, at in pairs]
    return pa.table(
        {
            "scenario": pa.array(scenario, pa.string()),
            "account": found["account"].cast(pa.string()),
            "deficit_usd": found["deficit_usd"],
        }
    )


def worst_accounts(book: pa.Table, losses: pa.Table, stresses: xr.Dataset) -> pa.Table:
    """Each account under its worst stress: largest loss with its deficit first."""
    if not losses.num_rows:
        return pa.table(
            {
                "account": pa.array([], "string"), "scenario": pa.array([], "string"),
                "pnl_usd": pa.array([], "f8"), "deficit_usd": pa.array([], "f8"),
                "notional_usd": pa.array([], "f8"),
            }
        )  # fmt: skip
    per_account = losses.group_by(["account", "scenario"], use_threads=False).aggregate(
        [("pnl_usd", "sum"), ("deficit_usd", "sum")]
    )
    cost = pc.subtract(per_account["deficit_usd_sum"], per_account["pnl_usd_sum"])
    ordered = per_account.append_column("cost", cost).sort_by(
        [("cost", "descending"), ("account", "ascending"), ("scenario", "ascending")]
    )
    priced = book.filter(pc.equal(book["status"], "ok"))
    held = (
        pa.table({"account": priced["account"].cast(pa.string()), "n": priced["notional_usd"]})
        .group_by("account", use_threads=False)
        .aggregate([("n", "sum")])
    )
    notional = dict(zip(held["account"].to_pylist(), held["n_sum"].to_pylist(), strict=True))
    rows: dict[str, dict[str, Any]] = {}
    for batch in ordered.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            rows.setdefault(
                row["account"],
                {
                    "account": row["account"],
                    "scenario": row["scenario"],
                    "pnl_usd": row["pnl_usd_sum"],
                    "deficit_usd": row["deficit_usd_sum"],
                    "notional_usd": notional.get(row["account"], 0.0),
                },
            )
        if len(rows) >= _N_ACCOUNTS:
            break
    return pa.Table.from_pylist(list(rows.values())[:_N_ACCOUNTS])
