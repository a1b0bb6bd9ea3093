"""The command line: what it prints, where it writes, and the exit status it leaves."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from risk import commands, pipeline, store
from risk.cli import run_command
from risk.config import load_config
from risk.sample import write_sample
from risk.schema import MARGIN, QUARANTINE
from tests.makers import position, write_snapshot
from tests.test_store import INPUTS, make_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bulkhead(capsys):
    """Run a command line: its exit status, stdout and stderr."""

    def run(*tokens):
        status = run_command([str(token) for token in tokens])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def snapshot(tmp_path):
    bad = position("p2", contracts=-1.0)
    return write_snapshot(tmp_path / "book", positions=[position("p1"), bad])


def test_help_imports_nothing_heavy():
    code = (
        "import sys, json\n"
        "from risk.cli import run_command\n"
        "status = run_command(['--help'])\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'xarray', 'polars', 'dask', 'prefect', 'numba',"
        " 'pydantic', 'scipy', 'matplotlib'}\n"
        "print(json.dumps([status, sorted(heavy & set(sys.modules))]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


@pytest.mark.parametrize("command", ["sample", "check", "margin", "run", "backtest", "runs"])
def test_every_command_explains_itself_with_an_example(bulkhead, command):
    status, out, err = bulkhead(command, "--help")
    assert (status, err) == (0, "")
    assert f"bulkhead {command} " in out.split("Examples:")[1]
    assert "progress" not in out


def test_no_command_line_at_all_prints_the_help(bulkhead):
    status, out, _ = bulkhead()
    assert status == 0
    assert "First steps" in out


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["marign"], 'Did you mean "margin"?'),
        (["margin"], "--snapshot requires an argument"),
        (["check", "x", "--as-of", "2025-13-01"], "2025-13-01"),
        (["check", "x", "--asof", "2025-12-01"], "Did you mean --as-of?"),
        (["sample", "--out", "x", "--progress", "1"], "Unknown option"),
        (["stress"], "--file requires an argument"),
        (["serve", "x.yaml", "--progress", "1"], "Unknown option"),
    ],
)
def test_bad_usage_is_one_sentence_and_status_2(bulkhead, tokens, words):
    status, out, err = bulkhead(*tokens)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_sample_is_written_checked_and_margined(bulkhead, tmp_path):
    status, out, err = bulkhead("sample", "--out", tmp_path, "--positions", 300, "--seed", 3)
    assert status == 0
    assert out.strip().startswith(str(tmp_path))
    assert "writing" in err
    status, out, _ = bulkhead("check", tmp_path)
    assert status == 0
    assert "300 of 300 positions keep every rule" in out
    assert "SYNTHETIC" in out
    target = tmp_path / "tables" / "margin.parquet"
    status, out, _ = bulkhead("margin", tmp_path, "--out", target)
    assert status == 0
    assert out.startswith("300 positions: ")
    table = pq.read_table(target)
    assert (table.num_rows, table.column_names) == (300, MARGIN.names)


def test_check_writes_what_was_quarantined_and_why(bulkhead, snapshot, tmp_path):
    status, out, _ = bulkhead("check", snapshot, "--out", tmp_path / "checked")
    assert status == 0
    assert "1 of 2 positions" in out
    table = pq.read_table(tmp_path / "checked" / "quarantine.parquet")
    assert table.schema.equals(QUARANTINE)
    (row,) = table.to_pylist()
    assert row["position_id"] == "p2"
    assert row["reason"] in out or "contracts" in out


def test_margin_leaves_quarantined_rows_out_and_writes_them_beside(bulkhead, snapshot, tmp_path):
    target = tmp_path / "margin.parquet"
    assert bulkhead("margin", snapshot, "--out", target)[0] == 0
    assert pq.read_table(target)["position_id"].to_pylist() == ["p1"]
    quarantine = pq.read_table(tmp_path / "quarantine.parquet")
    assert quarantine["position_id"].to_pylist() == ["p2"]


def test_a_snapshot_that_is_not_there_is_status_2(bulkhead, tmp_path):
    status, out, err = bulkhead("check", tmp_path)
    assert (status, out) == (2, "")
    assert "holds no snapshot" in err


def test_a_damaged_file_is_status_1_and_writes_nothing(bulkhead, snapshot, tmp_path):
    (file,) = snapshot.rglob("positions.parquet")
    file.write_bytes(file.read_bytes()[:100])
    target = tmp_path / "margin.parquet"
    status, out, err = bulkhead("margin", snapshot, "--out", target)
    assert (status, out) == (1, "")
    assert "positions.parquet" in err
    assert err.count("\n") == 1
    assert not target.exists()


def test_an_output_that_cannot_be_written_is_status_1(bulkhead, snapshot, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = bulkhead("margin", snapshot, "--out", tmp_path / "file" / "margin.parquet")
    assert status == 1
    assert "cannot be written" in err


def test_debug_shows_the_traceback(tmp_path):
    from risk.errors import ConfigError

    with pytest.raises(ConfigError, match="holds no snapshot"):
        run_command(["check", str(tmp_path), "--debug"])


def test_runs_are_listed_verified_and_compared(bulkhead, tmp_path):
    before = make_run(tmp_path)
    after = make_run(tmp_path, seed=2, inputs=INPUTS | {"limits.yaml": "x"}, value_at_risk=9.5)
    status, out, _ = bulkhead("runs", tmp_path)
    assert status == 0
    assert out.index(before.id) < out.index(after.id)
    status, out, _ = bulkhead("runs", "--compare", before.path, after.path)
    assert status == 0
    assert "input differs: limits.yaml" in out
    assert "config differs: seed: 20250629 -> 2" in out
    assert "1 of 2 figures moved" in out
    assert "2.5" in out
    (after.path / "report.html").write_text("nicer")
    assert bulkhead("runs", tmp_path)[0] == 0
    status, _, err = bulkhead("runs", tmp_path, "--verify")
    assert status == 1
    assert "report.html: was changed" in err


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A small finished night, and the folder its settings lie in."""
    folder = tmp_path_factory.mktemp("night")
    write_sample(folder / "data", positions=300, seed=5, venue_rules=ROOT / "configs/venues")
    shutil.copytree(ROOT / "configs", folder / "configs")
    config = {
        "snapshot": str(folder / "data"),
        "history": str(folder / "data/history"),
        "venues": str(folder / "configs/venues"),
        "seed": 3,
        "cells": ["venue", "asset"],
        "scenarios": {
            "monte_carlo": {"paths": 300, "steps": 12, "block": 256},
            "stress": {"folder": str(folder / "configs/stresses")},
        },
        "capital": str(folder / "configs/capital"),
        "limits": str(folder / "configs/limits.yaml"),
        "execution": {"executor": "plain"},
        "out": str(folder / "runs"),
    }
    (folder / "night.yaml").write_text(yaml.safe_dump(config))
    return pipeline.run(load_config(folder / "night.yaml")), folder


