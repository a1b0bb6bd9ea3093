"""Start one night, or one backtest, under Prefect, from a terminal, and give its exit status.

0 done; 1 it failed; 2 bad usage or bad config; 3 finished, but a limit is breached or the coverage
is below its floor.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.server import Server, start_prefect

if TYPE_CHECKING:
    from risk.config import Config
    from risk.store import Run


def main(arguments: Sequence[str]) -> int:
    """Run one night or backtest and print its summary."""
    is_backtest = list(arguments[:1]) == ["backtest"]
    if is_backtest:
        asked = vars(_backtest_parser().parse_args(arguments[1:]))
    else:
        asked = vars(_parser().parse_args(arguments))
    is_debug = asked.pop("debug")
    server = start_prefect()
    from risk.config import load_config
    from risk.errors import BulkheadError

    try:
        # A typing error in the config need not wait for a server.
        known = {key: asked[key] for key in ("snapshot", "as_of", "out") if key in asked}
        execution = {f"execution__{key}": asked[key] for key in ("workers", "executor")}
        config = load_config(asked["config"], **known, **execution)
        return (_backtest if is_backtest else _night)(server, config, asked)
    except KeyboardInterrupt:
        return _fail("stopped; start it again and it goes on where it was", 130)
    except Exception as error:
        if is_debug:
            raise
        if isinstance(error, BulkheadError):
            return _fail(str(error), error.exit_status)
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _night(server: Server | None, config: Config, asked: dict[str, Any]) -> int:
    begun = time.perf_counter()
    from flows.nightly import nightly
    from risk.terminal import summary

    run = _run(server, nightly, config, asked, begun)
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 120).print(summary(run))
    print(run.path / "report.html")
    return 3 if run.breaches else 0


def _backtest(server: Server | None, config: Config, asked: dict[str, Any]) -> int:
    begun = time.perf_counter()
    from flows.backtest import backtest
    from risk.replay.show import text_tables
    from risk.terminal import table

    run = _run(server, backtest, config, asked, begun)
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    for shown in text_tables(run):
        console.print(table(shown.title, shown.columns, shown.rows, n_text=shown.n_text))
    print(run.path)
    return 0


def _run(
    server: Server | None,
    flow: Callable[..., str],
    config: Config,
    asked: dict[str, Any],
    begun: float,
) -> Run:
    """Run a flow, once its server answers, and open what it made."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.notices import CONSOLE
    from risk.ahead import prepare_workers
    from risk.store import open_run

    imported = time.perf_counter() - begun
    # Not earlier: the night waits first for this process's imports and the server's.
    prepare_workers(config)
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
        return open_run(flow(**asked))


_SERVER = (
    "PREFECT_API_URL names a Prefect server that runs already; without it one is started, on the "
    "database in PREFECT_HOME (here: .prefect). "
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows",
        description="Run the night under Prefect: snapshot in; cube, measures and reports out.",
        epilog=f"{_SERVER}The same night without Prefect: bulkhead run CONFIG. Past nights: "
        "python -m flows backtest --help.",
    )
    parser.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    parser.add_argument("--as-of", type=_date, help="day of the snapshot instead of the config's")
    _add_common(parser)
    return parser


def _backtest_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows backtest",
        description="Replay past nights under Prefect on the real history of a static book.",
        epilog=f"{_SERVER}The same backtest without Prefect: bulkhead backtest CONFIG --from DATE "
        "--to DATE.",
    )
    parser.add_argument("config", type=Path, help="YAML file, such as configs/demo.yaml")
    parser.add_argument("--from", dest="first", type=_date, required=True, help="first night")
    parser.add_argument(
        "--to", dest="last", type=_date, required=True,
        help="last night; the history must hold the day after it",
    )  # fmt: skip
    parser.add_argument("--marks", type=Path, help="mark prices to count liquidations on")
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--snapshot", type=Path, help="folder instead of the config's")
    parser.add_argument("--out", type=Path, help="folder of runs instead of the config's")
    parser.add_argument("--workers", type=int, help="worker processes instead of the config's")
    parser.add_argument("--executor", choices=["plain", "dask"], help="where the blocks run")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2025-06-29") from None


def _fail(sentence: str, status: int) -> int:
    print(f"bulkhead: {' '.join(sentence.split())}", file=sys.stderr)
    return status
