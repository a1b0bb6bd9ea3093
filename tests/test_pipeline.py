"""The whole night: same bytes however it is run, resumed where it was killed, every row counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from threadpoolctl import threadpool_info, threadpool_limits

from risk import open_run, pipeline
from risk.config import load_config
from risk.cube import open_drivers
from risk.errors import ConfigError, DataError
from risk.liquidation import build_ladders, walk
from risk.pipeline import stages
from risk.reports import evaluate_limits, load_limits
from risk.sample import write_sample
from risk.schema import CUBE
from risk.store import verify

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """A sample book of 2,000 positions with its history."""
    out = tmp_path_factory.mktemp("sample")
    write_sample(out, positions=2000, seed=7, venue_rules=ROOT / "configs/venues")
    return out


def write_config(folder, sample, **changes):
    """A small night on the sample; `changes` replace top-level keys."""
    values = {
        "snapshot": str(sample),
        "history": str(sample / "history"),
        "venues": str(ROOT / "configs/venues"),
        "seed": 3,
        "cells": ["venue", "asset", "side"],
        "scenarios": {
            "historical": {"windows": 300, "gap": 0.3},
            "monte_carlo": {"paths": 1500, "steps": 12, "block": 256},
            "stress": {"folder": str(ROOT / "configs/stresses")},
        },
        "capital": str(ROOT / "configs/capital"),
        "limits": str(ROOT / "configs/limits.yaml"),
        "execution": {"executor": "plain"},
        "out": str(folder / "runs"),
    } | changes
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="session")
def finished(sample, tmp_path_factory):
    """The sample night, run once in this process."""
    folder = tmp_path_factory.mktemp("plain")
    return pipeline.run(load_config(write_config(folder, sample)))


def files(run):
    """Every byte of a run but the manifest, which holds timings."""
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def assert_same(one, other):
    first, second = files(one), files(other)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize(("workers", "tasks"), [(1, 1), (2, 32), (4, 1)])
def test_dask_writes_the_same_bytes_as_this_process(
    sample, finished, tmp_path, monkeypatch, workers, tasks
):
    """Law 5, over workers, executor and blocks per task."""
    monkeypatch.setattr("risk.engine.executor._TASKS_PER_WORKER", tasks)
    execution = {"executor": "dask", "workers": workers}
    other = pipeline.run(load_config(write_config(tmp_path, sample, execution=execution)))
    assert other.id == finished.id
    assert_same(finished, other)


def test_the_order_of_blocks_does_not_change_a_byte(sample, finished, tmp_path, monkeypatch):
    """Law 5, over order."""
    forward = pipeline.book.plan_blocks
    monkeypatch.setattr(pipeline.book, "plan_blocks", lambda *a: forward(*a)[::-1])
    assert_same(finished, pipeline.run(load_config(write_config(tmp_path, sample))))


def test_a_finished_night_is_recognised(sample, finished):
    config = load_config(write_config(finished.path.parents[2], sample))
    before = finished.path.stat().st_mtime_ns
    assert pipeline.run(config).path == finished.path
    assert finished.path.stat().st_mtime_ns == before
    verify(finished)


def test_more_paths_leave_the_first_ones_as_they_were(sample, finished, tmp_path):
    """A draw is decided by seed, set and block alone."""
    drawn = {"paths": 700, "steps": 12, "block": 256}
    fewer = pipeline.run(
        load_config(write_config(tmp_path, sample, scenarios={"monte_carlo": drawn}))
    )
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(
            fewer.drivers["monte_carlo"][name].values,
            finished.drivers["monte_carlo"][name].values[:700],
        )


def test_the_book_changes_nobodys_draws(sample, finished, tmp_path):
    other = tmp_path / "other"
    write_sample(other, positions=100, seed=9, venue_rules=ROOT / "configs/venues")
    scenarios = {"monte_carlo": {"paths": 300, "steps": 12, "block": 256}}
    config = write_config(tmp_path, other, history=str(sample / "history"), scenarios=scenarios)
    few = pipeline.run(load_config(config))
    np.testing.assert_array_equal(
        few.drivers["monte_carlo"]["last"].values,
        finished.drivers["monte_carlo"]["last"].values[:300],
    )


def test_native_threads_of_the_caller_reach_no_stage():
    """A script may have set four: a matrix product depends on how many share it."""
    seen = {}

    def look(night, progress=None):
        pools = threadpool_info()
        seen["threads"] = {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}

    with threadpool_limits(2):
        stages._on_one_thread(look)(None)
    assert seen["threads"] == {1}
    assert all(hasattr(stage, "__wrapped__") for stage in pipeline.STAGES.values())


def test_a_damaged_chunk_is_run_again(sample, finished, tmp_path):
    config = load_config(write_config(tmp_path, sample))
    night = pipeline.open_night(config)
    for stage in list(pipeline.STAGES.values())[:4]:
        stage(night, None)
    chunk = night.folder / "cube.zarr/monte_carlo/pnl/c/2/0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    pipeline.close(night)
    assert_same(finished, pipeline.run(config))


def test_nothing_half_written_is_visible(sample, tmp_path):
    config = load_config(write_config(tmp_path, sample))
    night = pipeline.open_night(config)
    for stage in pipeline.STAGES.values():
        assert list((tmp_path / "runs").glob("as_of=*/run=*")) == []
        assert not (tmp_path / "runs/LATEST.json").exists()
        stage(night, None)
    run = pipeline.publish(night)
    latest = json.loads((tmp_path / "runs/LATEST.json").read_text())
    assert latest["run_id"] == run.id
    assert open_run(tmp_path / "runs").path == run.path


def test_every_row_comes_out_once(finished, sample):
    """Law 11 over the whole night."""
    counts = dict(
        zip(*(finished.coverage[c].to_pylist() for c in ("status", "n_positions")), strict=True)
    )
    parts = ("priced", "unpriced", "liquidatable", "quarantined", "excluded")
    assert counts["in"] == sum(counts[part] for part in parts) == 2000
    rows = finished.positions
    one = rows.filter(pc.equal(rows["scenario_set"].cast("string"), "historical"))
    assert pc.count_distinct(one["position_id"]).as_py() == len(one) == 2000


def test_the_stored_cube_is_what_the_stored_drivers_do_to_the_book(finished, sample):
    """The report's numbers can be traced: facts to measures to cube to drivers.

    Without the cells that hold options, or simulated cross-margin pools: their paths step by step
    are not stored.
    """
    import pyarrow.parquet as pq

    from risk.margin.book import build_book
    from risk.snapshot import load_snapshot

    snapshot = load_snapshot(sample)
    book = build_book(
        snapshot.positions, snapshot.contracts, snapshot.tiers, snapshot.venues,
        as_of=snapshot.as_of, accounts=snapshot.accounts,
    )  # fmt: skip
    options = pc.equal(book["kind"].cast("string"), "option")
    pools = book["pool_holdings"].is_valid()
    assert pc.sum(pools).as_py() > 0
    for name, cube in finished.cube.children.items():
        drivers = open_drivers(finished.path, instruments=True)[name].to_dataset().load()
        again = walk(
            build_ladders(book, list(drivers.asset.values), ["venue", "asset", "side"]), drivers
        )
        labels = ("venue", "asset", "side")
        cells = list(zip(*(cube[label].values.astype(str) for label in labels), strict=True))
        stepped = book.filter(pc.or_(options, pools) if name == "monte_carlo" else options)
        with_steps = set(
            zip(*(stepped[label].cast("string").to_pylist() for label in labels), strict=True)
        )
        plain = np.array([cell not in with_steps for cell in cells])
        assert 0 < plain.sum() < len(cells)
        for variable in CUBE:
            stored = cube[variable].values
            scale = np.abs(stored).sum()
            apart = np.abs(again[variable].values - stored)[:, plain]
            assert apart.max() <= 1e-9 * max(scale, 1.0)
    facts = finished.facts
    value = facts.filter(pc.equal(facts["fact_id"], "value_at_risk.monte_carlo.0.99.total.all"))
    total = finished.cube["monte_carlo"].pnl.values.sum(axis=1)
    rank = int(np.ceil(len(total) * 0.99))
    assert value["value"][0].as_py() == pytest.approx(np.sort(-total)[rank - 1], rel=1e-9)
    assert pq.read_table(finished.path / "facts.parquet").equals(facts)


def test_cross_margin_is_priced_counted_and_reported(finished):
    book = pq.read_table(finished.path / "book.parquet")
    pooled = book.filter(book["pool_holdings"].is_valid())
    assert set(pooled["status"].to_pylist()) == {"ok"}
    methods = pq.read_table(finished.path / "methods.parquet")
    counts = dict(
        zip(methods["method"].to_pylist(), methods["n_positions"].to_pylist(), strict=True)
    )
    assert counts["pools"] == pooled.num_rows > 0
    priced = finished.coverage.filter(pc.equal(finished.coverage["status"], "priced"))
    assert sum(counts.values()) == priced["n_positions"][0].as_py()
    assert sum(methods["notional_usd"].to_pylist()) == pytest.approx(
        priced["notional_usd"][0].as_py(), rel=1e-12
    )
    facts = dict(
        zip(finished.facts["fact_id"].to_pylist(), finished.facts["value"].to_pylist(), strict=True)
    )
    assert facts["method.n_positions.pools"] == facts["pools.positions"] == pooled.num_rows
    page = (finished.path / "report.html").read_text()
    assert "kernel of last resort" in page
    assert 'id="pools"' in page
    rows = pq.read_table(finished.path / "pools.parquet")
    for low, high in (("surely", "together"), ("together", None)):
        most = rows["pools_liquidated" + (f"_{high}" if high else "")].to_numpy()
        assert (rows[f"pools_liquidated_{low}"].to_numpy() <= most).all()
    # Both bounds are of the same pools and paths.
    drawn = rows.filter(pc.equal(rows["scenario_set"], "monte_carlo"))
    worst, surely = (
        drawn[name].to_numpy().sum() for name in ("pools_liquidated", "pools_liquidated_surely")
    )
    assert 0 < surely <= worst
    positions = finished.positions.filter(
        pc.is_in(finished.positions["position_id"], pooled["position_id"].combine_chunks())
    )
    drawn = positions.filter(pc.equal(positions["scenario_set"].cast("string"), "monte_carlo"))
    for name in ("liquidation_probability", "value_at_risk", "expected_shortfall"):
        assert drawn[name].null_count == 0
    assert drawn["required_margin"].null_count == drawn.num_rows


def test_account_deficits_add_up_to_the_cube_in_stresses_and_the_worst_scenarios(finished):
    run = finished
    rows = pq.read_table(run.path / "accounts.parquet")
    for name in ("stress", "historical", "monte_carlo"):
        deficit = run.cube[name].deficit.sum("cell").values
        mine = rows.filter(pc.equal(rows["scenario_set"], name))
        at = mine["scenario"].to_numpy()
        by_scenario = np.bincount(at, mine["deficit_usd"].to_numpy(), len(deficit))
        if name == "stress":
            expected = deficit
        else:
            worst = np.sort(np.argsort(-deficit, kind="stable")[:20])
            worst = worst[deficit[worst] > 0]
            assert sorted(set(at.tolist())) == worst.tolist()
            assert min(mine["deficit_usd"].to_pylist()) > 0
            expected = np.zeros(len(deficit))
            expected[worst] = deficit[worst]
        np.testing.assert_allclose(by_scenario, expected, rtol=1e-9, atol=1e-6)
        assert deficit.max() > 0


def test_an_as_of_beyond_the_history_is_refused(sample, tmp_path):
    history = tmp_path / "history"
    history.mkdir()
    import pyarrow.parquet as pq

    table = pq.read_table(sample / "history/prices.parquet")
    pq.write_table(table.filter(pc.less(table["ts"], table["ts"][-1])), history / "prices.parquet")
    with pytest.raises(ConfigError, match="outside the history"):
        pipeline.run(load_config(write_config(tmp_path, sample, history=str(history))))


def test_an_empty_book_is_refused_unless_allowed(sample, tmp_path):
    import pyarrow.parquet as pq

    empty = tmp_path / "empty"
    source = next(sample.glob("as_of=*"))
    target = empty / source.name
    target.mkdir(parents=True)
    for file in source.glob("*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.slice(0, 0) if "positions" in file.name else table, target / file.name)
    with pytest.raises(DataError, match="holds no position"):
        pipeline.run(load_config(write_config(tmp_path, empty, history=str(sample / "history"))))
    run = pipeline.run(
        load_config(
            write_config(tmp_path, empty, history=str(sample / "history"), allow_empty=True)
        )
    )
    assert run.coverage["n_positions"][0].as_py() == 0


def test_every_limit_of_the_inventory_is_judged_and_every_total_reconciles(finished):
    facts = finished.facts
    values = dict(zip(facts["fact_id"].to_pylist(), facts["value"].to_pylist(), strict=True))
    states = evaluate_limits(load_limits(ROOT / "configs/limits.yaml"), values)
    # This config's cells do not carry the book.
    lacking = [state.limit.name for state in states if state.state == "not evaluated"]
    assert lacking == ["Expected shortfall of a book"]
    assert values["limits.not_evaluated"] == 1
    assert values["limits.all"] >= 20
    assert values["reconciled.failed"] == 0
    assert values["reconciled.1.left"] == 2000
    assert values["reconciled.2.left"] == pytest.approx(values["coverage.notional.in"], rel=1e-12)
