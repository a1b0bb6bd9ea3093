"""The night under Prefect: the same bytes, the same exit statuses, seen from outside."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed
from rich.console import Console

from flows import backtest as past
from flows import nightly, notices, watch
from flows.server import HOST, Server, port_is_free
from risk import open_run, pipeline, replay
from risk.config import load_config
from risk.engine import run_blocks
from risk.errors import ConfigError, DataError, RunError
from risk.sample import write_sample
from risk.store import verify

ROOT = Path(__file__).resolve().parents[1]
STAGES = (
    nightly.load_book,
    nightly.prepare_scenarios,
    nightly.build_ladders,
    nightly.simulate,
    nightly.measure,
    nightly.report,
)


def ask(url, path, body=None):
    """One request to a Prefect server: GET, or POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code != 503:  # the server's word for a database that is busy just now
                raise
            time.sleep(0.2)


def wait_for(found, seconds=120):
    """The first true answer of `found`, which may also raise until it can answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if answer := found():
                return answer
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError("nothing came in time")


@pytest.fixture(scope="session")
def prefect_url():
    """A Prefect server on a database of its own."""
    server = Server()
    server.wait()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """A sample book of 400 positions with its history."""
    out = tmp_path_factory.mktemp("sample")
    write_sample(out, positions=400, seed=7, venue_rules=ROOT / "configs/venues")
    return out


@pytest.fixture
def config(sample, tmp_path):
    """Write a small night on the sample; what is given replaces top-level keys."""

    def write(**changes):
        values = {
            "snapshot": str(sample),
            "history": str(sample / "history"),
            "venues": str(ROOT / "configs/venues"),
            "seed": 3,
            "cells": ["venue", "asset", "side"],
            "scenarios": {
                "historical": {"windows": 100, "gap": 0.3},
                "monte_carlo": {"paths": 600, "steps": 12, "block": 256},
                "stress": {"folder": str(ROOT / "configs/stresses")},
            },
            "measures": {"coverage_floor": 0.5},
            "capital": str(ROOT / "configs/capital"),
            "execution": {"executor": "plain"},
            "out": str(tmp_path / "runs"),
        }
        path = tmp_path / "night.yaml"
        path.write_text(yaml.safe_dump(values | changes))
        return path

    return write


@pytest.fixture
def start(prefect_url, tmp_path):
    """Run `python -m flows` on the session's server: exit status, stdout, stderr, flow runs."""

    def run(*tokens):
        before = ask(prefect_url, "/flow_runs/filter", {})
        done = subprocess.run(
            [sys.executable, "-m", "flows", *map(str, tokens)],
            cwd=tmp_path,
            env=os.environ | {"PREFECT_API_URL": prefect_url, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        known = {one["id"] for one in before}
        runs = [one for one in ask(prefect_url, "/flow_runs/filter", {}) if one["id"] not in known]
        return done.returncode, done.stdout, done.stderr, runs

    return run


def files(run):
    """Every byte of a run but the manifest, which holds timings."""
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def sample_days(config):
    """Days of the snapshots a config reads."""
    folder = Path(yaml.safe_load(config.read_text())["snapshot"])
    names = (path.name.removeprefix("as_of=") for path in folder.glob("as_of=*"))
    return [dt.date.fromisoformat(name) for name in names]


def artifacts(url, run):
    found = ask(url, "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    return {one["key"]: one["data"] for one in found}


def test_the_flow_writes_the_bytes_of_the_pipeline(config, start, prefect_url, tmp_path):
    """Law 5, under Prefect: on dask here, in one process there."""
    path = config(execution={"executor": "dask", "workers": 2})
    status, out, err, (seen,) = start(path)
    assert status == 0, err
    run = open_run(tmp_path / "runs")
    verify(run)
    assert out.splitlines()[-1] == str(run.path / "report.html")
    assert "SYNTHETIC" in out
    assert list(run.manifest["timings"]) == list(pipeline.STAGES)

    plain = pipeline.run(load_config(config(), out=tmp_path / "plain"))
    assert plain.id == run.id
    assert files(plain) == files(run)

    assert (seen["state_type"], seen["name"]) == ("COMPLETED", f"night of {run.as_of}")
    shown = artifacts(prefect_url, seen)
    assert shown["nightly-progress"] == 100
    card = shown["run-card"]
    assert card.startswith(f"# Night of {run.as_of}: FINISHED · SYNTHETIC")
    assert card.count("\n| ") == 2 + 8, "two lines of heading, eight figures"
    assert f"`{run.path / 'report.html'}`" in card
    log = (tmp_path / "runs/logs/nightly.log").read_text().splitlines()
    assert [name for name in pipeline.STAGES if not any(f"{name}: " in line for line in log)] == []
    assert all(line.split()[0].endswith("Z") for line in log)
    stored = Path(os.environ["PREFECT_HOME"]) / "storage"
    assert list(stored.rglob("*")) == [], "nothing is pickled between tasks"

    status, out, err, (seen,) = start(path)
    assert status == 0
    assert "load book" not in err, "a finished night is recognised"


def test_the_backtest_flow_writes_the_bytes_of_the_plain_loop(config, start, prefect_url, tmp_path):
    """Law 5 for past nights: two dask workers under Prefect, one without, and no dask at all."""
    path = config(execution={"executor": "dask", "workers": 2})
    last = max(sample_days(path)) - dt.timedelta(days=1)
    first = last - dt.timedelta(days=5)
    status, out, err, (seen,) = start("backtest", path, "--from", first, "--to", last)
    assert status == 0, err
    run = open_run(tmp_path / "runs/backtest")
    verify(run)
    assert out.splitlines()[-1] == str(run.path)
    assert f"Backtest of the nights {first} to {last}" in out
    assert list(run.manifest["timings"]) == list(replay.STAGES)
    for name, execution in (("one", ("dask", 1)), ("plain", ("plain", 1))):
        settings = load_config(
            path,
            out=tmp_path / name,
            execution__executor=execution[0],
            execution__workers=execution[1],
        )
        other = replay.backtest(settings, first, last)
        assert other.id == run.id
        assert files(other) == files(run)

    assert (seen["state_type"], seen["name"]) == ("COMPLETED", f"backtest of {first} to {last}")
    assert run.id in seen["tags"]
    shown = artifacts(prefect_url, seen)
    assert shown["backtest-progress"] == 100
    card = shown["run-card"]
    assert card.startswith(f"# Backtest up to {last}: FINISHED · SYNTHETIC")
    assert f"Backtest of the nights {first} to {last}" in card
    assert "P&L attribution" in card
    assert f"`{run.path / 'tests.parquet'}`" in card
    log = (tmp_path / "runs/logs/backtest.log").read_text().splitlines()
    assert [name for name in replay.STAGES if not any(f"{name}: " in line for line in log)] == []

    status, _, err, (seen,) = start("backtest", path, "--from", first, "--to", last)
    assert status == 0
    assert "replay" not in err, "a finished backtest is recognised"


def test_a_period_without_history_fails_the_backtest_flow_with_status_2(config, start):
    path = config()
    last = max(sample_days(path))
    status, out, err, (seen,) = start("backtest", path, "--from", last, "--to", last)
    assert (status, out) == (2, "")
    assert f"the night of {last} is judged by the prices of" in err
    assert seen["state_type"] == "FAILED"


def test_a_breach_finishes_with_status_3_and_says_why(config, start, prefect_url):
    status, out, err, (seen,) = start(config(measures={"coverage_floor": 1.0}))
    assert status == 3, err
    assert "BREACHED: coverage" in out
    assert "exit status 3" in out
    assert (seen["state_type"], seen["state_name"]) == ("COMPLETED", "Breached")
    assert "BREACHED" in artifacts(prefect_url, seen)["run-card"]


def test_a_damaged_file_fails_the_flow_in_one_sentence(
    config, start, sample, prefect_url, tmp_path
):
    broken = tmp_path / "broken" / next(sample.glob("as_of=*")).name
    broken.mkdir(parents=True)
    for file in (sample / broken.name).glob("*.parquet"):
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[:200] if "positions" in file.name else content)
    status, out, err, (seen,) = start(config(snapshot=str(broken.parent)))
    assert (status, out) == (1, "")
    assert "positions.parquet" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
    assert seen["state_type"] == "FAILED"
    assert "positions.parquet" in seen["state"]["message"]
    assert artifacts(prefect_url, seen)["run-card"].startswith("# FAILED")
    log = (tmp_path / "runs/logs/nightly.log").read_text()
    assert "the night failed: " in log
    assert "Traceback" not in log
    assert not list((tmp_path / "runs").glob("as_of=*/run=*"))


def test_a_day_without_a_snapshot_fails_the_flow_with_status_2(config, start):
    status, out, err, (seen,) = start(config(), "--as-of", "2001-01-01")
    assert (status, out) == (2, "")
    assert "no snapshot of 2001-01-01" in err
    assert seen["state_type"] == "FAILED"


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["nowhere.yaml"], "there is no such config"),
        (["nowhere.yaml", "--as-of", "tomorrow"], "'tomorrow' is no date"),
        ([], "required"),
    ],
)
def test_bad_usage_is_status_2_before_any_flow(start, tokens, words):
    status, out, err, seen = start(*tokens)
    assert (status, out, seen) == (2, "", [])
    assert words in err
    assert "Traceback" not in err


