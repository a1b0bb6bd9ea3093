"""Totals of every stress, and the accounts that suffer most in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.findings.by_account import coded, sum_by_account, worst_by_account
from risk.reports.choose import SET_WORDS, words

#: Accounts listed in the report, by worst stress.
N_ACCOUNTS = 25

_FILE = "accounts.parquet"
_LABELS = ("scenario_set", "account", "venue")


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
    losses = _read_losses(folder / _FILE, {"stress"}, schema.names)
    index = losses["scenario"].to_numpy()
    codes = {venue: i for i, venue in enumerate(venues)}
    names, venue = coded(losses["venue"])
    where = np.array([codes[name] for name in names], "i8")[venue]
    shape = (totals.sizes["scenario"], len(venues))
    by_venue = np.bincount(
        index * len(venues) + where, losses["deficit_usd"].to_numpy(), shape[0] * shape[1]
    ).reshape(shape)
    totals = totals.assign(deficit_by_venue=(("scenario", "venue"), by_venue)).assign_coords(
        venue=venues
    )
    labels = [str(label) for label in totals.label.values]
    place = losses.schema.get_field_index("scenario")
    losses = losses.set_column(place, "scenario", _named(index, labels))
    return totals, losses.select(schema.names)


def _read_losses(path: Path, sets: Collection[str], columns: Sequence[str]) -> pa.Table:
    """Columns of the rows of some scenario sets; a row group holds rows of one set."""
    with pq.ParquetFile(path, read_dictionary=list(_LABELS)) as file:
        place = file.schema_arrow.get_field_index("scenario_set")
        notes = [
            file.metadata.row_group(group).column(place).statistics
            for group in range(file.metadata.num_row_groups)
        ]
        kept = [group for group, note in enumerate(notes) if note.min in sets]
        return file.read_row_groups(kept, columns=list(columns)).unify_dictionaries()


def _named(place: np.ndarray, names: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(place, pa.int32()), pa.array(names, pa.string()))


def sampled_deficits(folder: Path, cube: xr.DataTree) -> pa.Table | None:
    """Deficits by account in the worst sampled scenarios, by the scenarios' names."""
    path = folder / _FILE
    names = {name for name in cube.children if name != "stress"}
    if not path.exists() or not names:
        return None
    found = _read_losses(path, names, ["scenario_set", "scenario", "account", "deficit_usd"])
    if not found.num_rows:
        return None
    sets, of_set = coded(found["scenario_set"])
    labels = [cube[name].dataset["label"].values for name in sets]
    most = max(len(one) for one in labels)
    key = of_set.astype("i8") * most + found["scenario"].to_numpy()
    # Written set by set, scenario by scenario.
    begins = np.flatnonzero(np.append(True, np.diff(key) != 0))
    pairs, place = key[begins], np.repeat(np.arange(len(begins)), np.diff(begins, append=len(key)))
    scenarios = [
        f"{words(sets[at // most], SET_WORDS)}, {labels[at // most][at % most]}"
        for at in pairs.tolist()
    ]
    return pa.table(
        {
            "scenario": _named(place, scenarios),
            "account": found["account"],
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
    sums = sum_by_account(losses, "scenario", ("pnl_usd", "deficit_usd"))
    pnl, deficit = sums.columns.values()
    worst = worst_by_account(sums, deficit - pnl, N_ACCOUNTS)
    accounts = [sums.accounts[sums.account[pair]] for pair in worst]
    priced = book.select(["account", "notional_usd"]).filter(pc.equal(book["status"], "ok"))
    names, holder = coded(priced["account"])
    held = np.bincount(holder, priced["notional_usd"].to_numpy(), len(names))
    notional = dict(zip(names, held.tolist(), strict=True))
    return pa.Table.from_pylist(
        [
            {
                "account": account,
                "scenario": sums.scenarios[sums.scenario[pair]],
                "pnl_usd": float(pnl[pair]),
                "deficit_usd": float(deficit[pair]),
                "notional_usd": notional.get(account, 0.0),
            }
            for account, pair in zip(accounts, worst, strict=True)
        ]
    )
