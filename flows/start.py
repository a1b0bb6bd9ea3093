"""Start one night under Prefect, from a terminal, and give its exit status.

0 done; 1 the night failed; 2 bad usage or bad config; 3 finished, but a limit is breached or the
coverage is below its floor.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.server import Server, start_prefect


def main(arguments: Sequence[str]) -> int:
    """Run one night and print its summary."""
    asked = vars(_parser().parse_args(arguments))
    is_debug = asked.pop("debug")
    server = start_prefect()
    from risk.config import load_config
    from risk.errors import BulkheadError

    try:
        # A typing error in the config need not wait for a server.
        load_config(asked["config"], **{key: asked[key] for key in ("snapshot", "as_of", "out")})
        return _night(server, asked)
    except KeyboardInterrupt:
        return _fail("stopped; start it again and it goes on where it was", 130)
    except Exception as error:
        if is_debug:
            raise
        if isinstance(error, BulkheadError):
            return _fail(str(error), error.exit_status)
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _night(server: Server | None, asked: dict[str, Any]) -> int:
    begun = time.perf_counter()
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.nightly import nightly
    from flows.notices import CONSOLE
    from risk.store import open_run
    from risk.terminal import summary

    imported = time.perf_counter() - begun
    if server is not None:
        server.wait()
        waited = time.perf_counter() - begun - imported
        CONSOLE.print(
            f"Prefect's own start: {server.seconds:.1f} s, of which {waited:.1f} s waited for "
            f"(the rest passed beside {imported:.1f} s of imports)",
            highlight=False,
            soft_wrap=True,
        )
    # Heartbeats tell a lasting server that a run was killed; our own goes with the run, and the
    # thread that sends them takes a second to stop.
    settings = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None} if server else {}
    with temporary_settings(settings):
        run = open_run(nightly(**asked))
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 120).print(summary(run))
    print(run.path / "report.html")
    return 3 if run.breaches else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows",
        description="Run the night under Prefect: snapshot in; cube, measures and reports out.",
        epilog="PREFECT_API_URL names a Prefect server that runs already; without it one is "
        "started for the night, on the database in PREFECT_HOME (here: .prefect). The same night "
        "without Prefect: bulkhead run CONFIG.",
    )
    parser.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    parser.add_argument("--as-of", type=_date, help="day of the snapshot instead of the config's")
    parser.add_argument("--snapshot", type=Path, help="folder instead of the config's")
    parser.add_argument("--out", type=Path, help="folder of runs instead of the config's")
    parser.add_argument("--workers", type=int, help="worker processes instead of the config's")
    parser.add_argument("--executor", choices=["plain", "dask"], help="where the blocks run")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2025-06-29") from None


def _fail(sentence: str, status: int) -> int:
    print(f"bulkhead: {' '.join(sentence.split())}", file=sys.stderr)
    return status
