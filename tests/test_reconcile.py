"""Every total is reached a second way, and a total that is not is a red banner and exit 3."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from risk.findings import breaches
from risk.reports import Reconciled, collect_facts, render_capital, render_officer
from risk.reports.headlines import overall_state
from risk.reports.view import Facts
from risk.sample import write_sample
from risk.schema import QUARANTINE
from risk.snapshot import load_snapshot
from risk.snapshot.recount import recount
from tests.report_fixture import make_inputs

ROOT = Path(__file__).resolve().parents[1]
VENUES = ROOT / "configs/venues"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("recount")
    write_sample(base, positions=400, seed=3, venue_rules=VENUES)
    return next(base.glob("as_of=*"))


def by_hand(path, skip=()):
    """Notional of the rows, one after the other."""
    listed = {
        (row["venue"], row["symbol"]): row
        for row in pq.read_table(path / "contracts.parquet").to_pylist()
    }
    total = []
    for at, row in enumerate(pq.read_table(path / "positions.parquet").to_pylist()):
        contract = listed.get((row["venue"], row["symbol"]))
        if contract is None or at in skip:
            continue
        size = row["contracts"] * contract["contract_size"]
        if contract["type"] == "option":
            size *= contract["index_price"]
        elif contract["linear"]:
            size *= contract["mark_price"]
        total.append(size)
    return math.fsum(total)


def test_the_recount_is_what_counting_row_by_row_gives(folder):
    found = recount(folder, QUARANTINE.empty_table())
    assert found.n_rows == 400
    assert found.notional_usd == pytest.approx(by_hand(folder), rel=1e-12)
    assert (found.quarantined_usd, found.n_quarantined_valued) == (0.0, 0)


def test_a_quarantined_row_counts_apart_whichever_part_it_is_in(folder, tmp_path):
    table = pq.read_table(folder / "positions.parquet")
    bad = table.column("position_margin").to_pylist()
    bad[250] = -1.0
    at = table.schema.get_field_index("position_margin")
    table = table.set_column(at, table.schema.field(at), [bad])
    for name in ("contracts", "tiers", "accounts"):
        (tmp_path / f"as_of={folder.name[6:]}").mkdir(exist_ok=True)
        target = tmp_path / folder.name / f"{name}.parquet"
        target.write_bytes((folder / f"{name}.parquet").read_bytes())
    parts = tmp_path / folder.name / "positions"
    parts.mkdir()
    pq.write_table(table.slice(0, 200), parts / "part-0.parquet")
    pq.write_table(table.slice(200), parts / "part-1.parquet")
    snapshot = load_snapshot(tmp_path / folder.name, venue_folders=[VENUES])
    found = recount(snapshot.path, snapshot.quarantine)
    assert found.n_rows == snapshot.n_rows == 400
    assert found.n_quarantined_valued == 1
    assert found.notional_usd == pytest.approx(by_hand(folder, skip={250}), rel=1e-12)
    assert found.notional_usd + found.quarantined_usd == pytest.approx(by_hand(folder))


@pytest.mark.parametrize("off", [1.0, 1e-3])
def test_a_total_that_does_not_reconcile_is_a_red_banner_and_a_breach(off):
    lines = (
        Reconciled("Position rows", "in the files", 400.0, "by status", 400.0, "1"),
        Reconciled("Notional", "valued", 1e6, "by status", 1e6 + off, "USD"),
    )
    inputs = dataclasses.replace(make_inputs(), limits=(), reconciled=lines)
    facts = collect_facts(inputs)
    assert overall_state(Facts(facts), inputs) == "breach"
    assert "do not reconcile" in render_officer(facts, inputs)
    assert "do not reconcile" in render_capital(facts, inputs)[0]
    assert any("reconciliation: Notional" in one for one in breaches(facts, inputs))
    fine = dataclasses.replace(inputs, reconciled=lines[:1])
    table = collect_facts(fine)
    assert "do not reconcile" not in render_officer(table, fine)
    assert not any("reconciliation" in one for one in breaches(table, fine))