def test_every_stage_is_a_task_with_a_name_a_timeout_and_retries():
    assert [one.name for one in STAGES] == [
        "Load and margin the book",
        "Prepare the scenarios",
        "Build the ladders",
        "Simulate, block by block",
        "Measure the risk",
        "Write the reports",
    ]
    for stage, work in zip(STAGES, pipeline.STAGES.values(), strict=True):
        assert stage.description == work.__doc__
        assert stage.retries == 2
        assert stage.timeout_seconds >= 1800
    for one in (*STAGES, nightly.open_night, nightly.publish):
        assert one.cache_policy is NO_CACHE
        assert one.persist_result is False
    assert nightly.open_night.fn is pipeline.open_night
    assert nightly.publish.fn is pipeline.publish


@pytest.fixture
def followed(monkeypatch):
    """A `Watch` without a server: what it showed and told."""
    shown, told = [], []
    monkeypatch.setattr(watch, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(watch, "create_progress_artifact", lambda *_, **__: "id")
    monkeypatch.setattr(watch, "update_progress_artifact", lambda _, share: told.append(share))
    followed = watch.Watch(lambda *step: shown.append(step), ["simulate", "measure"])
    return followed, shown, told


def test_a_stage_calls_its_function_and_is_timed(followed, monkeypatch):
    follow, shown, told = followed
    calls = []

    def work(night, progress):
        calls.append(night)
        progress("simulate", 1, 4)

    monkeypatch.setitem(pipeline.STAGES, "simulate", work)
    assert nightly.simulate.fn("the night", follow) == "the night"
    assert calls == ["the night"]
    assert shown == [("simulate", 0, 1), ("simulate", 1, 4), ("simulate", 1, 1)]
    assert told == [12.5, 50.0]
    assert list(follow.timings) == ["simulate"]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError("disk full"), True),
        (RunError("block 3 killed its worker"), True),
        (TimeoutError(), True),
        (DataError("a bad file"), False),
        (ConfigError("a bad key"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error, again):
    state = Failed(data=error)
    assert nightly.simulate.retry_condition_fn(nightly.simulate, None, state) is again


@pytest.mark.parametrize(
    ("due", "day"),
    [
        ("2025-06-30T00:30:00+00:00", dt.date(2025, 6, 29)),
        ("2025-06-29T23:59:00+00:00", dt.date(2025, 6, 28)),
        ("2025-06-30T01:30:00+02:00", dt.date(2025, 6, 28)),
    ],
)
def test_a_scheduled_night_is_of_the_last_day_that_was_over(monkeypatch, due, day):
    class Due:
        scheduled_start_time = dt.datetime.fromisoformat(due)

    monkeypatch.setattr(nightly.runtime, "flow_run", Due)
    assert nightly.last_closed_day() == day

    # A backtest judges its last night by the day after, which must be over too.
    first, last = past.period(None, "scheduled", 3)
    assert (first, last) == (day - dt.timedelta(days=3), day - dt.timedelta(days=1))


def test_every_stage_of_a_backtest_is_a_task_too():
    for stage, work in zip(
        (past.prepare, past.replay_nights, past.judge), replay.STAGES.values(), strict=True
    ):
        assert stage.description == work.__doc__
        assert stage.retries == 2
        assert stage.cache_policy is NO_CACHE
        assert stage.persist_result is False
    with pytest.raises(ConfigError, match="at least 1"):
        past.period(None, dt.date(2025, 6, 1), 0)


def test_a_persons_mistake_is_logged_without_a_traceback(tmp_path, monkeypatch):
    log = logging.getLogger("prefect.flow_runs")
    monkeypatch.setattr(log, "handlers", [])  # the server is asked for nothing here
    monkeypatch.setattr(log, "propagate", False)
    with notices.log_file(tmp_path / "logs/n.log"):
        for error in (DataError("bad.parquet: is bad"), KeyError("x")):
            record = log.makeRecord(
                log.name, logging.ERROR, __file__, 1, "failed: %s", (error,),
                (type(error), error, error.__traceback__),
            )  # fmt: skip
            if notices.OneSentence().filter(record):
                log.handle(record)
    lines = (tmp_path / "logs/n.log").read_text().splitlines()
    assert lines[0].endswith("ERROR   failed: bad.parquet: is bad")
    assert lines[1].endswith("ERROR   failed: 'x'")
    assert lines[2] == "KeyError: 'x'"


def test_log_lines_and_the_bar_share_one_console():
    handler = notices.console_handler()
    assert handler.console is notices.CONSOLE
    assert isinstance(notices.CONSOLE, Console)


def test_the_entry_imports_nothing_heavy():
    """Spawned workers import it again, and the server is started before anything else."""
    code = (
        "import sys, json, flows.__main__, flows.server, flows.start\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'xarray', 'dask', 'prefect', 'numba', 'pydantic'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == []


@pytest.mark.drill
def test_a_killed_night_leaves_no_server_behind(tmp_path):
    code = (
        "from flows.server import Server; s = Server(); print(s._process.pid, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, env=os.environ | {"PREFECT_HOME": str(tmp_path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()

    def is_gone():
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().split()[2] == "Z"

    wait_for(is_gone, 30)


@pytest.mark.drill
def test_a_killed_night_is_marked_by_the_start_that_resumes_it(
    config, start, prefect_url, tmp_path
):
    """Prefect itself leaves a killed run RUNNING for ever."""
    scenarios = {"monte_carlo": {"paths": 4000, "steps": 24, "block": 64}}
    path = config(scenarios=scenarios)
    killed = subprocess.Popen(
        [sys.executable, "-m", "flows", str(path)],
        cwd=tmp_path,
        env=os.environ | {"PREFECT_API_URL": prefect_url, "PYTHONPATH": str(ROOT)},
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    part = wait_for(lambda: next((tmp_path / "runs").glob("as_of=*/.run=*.part/blocks"), None))
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    status, _, err, (seen,) = start(path)
    assert status == 0, err
    tag = part.parent.name.removeprefix(".run=").removesuffix(".part")
    runs = ask(
        prefect_url, "/flow_runs/filter",
        {"flow_runs": {"tags": {"all_": [tag]}}, "sort": "START_TIME_ASC"},
    )  # fmt: skip
    assert [run["state_type"] for run in runs] == ["CRASHED", "COMPLETED"]
    assert runs[1]["id"] == seen["id"]


@pytest.mark.drill
def test_a_killed_backtest_goes_on_with_the_nights_it_had(
    config, prefect_url, tmp_path, monkeypatch
):
    """SIGKILL of the flow and its workers; what was done is kept, and the bytes are the same."""
    path = config(execution={"executor": "dask", "workers": 2})
    last = max(sample_days(path)) - dt.timedelta(days=1)
    first = last - dt.timedelta(days=59)
    tokens = ["backtest", str(path), "--from", str(first), "--to", str(last)]
    killed = subprocess.Popen(
        [sys.executable, "-m", "flows", *tokens],
        cwd=tmp_path,
        env=os.environ | {"PREFECT_API_URL": prefect_url, "PYTHONPATH": str(ROOT)},
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out = tmp_path / "runs"

    def receipts():
        return list(out.glob("backtest/as_of=*/.run=*.part/blocks/night-*.json"))

    wait_for(lambda: len(receipts()) >= 3)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    n_done = len(receipts())
    assert 3 <= n_done < 60

    kept = []

    def counting(*args, **settings):
        kept.append(run_blocks(*args, **settings))
        return kept[-1]

    monkeypatch.setattr("risk.replay.run.run_blocks", counting)
    plain = {"execution__executor": "plain"}
    resumed = replay.backtest(load_config(path, **plain), first, last)
    whole = replay.backtest(load_config(path, out=tmp_path / "whole", **plain), first, last)
    assert kept == [n_done, 0]
    assert resumed.id == whole.id
    assert files(resumed) == files(whole)


@pytest.mark.drill
def test_a_fresh_server_schedules_the_night_and_a_missing_snapshot_fails_loudly(config, tmp_path):
    """A clash of versions once switched the schedule off: deployments active, no run ever due."""
    path = config(
        schedule={
            "cron": "15 1 * * *",
            "timezone": "Europe/Berlin",
            "backtest": {"cron": "0 3 * * 0", "nights": 5},
        }
    )
    port = next(port for port in range(4310, 4400) if port_is_free(port))
    url = f"http://{HOST}:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(tmp_path / "fresh"),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    with (tmp_path / "served.txt").open("w") as said:
        serving = subprocess.Popen(
            [Path(sys.executable).with_name("bulkhead"), "serve", str(path)],
            cwd=tmp_path, env=environment, stdout=said, stderr=said,
        )  # fmt: skip
    try:

        def scheduled(of):
            wanted = {"state": {"type": {"any_": ["SCHEDULED"]}}, "deployment_id": {"any_": [of]}}
            return ask(url, "/flow_runs/filter", {"flow_runs": wanted})

        both = wait_for(lambda: len(found := ask(url, "/deployments/filter", {})) == 2 and found)
        deployment, weekly = sorted(both, key=lambda one: "nights" in one["parameters"])
        assert weekly["parameters"] == {"config": str(path), "nights": 5}
        sundays = wait_for(lambda: scheduled(weekly["id"]))
        for run in sundays:
            at = dt.datetime.fromisoformat(run["expected_start_time"])
            assert (at.weekday(), at.hour) in ((6, 1), (6, 2)), "03:00 in Berlin, on a Sunday"
        due = wait_for(lambda: scheduled(deployment["id"]))
        times = [dt.datetime.fromisoformat(run["expected_start_time"]) for run in due]
        assert len(times) >= 3
        assert all(at.minute == 15 and at.hour in (23, 0) for at in times), "01:15 in Berlin"
        assert deployment["parameters"] == {"config": str(path), "as_of": "scheduled"}

        run = ask(url, f"/deployments/{deployment['id']}/create_flow_run", {})
        ended = wait_for(
            lambda: (
                (one := ask(url, f"/flow_runs/{run['id']}"))["state_type"]
                in {"FAILED", "COMPLETED"}
                and one
            )
        )
        yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
        assert ended["state_type"] == "FAILED"
        assert f"no snapshot of {yesterday}" in ended["state"]["message"]
    finally:
        serving.send_signal(signal.SIGINT)
        assert serving.wait(30) == 0
    assert f"no snapshot of {yesterday}" in (tmp_path / "served.txt").read_text()
    assert "Traceback" not in (tmp_path / "served.txt").read_text()