def test_a_stress_now_is_the_stress_of_the_night(night):
    run, folder = night
    file = folder / "configs/stresses/uniform-fall-50.yaml"
    result = commands.stress(
        file, snapshot=folder / "data", history=folder / "data/history",
        venues=folder / "configs/venues",
    )  # fmt: skip
    cube = run.cube["stress"].to_dataset().load()
    (mine,) = np.flatnonzero(cube.label.values == result.stress.title)
    by_night = {
        (str(venue), str(asset)): i
        for i, (venue, asset) in enumerate(zip(cube.venue.values, cube.asset.values, strict=True))
    }
    rows = result.cells.to_pylist()
    assert len(rows) == len(by_night) > 20
    for row in rows:
        cell = cube.isel(scenario=mine, cell=by_night[row["venue"], row["asset"]])
        assert row["loss"] == pytest.approx(-cell.pnl.item(), rel=1e-9, abs=1e-6)
        assert row["deficit"] == pytest.approx(cell.deficit.item(), rel=1e-9, abs=1e-6)
        assert row["liquidations"] == cell.liquidations.item()
    assert result.coverage.to_pylist() == run.coverage.to_pylist()


def test_a_stress_prints_loss_deficit_and_liquidations_by_asset_and_venue(bulkhead, night):
    _, folder = night
    file = folder / "configs/stresses/short-squeeze-40.yaml"
    status, out, err = bulkhead(
        "stress", file, "--snapshot", folder / "data", "--history", folder / "data/history",
        "--venues", folder / "configs/venues",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "SYNTHETIC" in out
    for word in ("whole book", "BTC", "binance", "deficit", "liquidations", "Coverage: "):
        assert word in out


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"file": "nowhere.yaml"}, 2, "nowhere.yaml does not exist"),
        ({"--as-of": "2001-01-01"}, 2, "no snapshot of 2001-01-01"),
        ({"--history": "nowhere"}, 1, "nowhere"),
    ],
)
def test_a_stress_of_bad_input_says_what_is_wrong(bulkhead, night, changes, status, words):
    _, folder = night
    given = {
        "file": folder / "configs/stresses/uniform-fall-50.yaml",
        "--snapshot": folder / "data",
        "--history": folder / "data/history",
        "--venues": folder / "configs/venues",
    } | changes
    file = given.pop("file")
    got, out, err = bulkhead("stress", file, *(token for pair in given.items() for token in pair))
    assert (got, out) == (status, "")
    assert words in err
    assert err.count("\n") == 1


