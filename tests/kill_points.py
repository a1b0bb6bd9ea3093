"""Publish a tiny run in a child that is killed before its n-th change of a file, for every n.

A process of its own: it forks, which a process with threads must not. Prints, as JSON, what each
kill left behind; the test judges it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from risk.config import config_digest
from risk.store import finished_run, list_runs, open_run, open_workspace, publish, run_id, verify
from tests.test_store import COVERED, DAY, INPUTS, fill, make_config

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def changes(event, args):
    """Whether an audited event is about to change a file."""
    return event in _CHANGES or (event == "open" and bool((args[2] or 0) & _WRITES))


def start(out, n):
    """Run the tiny night as the command does; be killed before change `n`, if there are so many."""
    config = make_config()
    name = run_id(INPUTS, config_digest(config), DAY)
    done = 0

    def watch(event, args):
        nonlocal done
        if changes(event, args):
            done += 1
            if done == n:
                os.kill(os.getpid(), signal.SIGKILL)

    if finished_run(out, DAY, name) is None:
        workspace = open_workspace(out, DAY, name)
        fill(workspace.path)
        (workspace.path / "blocks").mkdir(exist_ok=True)
        (workspace.path / "blocks/a-000000.json").touch()
        if n:
            sys.addaudithook(watch)
        publish(workspace, config, INPUTS, coverage=COVERED, timings={}, scratch=["blocks"])


def look(out):
    """What a reader and a person see."""
    for run in list_runs(out):
        verify(run)
    latest = out / "LATEST.json"
    if latest.exists():
        open_run(out / json.loads(latest.read_text())["path"])
    found = {"runs": len(list_runs(out)), "latest": latest.exists()}
    Path(f"{out}.json").write_text(json.dumps(found))


def in_child(work, *args):
    """Do something in a child; its exit status, negative when it was killed."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work(*args)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def main(folder):
    """Kill at every change until one run is through."""
    rows = []
    while not rows or rows[-1]["status"]:
        out = folder / f"{len(rows) + 1}"
        row = {"status": in_child(start, out, len(rows) + 1)}
        row["looked"] = in_child(look, out)
        row |= json.loads(Path(f"{out}.json").read_text())
        row["again"] = in_child(start, out, 0)
        rows.append(row)
    print(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
