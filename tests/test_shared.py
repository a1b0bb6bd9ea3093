"""Workers that do not see the run's folder: inputs once, results whole, nothing large between."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import LocalCluster
from distributed.protocol import dumps

from risk.engine import plan_blocks, run_blocks, shared, tasks
from risk.engine.address import Address
from risk.engine.tasks import Job, run_on_worker
from risk.errors import ConfigError, RunError
from tests import toy_blocks as toy

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = plan_blocks({"a": 50}, 10)
COLUMN = np.full(200_000, 7)


@pytest.fixture
def workspace(tmp_path):
    """A run's folder with one large column to read."""
    return make_workspace(tmp_path / "run")


def make_workspace(folder, column=COLUMN):
    (folder / "rungs").mkdir(parents=True)
    np.save(folder / "rungs/column.npy", column)
    return folder


def publish(tmp_path, workspace, cache="cache"):
    address = str(tmp_path / "shared")
    return shared.publish(address, workspace, toy.READS, str(tmp_path / cache))


def scaled(folder):
    return {path.name: path.read_bytes() for path in (folder / "scaled").iterdir()}


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def start_fetching(there, *, kill=False):
    """A process that fetches what was published, and says which file it got."""
    code = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from risk.engine import shared\n"
        "from risk.engine.address import Address\n"
        "get = Address.get\n"
        "def killed(*args):\n"
        "    get(*args)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"if {kill}:\n"
        "    Address.get = killed\n"
        f"there = shared.Shared({there.address!r}, {there.digest!r}, {there.cache!r})\n"
        "local = shared._workspace(there, Path(sys.argv[1]))\n"
        "print(os.stat(local.folder / 'rungs/column.npy').st_ino, flush=True)\n"
        "input()\n"
    )
    scratch = Path(there.cache).with_name(f"scratch-{os.urandom(4).hex()}")
    return subprocess.Popen(
        [sys.executable, "-c", code, str(scratch)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_results_come_home_with_the_bytes_of_a_run_in_the_folder(tmp_path, workspace):
    plain = make_workspace(tmp_path / "plain")
    run_blocks(toy.scaled, toy.check_scaled, str(plain), BLOCKS, executor="plain")
    run_blocks(
        toy.scaled, toy.check_scaled, str(workspace), BLOCKS, workers=2,
        shared=f"file://{tmp_path}/shared", cache=str(tmp_path / "cache"), reads=toy.READS,
    )  # fmt: skip
    assert scaled(workspace) == scaled(plain)
    assert names(workspace) == names(plain), "no draft, no mark"
    assert names(tmp_path / "shared") == [], "nothing is left at the shared address"
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size == COLUMN.nbytes + 128 for path in kept) == 1


def test_the_second_task_of_a_worker_reads_nothing_again(tmp_path, workspace):
    there = publish(tmp_path, workspace)
    there.run(toy.scaled, BLOCKS[0], tmp_path / "scratch", "tcp://a")
    shutil.rmtree(Path(there.address) / "inputs")
    shutil.rmtree(workspace)
    there.run(toy.scaled, BLOCKS[1], tmp_path / "scratch", "tcp://a")
    assert shared.finished_blocks(there, BLOCKS) == list(BLOCKS[:2])


def test_processes_of_one_machine_fetch_once(tmp_path, workspace):
    there = publish(tmp_path, workspace)
    started = [start_fetching(there) for _ in range(3)]
    assert len({process.stdout.readline() for process in started}) == 1
    for process in started:
        process.communicate("\n")
    assert [path.name for path in (tmp_path / "cache").glob(".*.part")] == []


def test_a_worker_killed_while_it_fetches_leaves_nothing_that_passes_for_inputs(
    tmp_path, workspace
):
    there = publish(tmp_path, workspace)
    killed = start_fetching(there, kill=True)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert not (tmp_path / "cache" / there.digest).exists()
    assert (tmp_path / f"cache/.{there.digest}.part").exists()
    there.run(toy.scaled, BLOCKS[0], tmp_path / "scratch", "tcp://a")
    shared.collect(there, workspace, BLOCKS[0])
    assert not (tmp_path / f"cache/.{there.digest}.part").exists()
    assert np.load(workspace / "scaled/a-000000.npy")[3] == 21


def test_a_cache_holds_what_living_processes_use_and_no_more(tmp_path):
    first, second, third = (
        publish(tmp_path, make_workspace(tmp_path / name, column))
        for name, column in (("one", COLUMN), ("two", COLUMN + 1), ("three", COLUMN + 2))
    )

    def cached():
        return {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()}

    living, gone = start_fetching(first), start_fetching(second)
    for process in (living, gone):
        process.stdout.readline()
    gone.communicate("\n")
    assert cached() == {first.digest, second.digest}
    third.run(toy.scaled, BLOCKS[0], tmp_path / "scratch", "tcp://a")
    assert cached() == {first.digest, third.digest}
    living.communicate("\n")


def test_a_cleaned_cache_is_filled_again(tmp_path, workspace):
    there = publish(tmp_path, workspace)
    there.run(toy.scaled, BLOCKS[0], tmp_path / "scratch", "tcp://a")
    next((tmp_path / "cache" / there.digest).glob("[0-9a-f]*")).unlink()
    there.run(toy.scaled, BLOCKS[1], tmp_path / "another process", "tcp://b")
    assert len(shared.finished_blocks(there, BLOCKS)) == 2


def test_inputs_damaged_on_the_way_are_refused_by_name(tmp_path, workspace):
    there = publish(tmp_path, workspace)
    (damaged,) = (path for path in (Path(there.address) / "inputs").iterdir() if not path.suffix)
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(RunError, match=rf"worker tcp://a .*{damaged.name} is damaged; remove it"):
        there.run(toy.scaled, BLOCKS[0], tmp_path / "scratch", "tcp://a")
    assert not (tmp_path / "cache" / there.digest).exists()


def test_results_damaged_on_the_way_are_refused_and_done_again(tmp_path, workspace):
    there = publish(tmp_path, workspace)
    there.run(toy.scaled, BLOCKS[0], tmp_path / "scratch", "tcp://a")
    (sent,) = (Path(there.address) / f"results/{there.digest[:16]}/a-000000").iterdir()
    sent.write_bytes(sent.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"a-000000.*a-000000\.npy is damaged.*start the run again"):
        shared.collect(there, workspace, BLOCKS[0])
    assert shared.finished_blocks(there, BLOCKS) == []
    assert not (workspace / "scaled/a-000000.npy").exists()
    there.run(toy.scaled, BLOCKS[0], tmp_path / "scratch", "tcp://a")
    shared.collect(there, workspace, BLOCKS[0])


def test_results_of_a_driver_that_was_killed_are_collected_and_not_computed_again(
    tmp_path, workspace
):
    there = publish(tmp_path, workspace)
    for block in BLOCKS:
        there.run(toy.scaled, block, tmp_path / "scratch", "tcp://a")
    run_blocks(
        toy.always_die, toy.check_scaled, str(workspace), BLOCKS, workers=1,
        shared=str(tmp_path / "shared"), cache=there.cache, reads=toy.READS,
    )  # fmt: skip
    assert len(scaled(workspace)) == len(BLOCKS)


def test_files_of_a_block_that_failed_half_way_are_not_the_next_ones(tmp_path, workspace):
    there = publish(tmp_path, workspace)

    def fails(folder, block):
        toy.scaled(folder, block)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        there.run(fails, BLOCKS[0], tmp_path / "scratch", "tcp://a")
    there.run(toy.scaled, BLOCKS[1], tmp_path / "scratch", "tcp://a")
    shared.collect(there, workspace, BLOCKS[1])
    assert list(scaled(workspace)) == ["a-000001.npy"]


def test_an_address_that_cannot_be_written_is_refused_before_any_block(tmp_path, workspace):
    (tmp_path / "file").touch()
    for address in (str(tmp_path / "file/below"), "gopher://somewhere"):
        with pytest.raises(ConfigError, match=r"execution\.shared .* cannot be used"):
            run_blocks(
                toy.scaled, toy.check_scaled, str(workspace), BLOCKS,
                shared=address, reads=toy.READS,
            )  # fmt: skip


def test_a_worker_that_cannot_read_the_address_says_which_it_is(tmp_path, workspace):
    there = publish(tmp_path, workspace)
    shutil.rmtree(there.address)
    with pytest.raises(RunError, match=r"worker tcp://a cannot use execution\.shared"):
        there.run(toy.scaled, BLOCKS[0], tmp_path / "scratch", "tcp://a")


def test_tasks_and_their_answers_are_a_few_hundred_bytes_whatever_they_read(tmp_path, workspace):
    there = publish(tmp_path, workspace)
    job = Job(toy.scaled, toy.check_scaled, str(workspace), "mark", toy.own_version, "v", there)
    sent = sum(len(frame) for frame in dumps((run_on_worker, job, BLOCKS[:1])))
    more = sum(len(frame) for frame in dumps((run_on_worker, job, BLOCKS)))
    answer = sum(len(frame) for frame in dumps(len(BLOCKS)))
    assert sent < 2_000
    assert more - sent < 200 * len(BLOCKS)
    assert answer < 100
    assert COLUMN.nbytes > 1_000_000


def test_a_name_at_an_address_is_whole_or_not_there(tmp_path):
    address = Address(str(tmp_path / "a"))
    address.put_bytes("b/c", b"old")
    address.put_bytes("b/c", b"new")
    assert address.read("b/c") == b"new"
    assert address.sizes("b") == {"c": 3}
    assert (address.holds("b/c"), address.holds("b"), address.sizes("x")) == (True, False, {})
    address.remove("b")
    address.remove("b")
    assert names(tmp_path) == ["a"]


@pytest.fixture(scope="module")
def strangers():
    """A scheduler with one worker of one thread, as if somebody else had started it."""
    with LocalCluster(
        1, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=":0",
        scheduler_kwargs={"dashboard": False},
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


def test_two_runs_on_one_scheduler_do_not_take_each_others_blocks(tmp_path, strangers):
    folders = [make_workspace(tmp_path / name, COLUMN + n) for n, name in enumerate("pq")]
    errors = []

    def go(folder):
        try:
            run_blocks(toy.scaled, toy.check_scaled, str(folder), BLOCKS, address=strangers)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go, args=[folder]) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for n, folder in enumerate(folders):
        assert len(scaled(folder)) == len(BLOCKS)
        assert np.load(folder / "scaled/a-000001.npy")[1] == 11 * (7 + n)


def test_a_worker_of_another_version_is_refused_with_both(tmp_path, workspace):
    with pytest.raises(RunError, match=r"worker tcp://\S+ began with version process \d+ .* again"):
        run_blocks(
            toy.scaled, toy.check_scaled, str(workspace), BLOCKS, workers=1,
            version=toy.own_version,
        )  # fmt: skip
    assert not (workspace / "scaled").exists()


def test_a_worker_of_several_threads_is_refused(tmp_path, workspace):
    with (
        LocalCluster(
            1, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address=":0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        pytest.raises(RunError, match=r"runs 2 threads.*--nthreads 1"),
    ):  # fmt: skip
        run_blocks(
            toy.scaled, toy.check_scaled, str(workspace), BLOCKS, address=cluster.scheduler_address
        )


@pytest.mark.parametrize("found", [None, "another machine's"])
def test_a_worker_that_sees_no_or_another_folder_of_that_name_is_refused(workspace, found):
    (workspace / "blocks").mkdir()
    if found:
        (workspace / "blocks/driver.txt").write_text(found)
    job = Job(toy.scaled, toy.check_scaled, str(workspace), mark="ours")
    with pytest.raises(RunError, match=r"worker tcp://a does not see .*set execution\.shared"):
        tasks._refuse_unfit(job, "tcp://a", 1)


@pytest.mark.parametrize(
    ("address", "tls", "words"),
    [
        ("tcp://127.0.0.1:9", None, r"tcp://127\.0\.0\.1:9: no dask scheduler answers"),
        ("tls://127.0.0.1:9", None, r"asks for certificates; write execution\.tls"),
        ("tcp://127.0.0.1:9", {}, "would not be encrypted; write tls://"),
        ("tls://127.0.0.1:9", {}, "cannot be used .*No such file"),
        ("gopher://127.0.0.1:9", None, "no dask scheduler answers"),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_a_config_error(
    tmp_path, workspace, address, tls, words
):
    if tls is not None:
        tls = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ConfigError, match=words),
    ):
        run_blocks(toy.scaled, toy.check_scaled, str(workspace), BLOCKS, address=address, tls=tls)