def test_the_reports_of_a_run_are_printed_again_to_the_byte(bulkhead, night, tmp_path):
    run, folder = night
    before = (run.path / "manifest.json").read_bytes()
    status, out, _ = bulkhead("report", folder / "runs", "--out", tmp_path / "again")
    assert status == 0
    printed = Path(out.strip()).parent
    assert printed == tmp_path / "again" / run.path.parent.name / run.path.name
    for name in ("report.html", "capital.html", "capital.json"):
        assert (printed / name).read_bytes() == (run.path / name).read_bytes()
    assert (run.path / "manifest.json").read_bytes() == before
    store.verify(run)


def test_reports_are_not_printed_by_other_settings_than_the_runs(bulkhead, night, tmp_path):
    _, folder = night
    limits = folder / "configs/limits.yaml"
    content = limits.read_text()
    limits.write_text(content + "# changed\n")
    status, out, err = bulkhead("report", folder / "runs", "--out", tmp_path)
    limits.write_text(content)
    assert (status, out) == (1, "")
    assert "limits.yaml: is not what it was" in err


def test_a_report_of_no_run_is_status_1(bulkhead, tmp_path):
    status, _, err = bulkhead("report", tmp_path)
    assert status == 1
    assert "there is no finished run" in err


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"cron": "every night"}, "write five fields"),
        ({"cron": "30 24 * * *"}, "'24' is no hour; write 0 to 23, or *"),
        ({"cron": "0 0 * * fri"}, "'fri' is no weekday"),
        ({"cron": "5-1 0 * * *"}, "'5-1' is no minute"),
        ({"timezone": "Mars/Olympus"}, "write a time zone"),
    ],
)
def test_a_schedule_that_cannot_be_is_status_2(bulkhead, night, tmp_path, schedule, words):
    _, folder = night
    config = yaml.safe_load((folder / "night.yaml").read_text()) | {"schedule": schedule}
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(config))
    status, _, err = bulkhead("serve", tmp_path / "served.yaml")
    assert status == 2
    assert words in err


def test_a_night_of_stresses_alone_is_status_2(bulkhead, night, tmp_path):
    _, folder = night
    config = yaml.safe_load((folder / "night.yaml").read_text())
    del config["scenarios"]["monte_carlo"]
    (tmp_path / "stresses.yaml").write_text(yaml.safe_dump(config))
    status, out, err = bulkhead("run", tmp_path / "stresses.yaml")
    assert (status, out) == (2, "")
    assert "add historical or monte_carlo" in err


def test_a_port_that_is_taken_is_status_2(bulkhead, night, monkeypatch):
    _, folder = night
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("PREFECT_SERVER_API_PORT", str(taken.getsockname()[1]))
        status, _, err = bulkhead("serve", folder / "night.yaml")
    assert status == 2
    assert "is taken; set PREFECT_API_URL" in err


def test_an_empty_folder_lists_no_runs(bulkhead, tmp_path):
    assert bulkhead("runs", tmp_path) == (0, "0 finished runs\n", "")
