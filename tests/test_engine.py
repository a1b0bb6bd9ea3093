"""Blocks run once each, anywhere, and only what is missing or damaged runs again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.engine import Workers, plan_blocks, run_blocks
from risk.errors import ConfigError, RunError
from tests import toy_blocks as toy

ROOT = Path(__file__).resolve().parents[1]


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {path.name: path.read_bytes() for path in found}


def attempts(folder):
    return (folder / "attempts.log").read_text().split()


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 50)), st.integers(1, 20))
def test_blocks_cover_every_scenario_once(sizes, size):
    blocks = plan_blocks(sizes, size)
    for name, n in sizes.items():
        covered = [i for b in blocks if b.scenario_set == name for i in range(b.start, b.stop)]
        assert covered == list(range(n))


def test_any_executor_and_order_writes_the_same_bytes(tmp_path):
    blocks = plan_blocks({"a": 70, "b": 7}, 10)
    written = []
    for name, order, options in (
        ("plain", 1, {"executor": "plain"}),
        ("reversed", -1, {"executor": "plain"}),
        ("one", 1, {"workers": 1}),
        ("two", -1, {"workers": 2}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        run_blocks(toy.square, toy.check, str(folder), blocks[::order], **options)
        written.append(files(folder))
    assert all(one == written[0] for one in written)
    assert len(written[0]) == 2 * len(blocks)


def test_only_missing_and_damaged_blocks_run_again(tmp_path):
    blocks = plan_blocks({"a": 50}, 10)
    seen = []
    for _ in range(2):
        run_blocks(toy.square, toy.check, str(tmp_path), blocks, executor="plain")
    np.save(tmp_path / "a-000001.npy", np.zeros(10))
    (tmp_path / "a-000004.npy").unlink()
    kept = run_blocks(
        toy.square, toy.check, str(tmp_path), blocks, executor="plain",
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert kept == 3
    assert seen == [(3, 5), (4, 5), (5, 5)]
    assert attempts(tmp_path) == [b.key for b in blocks] + ["a-000001", "a-000004"]


def test_a_killed_worker_costs_its_block_and_nothing_else(tmp_path):
    blocks = plan_blocks({"a": 80}, 10)
    run_blocks(toy.die_once, toy.check, str(tmp_path), blocks)
    assert (tmp_path / "died").exists()
    assert sorted(attempts(tmp_path)) == [b.key for b in blocks], "block 3 died before it logged"
    assert run_blocks(toy.fail, toy.check, str(tmp_path), blocks, executor="plain") == len(blocks)


@pytest.mark.drill
@pytest.mark.parametrize("tasks_per_worker", [32, 8])
def test_workers_killed_at_random_moments_cost_one_block_each(
    tmp_path, monkeypatch, tasks_per_worker
):
    """Also what they finished and nobody had asked for yet, and the rest of a task of several."""
    n, n_kills = 64, 4
    monkeypatch.setattr("risk.engine.executor._TASKS_PER_WORKER", tasks_per_worker)
    blocks = plan_blocks({"a": n}, 1)
    draws = random.Random(5)
    moments = sorted(draws.sample(range(1, n - 5), n_kills))
    workers = Workers(2)
    killed = []

    def kill():
        cluster = workers.cluster()
        for moment in moments:
            while len(list((tmp_path / "blocks").glob("*.json"))) < moment:
                time.sleep(0.01)
            time.sleep(draws.uniform(0, 0.1))
            living = [w.pid for w in cluster.workers.values() if w.pid and w.pid not in killed]
            killed.append(draws.choice(living))
            os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run_blocks(toy.slow_square, toy.check, str(tmp_path), blocks, workers=workers)
    finally:
        killer.join()
        workers.close()
    assert len(set(killed)) == n_kills
    assert set(attempts(tmp_path)) == {block.key for block in blocks}
    assert len(attempts(tmp_path)) <= n + n_kills


@pytest.mark.drill
def test_workers_that_dask_gives_up_are_replaced(tmp_path, monkeypatch):
    """It gives a dead one 15 s to come back, which a busy machine may not do; here, none."""
    monkeypatch.setattr("risk.engine.clients._LOOK_SECONDS", 0.5)
    blocks = plan_blocks({"a": 60}, 1)
    workers = Workers(2)

    def kill():
        while len(list((tmp_path / "blocks").glob("*.json"))) < 5:
            time.sleep(0.01)
        for one in workers.cluster().workers.values():
            os.kill(one.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}):
        killer.start()
        try:
            run_blocks(toy.slow_square, toy.check, str(tmp_path), blocks, workers=workers)
        finally:
            killer.join()
            workers.close()
    assert set(attempts(tmp_path)) == {block.key for block in blocks}
    assert len(attempts(tmp_path)) <= len(blocks) + 2


@pytest.mark.slow
def test_a_block_that_kills_every_worker_stops_the_run_with_its_name(tmp_path):
    with pytest.raises(RunError, match="a-000000-1 killed its worker 4 times"):
        run_blocks(toy.always_die, toy.check, str(tmp_path), plan_blocks({"a": 1}, 10))


def test_a_failing_block_raises_and_the_others_stay(tmp_path):
    blocks = plan_blocks({"a": 40}, 10)
    with pytest.raises(ValueError, match="block 2 is bad"):
        run_blocks(toy.fail, toy.check, str(tmp_path), blocks, executor="plain")
    assert run_blocks(toy.square, toy.check, str(tmp_path), blocks, executor="plain") == 2


def test_an_unknown_executor_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="plain, dask"):
        run_blocks(toy.square, toy.check, str(tmp_path), plan_blocks({"a": 1}, 1), executor="spark")


def test_a_script_without_a_guarded_main_is_told_so(tmp_path):
    """Spawned workers import the script again, which would start workers again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from risk.engine import Workers\n"
        "from risk.errors import RunError\n"
        "try:\n"
        "    Workers(1).cluster()\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
    assert "the worker processes did not start" in done.stdout
    assert "__main__" in done.stdout
