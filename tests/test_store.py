"""A run is named by what went into it, and is visible whole or not at all."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
import yaml

import risk
from risk.config import Config, config_digest
from risk.errors import RunError
from risk.schema import COVERAGE, FACTS
from risk.store import (
    compare_runs,
    finished_run,
    list_runs,
    open_run,
    open_workspace,
    publish,
    run_id,
    verify,
)

DAY = dt.date(2025, 6, 29)
INPUTS = {"snapshot/positions.parquet": "aa", "history/prices.parquet": "bb"}
COVERED = pa.Table.from_pylist(
    [
        {"status": "in", "n_positions": 4, "notional_usd": 8.0, "share": 1.0},
        {"status": "quarantined", "n_positions": 1, "notional_usd": None, "share": 0.25},
    ],
    schema=COVERAGE,
)


def make_config(**changes):
    text = (Path(__file__).resolve().parents[1] / "configs/demo.yaml").read_text()
    return Config.model_validate(yaml.safe_load(text) | changes)


def facts(value_at_risk):
    rows = [
        {"fact_id": "book.n_positions", "value": 4.0, "unit": "1", "decimals": 0},
        {"fact_id": "var.total", "value": value_at_risk, "unit": "USD", "decimals": 0},
    ]
    rows = [row | {"scope": "whole book", "as_of": DAY} for row in rows]
    return pa.Table.from_pylist(rows, schema=FACTS)


def fill(folder, value_at_risk=7.0):
    """Outputs of a tiny night."""
    folder.joinpath("report.html").write_text("<p>ok</p>")
    pq.write_table(facts(value_at_risk), folder / "facts.parquet")
    pnl = xr.Dataset({"pnl": (("scenario", "cell"), np.arange(6.0).reshape(3, 2))})
    tree = xr.DataTree.from_dict({"/historical": pnl, "/stress": pnl * 2})
    for name in ("cube", "measures"):
        tree.to_zarr(folder / f"{name}.zarr", consolidated=False, mode="w")
    moves = pnl.rename(cell="asset", pnl="low").assign_coords(
        asset=np.array(["BTC", "ETH"], object)
    )
    drivers = xr.DataTree.from_dict({"/historical": moves, "/stress": moves})
    drivers.to_zarr(folder / "drivers.zarr", consolidated=False, mode="w")


def make_run(out, *, as_of=DAY, inputs=INPUTS, value_at_risk=7.0, **changes):
    config = make_config(**changes)
    name = run_id(inputs, config_digest(config), as_of)
    with open_workspace(out, as_of, name) as workspace:
        fill(workspace.path, value_at_risk)
        timings = {"load_book": 0.25}
        publish(workspace, config, inputs, coverage=COVERED, timings=timings, breaches=["VaR"])
    return open_run(out / f"as_of={as_of}" / f"run={name}")


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_the_same_content_gives_the_same_id_in_any_order():
    backwards = dict(reversed(INPUTS.items()))
    assert run_id(INPUTS, "c", DAY) == run_id(backwards, "c", DAY)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": INPUTS | {"history/prices.parquet": "changed"}},
        {"inputs": {"other.parquet": "aa", "history/prices.parquet": "bb"}},
        {"config_digest": "other"},
        {"as_of": DAY + dt.timedelta(1)},
        {"code": "other"},
    ],
)
def test_any_other_content_config_date_or_code_gives_another_id(change):
    whole = {"inputs": INPUTS, "config_digest": "c", "as_of": DAY}
    assert run_id(**(whole | change)) != run_id(**whole)


def test_a_published_run_reads_back(tmp_path):
    run = make_run(tmp_path)
    assert run.path.name == f"run={run.id}"
    assert (run.as_of, run.breaches) == (DAY, ("VaR",))
    assert run.cube["stress"].pnl.values.tolist() == [[0, 2], [4, 6], [8, 10]]
    assert set(run.measures.children) == set(run.drivers.children) == {"historical", "stress"}
    assert run.facts.equals(facts(7.0))
    assert run.coverage.equals(COVERED)
    assert run.manifest["inputs"] == INPUTS
    assert run.manifest["timings"] == {"load_book": 0.25}
    assert run.manifest["versions"]["bulkhead"]
    verify(run)


def test_the_package_opens_a_run(tmp_path):
    run = make_run(tmp_path)
    assert risk.open_run(tmp_path).id == run.id


def test_a_run_is_opened_from_its_folder_its_date_or_the_folder_of_all_runs(tmp_path):
    old = make_run(tmp_path, as_of=DAY - dt.timedelta(1))
    run = make_run(tmp_path)
    assert open_run(str(run.path)).id == open_run(run.path.parent).id == open_run(tmp_path).id
    assert open_run(old.path.parent).id == old.id


def test_latest_is_the_greatest_as_of_then_the_last_finished(tmp_path):
    def latest():
        pointer = json.loads((tmp_path / "LATEST.json").read_text())
        assert open_run(tmp_path).id == open_run(tmp_path / pointer["path"]).id
        return pointer["run_id"]

    first = make_run(tmp_path)
    assert latest() == first.id
    make_run(tmp_path, as_of=DAY - dt.timedelta(1))
    assert latest() == first.id
    again = make_run(tmp_path, seed=2)
    assert latest() == again.id
    newest = make_run(tmp_path, as_of=DAY + dt.timedelta(1))
    assert latest() == newest.id
    finished = [run.id for run in list_runs(tmp_path)]
    assert finished[1:] == [first.id, again.id, newest.id]


def test_nothing_is_visible_before_the_run_is_published(tmp_path):
    with open_workspace(tmp_path, DAY, "a" * 16) as workspace:
        fill(workspace.path)
        assert list_runs(tmp_path) == ()
        assert finished_run(tmp_path, DAY, "a" * 16) is None
        with pytest.raises(RunError, match="there is no finished run"):
            open_run(tmp_path)
        with pytest.raises(RunError, match="not finished; start it again"):
            open_run(workspace.path)
    assert not (tmp_path / "LATEST.json").exists()


def test_an_unfinished_run_is_resumed_with_what_it_had(tmp_path):
    with open_workspace(tmp_path, DAY, "a" * 16) as workspace:
        (workspace.path / "block-0").write_text("done")
    with open_workspace(tmp_path, DAY, "a" * 16) as workspace:
        assert names(workspace.path) == ["block-0"]


def test_a_second_start_of_the_same_run_is_refused_and_another_run_is_not(tmp_path):
    with open_workspace(tmp_path, DAY, "a" * 16):
        with pytest.raises(RunError, match=f"already running.*process {os.getpid()}"):
            open_workspace(tmp_path, DAY, "a" * 16)
        open_workspace(tmp_path, DAY, "b" * 16).close()
    open_workspace(tmp_path, DAY, "a" * 16).close()


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    code = (
        "import datetime, os, pathlib, signal\n"
        "from risk.store import open_workspace\n"
        f"day = datetime.date.fromisoformat('{DAY}')\n"
        f"w = open_workspace(pathlib.Path({str(tmp_path)!r}), day, 'a' * 16)\n"
        "(w.path / 'block-0').write_text('done')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with open_workspace(tmp_path, DAY, "a" * 16) as workspace:
        assert names(workspace.path) == ["block-0"]


def test_a_finished_run_is_recognised_and_not_computed_again(tmp_path):
    run = make_run(tmp_path)
    assert finished_run(tmp_path, DAY, run.id) == run.path
    with pytest.raises(RunError, match="is finished"):
        open_workspace(tmp_path, DAY, run.id)


def test_a_pointer_lost_by_a_crash_is_put_right_by_the_next_start(tmp_path):
    run = make_run(tmp_path)
    (tmp_path / "LATEST.json").unlink()
    finished_run(tmp_path, DAY, run.id)
    assert json.loads((tmp_path / "LATEST.json").read_text())["run_id"] == run.id


def test_publishing_leaves_no_scratch_and_no_lock(tmp_path):
    config = make_config()
    with open_workspace(tmp_path, DAY, "a" * 16) as workspace:
        fill(workspace.path)
        (workspace.path / "ladders").mkdir()
        (workspace.path / "ladders/long.npy").write_text("x")
        (workspace.path / "cube.zarr/historical/zarr.json.12.partial").write_text("x")
        (workspace.path / "facts.parquet.tmp").write_text("x")
        path = publish(
            workspace, config, INPUTS, coverage=COVERED, timings={}, scratch=["ladders", "absent"]
        )
    assert names(tmp_path) == ["LATEST.json", f"as_of={DAY}"]
    assert names(path.parent) == [path.name]
    assert [p.name for p in path.rglob("*") if p.suffix in {".tmp", ".partial", ".npy"}] == []
    outputs = {"cube.zarr", "drivers.zarr", "facts.parquet", "measures.zarr", "report.html"}
    assert set(names(path)) == {*outputs, "manifest.json"}


def test_the_outputs_of_two_runs_of_one_night_are_the_same_bytes(tmp_path):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    assert one.id == two.id
    assert one.manifest["outputs"] == two.manifest["outputs"]


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lambda path: (path / "report.html").write_text("<p>fine</p>"), "report.html: was changed"),
        (lambda path: (path / "report.html").unlink(), "report.html: was removed"),
        (lambda path: (path / "notes.txt").write_text("x"), "notes.txt: was added"),
        (
            lambda path: (path / "manifest.json").write_text(
                (path / "manifest.json").read_text().replace('"bb"', '"cc"')
            ),
            "inputs, config or code were changed",
        ),
    ],
)
def test_a_run_that_somebody_touched_does_not_verify(tmp_path, tamper, words):
    run = make_run(tmp_path)
    tamper(run.path)
    with pytest.raises(RunError, match=words):
        verify(open_run(run.path))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"run_id": "x", "as_of": "never"}'])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    run = make_run(tmp_path)
    (run.path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match="damaged"):
        open_run(run.path)


def test_a_copied_folder_under_another_name_is_refused(tmp_path):
    run = make_run(tmp_path)
    other = run.path.with_name("run=0123456789abcdef")
    shutil.copytree(run.path, other)
    with pytest.raises(RunError, match="its manifest is that of"):
        open_run(other)


def test_a_missing_table_or_cube_of_a_run_is_named(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(RunError, match=r"positions\.parquet: cannot be read"):
        _ = run.positions
    shutil.rmtree(run.path / "cube.zarr")
    with pytest.raises(RunError, match=r"cube\.zarr: cannot be read"):
        _ = run.cube


def test_an_out_that_cannot_be_written_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"):
        open_workspace(tmp_path / "runs", DAY, "a" * 16)


def test_a_comparison_names_what_went_in_and_what_came_out(tmp_path):
    before = make_run(tmp_path)
    inputs = INPUTS | {"history/prices.parquet": "changed", "limits.yaml": "new"}
    after = make_run(tmp_path, inputs=inputs, seed=2, history="elsewhere", value_at_risk=9.5)
    comparison = compare_runs(before, after)
    assert comparison.inputs == ("history/prices.parquet", "limits.yaml")
    assert comparison.config == {"seed": (20250629, 2)}
    assert comparison.is_same_code
    assert comparison.facts.select(["fact_id", "change"]).to_pylist() == [
        {"fact_id": "book.n_positions", "change": 0.0},
        {"fact_id": "var.total", "change": 2.5},
    ]


def test_a_comparison_of_a_run_with_itself_finds_nothing(tmp_path):
    run = make_run(tmp_path)
    comparison = compare_runs(run, run)
    assert (comparison.inputs, comparison.config) == ((), {})
    assert comparison.facts["change"].to_pylist() == [0.0, 0.0]


def test_sources_that_change_under_a_run_are_noticed(tmp_path, monkeypatch):
    """Modules, templates and workers load late: such a run would be of two versions."""
    from risk.store import identity

    (tmp_path / "a.py").write_text("x = 1")
    monkeypatch.setattr(identity, "_SOURCES", tmp_path)
    identity.code_digest.cache_clear()
    try:
        identity.code_digest()
        identity.check_code()
        (tmp_path / "a.py").write_text("x = 2")
        with pytest.raises(RunError, match="changed while this ran; start it again"):
            identity.check_code()
    finally:
        identity.code_digest.cache_clear()
