"""A process that leaves at once has still done what was to be done at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import forkserver

import pytest

from risk.engine import import_ahead

BEGIN = "from risk.leave import leave_with\nimport sys\n"


def left(body, result="3"):
    """A process that leaves with `result` after `body`."""
    code = f"{BEGIN}def run():\n    {body}\n    return {result}\nleave_with(run)\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_status_and_what_was_printed_come_through():
    done = left("print('out', end=''); print('err', end='', file=sys.stderr)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out", "err")


def test_handlers_and_threads_are_waited_for():
    done = left(
        "import atexit, threading, time; atexit.register(print, 'handled')\n"
        "    threading.Thread(target=lambda: (time.sleep(0.3), print('threaded'))).start()",
        "0",
    )
    assert (done.returncode, done.stdout.split()) == (0, ["threaded", "handled"])


@pytest.mark.parametrize(("body", "status"), [("1 / 0", 1), ("sys.exit(2)", 2)])
def test_an_exception_ends_the_process_as_it_always_does(body, status):
    done = left(body)
    assert done.returncode == status
    assert ("ZeroDivisionError" in done.stderr) == (status == 1)


def test_nothing_is_taken_apart():
    done = left(
        "sys.last = type('Last', (), {'__del__': lambda self: print('freed')})()\n    print('done')"
    )
    assert done.stdout == "done\n"


def test_importing_ahead_leaves_the_environment_as_it_was(monkeypatch):
    seen = {}
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.setattr(
        forkserver, "set_forkserver_preload", lambda names: seen.update(names=names)
    )
    monkeypatch.setattr(forkserver, "ensure_running", lambda: seen.update(os.environ))
    before = dict(os.environ)
    import_ahead(["risk.worker"])
    assert dict(os.environ) == before
    assert seen["names"][-1] == "risk.worker"
    assert seen["MALLOC_ARENA_MAX"] == "2", "what is set is left alone"
    assert int(seen["MALLOC_TRIM_THRESHOLD_"]) > 1 << 20
