"""Killed at any moment, and started again: the same bytes, nothing half visible, nothing left."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from risk import open_run, pipeline
from risk.config import load_config
from risk.engine import Workers
from risk.sample import write_sample
from risk.store import list_runs, verify
from tests.test_pipeline import assert_same, write_config

pytestmark = pytest.mark.drill

ROOT = Path(__file__).resolve().parents[1]
#: How often a whole night is killed: once in every stage, or as often as `make drill` asks.
N_KILLS = int(os.environ.get("BULKHEAD_DRILL_KILLS", "7"))
SEED = 20250629


#: Enough blocks that a kill finds one under way.
SCENARIOS = {
    "historical": {"windows": 300, "gap": 0.3},
    "monte_carlo": {"paths": 6000, "steps": 12, "block": 128},
    "stress": {"folder": str(ROOT / "configs/stresses")},
}


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """A sample book of 500 positions with its history."""
    out = tmp_path_factory.mktemp("sample")
    write_sample(out, positions=500, seed=7, venue_rules=ROOT / "configs/venues")
    return out


def config_of(folder, sample, **execution):
    """A night of many blocks."""
    return write_config(folder, sample, scenarios=SCENARIOS, execution=execution)


@pytest.fixture(scope="session")
def finished(sample, tmp_path_factory):
    """The night, undisturbed, in this process."""
    folder = tmp_path_factory.mktemp("plain")
    config = load_config(config_of(folder, sample, executor="plain"))
    return pipeline.run(config, clock=time.perf_counter)


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_run_killed_before_any_change_of_a_file_while_it_is_published_is_all_or_nothing(
    tmp_path,
):
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill_points", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    *killed, whole = rows
    assert len(killed) > 10
    assert {row["status"] for row in killed} == {-signal.SIGKILL}
    assert {row["looked"] for row in rows} == {row["again"] for row in rows} == {0}, done.stderr
    seen = [(row["runs"], row["latest"]) for row in rows]
    assert seen == sorted(seen), "first nothing, then the run, then the pointer to it"
    assert {(0, False), (1, False), (1, True)} == set(seen)
    undisturbed = below(tmp_path / f"{len(rows)}")
    assert whole["status"] == 0
    assert [path for path in undisturbed if Path(path).name.startswith(".")] == []
    outputs = open_run(tmp_path / f"{len(rows)}").manifest["outputs"]
    for n in range(1, len(rows)):
        assert below(tmp_path / f"{n}") == undisturbed
        assert open_run(tmp_path / f"{n}").manifest["outputs"] == outputs


class Night:
    """A night in its own process group, followed by the stages it says it has finished."""

    STAGES = (*pipeline.STAGES, "publish")

    def __init__(self, config):
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("bulkhead"), "run", str(config)],
            cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.n_done, self.said = 0, []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.said.append(line)
            self.n_done += line.partition(":")[0] in pipeline.STAGES

    def reaches(self, stage, out):
        """Wait until it is at a stage; say whether it still runs."""
        n = self.STAGES.index(stage)
        while self.process.poll() is None:
            if self.n_done >= n and any(out.glob("as_of=*/.run=*.part")):
                return True
            time.sleep(0.002)
        return False

    def kill(self, *, whole):
        """Kill the whole group, or the driver alone, as a machine short of memory would."""
        (os.killpg if whole else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self):
        """Where it stood; once nothing of it is alive any more."""
        self._reader.join()  # orphans hold the pipe until they notice
        self.process.communicate()
        return self.STAGES[min(self.n_done, len(self.STAGES) - 1)]


def moments(seed):
    """(stage, share of it, whether the group is killed): every stage as often, in any order."""
    draws = random.Random(seed)
    while True:
        for stage in draws.sample(Night.STAGES, len(Night.STAGES)):
            yield stage, draws.random(), draws.random() < 0.75


def test_a_night_killed_at_random_moments_gives_the_same_bytes(sample, finished, tmp_path):
    """Law 5, over kills: in any stage, the workers included, then a run to the end."""
    config = config_of(tmp_path, sample, executor="dask", workers=2)
    out = tmp_path / "runs"
    lasts = finished.manifest["timings"] | {"publish": 0.2}
    landed, orphaned = [], []
    planned = moments(SEED)
    while len(landed) < N_KILLS:
        stage, share, whole = next(planned)
        night = Night(config)
        if night.reaches(stage, out):
            time.sleep(share * lasts[stage])
        if night.process.poll() is not None:  # it was faster than the moment
            breached = 3 if finished.breaches else 0
            assert night.process.returncode == breached, "".join(night.said)
            night.end()
            assert_same(finished, open_run(out))
            shutil.rmtree(out)
            continue
        night.kill(whole=whole)
        for run in list_runs(out):
            verify(run)
        if (out / "LATEST.json").exists():
            assert json.loads((out / "LATEST.json").read_text())["run_id"] == finished.id
        if whole:
            landed.append(night.end())
        else:
            orphaned.append((len(landed), night))
            landed.append("driver alone")
    run = pipeline.run(load_config(config))
    for place, night in orphaned:
        landed[place] = f"{night.end()}, driver alone"
    assert_same(finished, run)
    assert below(out) == below(finished.path.parents[1]), "no lock, no draft, no folder is left"
    print(f"\n{len(landed)} kills, seed {SEED}:")
    for name, n in sorted(Counter(landed).items()):
        print(f"  {n:3} {name}")


@pytest.mark.skipif(N_KILLS < 12, reason="minutes: `make drill` does it")
def test_a_night_killed_before_random_changes_of_files_gives_the_same_bytes(
    sample, finished, tmp_path
):
    """Moments by what is written instead of by the clock: short stages get their share."""
    out = tmp_path / "runs"
    config = config_of(tmp_path, sample, executor="plain")

    def start(n):
        done = subprocess.run(
            [sys.executable, "-m", "tests.killed_at", "run", str(config)],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env=os.environ | {"BULKHEAD_KILL_AT": str(n), "BULKHEAD_KILL_BELOW": str(out)},
        )  # fmt: skip
        last = done.stderr.splitlines()[-1]
        assert done.returncode == -signal.SIGKILL or last.startswith("changes "), done.stderr
        return last

    def check_and_remove():
        assert_same(finished, open_run(out))
        assert below(out) == below(finished.path.parents[1]), "no lock, no draft, no folder is left"
        shutil.rmtree(out)

    total = int(start(0).split()[1])
    check_and_remove()
    draws = random.Random(SEED + 2)
    killed = []
    while len(killed) < N_KILLS // 2:
        last = start(draws.randrange(1, total + 1))
        if last.startswith("killed"):
            killed.append(last)
        else:
            check_and_remove()
    start(0)
    check_and_remove()
    print(f"\n{len(killed)} kills among {total} changes, seed {SEED + 2}:", *killed, sep="\n  ")


def test_workers_of_a_night_killed_at_random_moments_cost_one_block_each(
    sample, finished, tmp_path, monkeypatch
):
    """The log of attempts lies beside the runs: a block that was begun twice is in it twice.

    A busy machine may lose a worker that nobody killed; that one costs no more than the others.
    """
    log = tmp_path / "attempts.log"
    monkeypatch.setattr("risk.pipeline.book.run_block", partial(logged_block, log))
    config = load_config(config_of(tmp_path, sample, executor="dask", workers=2))
    night = pipeline.open_night(config)
    draws = random.Random(SEED + 1)
    n_kills = max(2, N_KILLS // 4)
    killed = []

    def kill(workers: Workers, n_blocks):
        for moment in sorted(draws.sample(range(n_blocks - 3), n_kills)):
            while len(list((night.folder / "blocks").glob("*.json"))) < moment:
                time.sleep(0.002)
            time.sleep(draws.uniform(0, 0.2))
            pids = [one.pid for one in workers.cluster().workers.values() if one.pid]
            killed.append(draws.choice(pids))
            os.kill(killed[-1], signal.SIGKILL)

    try:
        for name, stage in pipeline.STAGES.items():
            if name == "simulate":
                n_blocks = len(pipeline.plan(night))
                killer = threading.Thread(target=kill, args=[night.workers, n_blocks])
                killer.start()
            stage(night, None)
        killer.join()
        run = pipeline.publish(night)
    finally:
        pipeline.close(night)
    assert_same(finished, run)
    attempts = [line.split() for line in log.read_text().splitlines()]
    lasts = {block: process for block, process in attempts}
    assert len(lasts) == n_blocks
    print(f"\n{len(killed)} workers killed, {len(attempts)} attempts at {n_blocks} blocks")
    lost = Counter(process for _, process in attempts)
    lost.subtract(lasts.values())
    assert len(killed) == n_kills
    assert max(lost.values()) <= 1, "no process costs more than the block it was at"


def logged_block(path, workspace, block):
    """A block of the night, after a line in the log that says it is begun."""
    from risk.block import run_block

    with path.open("a") as log:
        log.write(f"{block.key} {os.getpid()}\n")
    return run_block(workspace, block)
