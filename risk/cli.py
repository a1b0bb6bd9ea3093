"""The `bulkhead` command: parse, call the function of the same name, print, set the exit status.

0 done; 1 the run failed; 2 bad usage or bad config; 3 finished, but a limit is breached or the
coverage is below its floor.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import cyclopts

from risk import commands
from risk.errors import BulkheadError
from risk.leave import leave_with

# Before NumPy is imported: one native thread, or a matrix product depends on the machine.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

_HELP = "Nightly risk engine for books of isolated-margin crypto derivatives."
_EPILOGUE = """
First steps:

    bulkhead sample --out data --positions 20000 --seed 1

    bulkhead run configs/demo.yaml

    bulkhead margin data --out margin.parquet

Exit status: 0 done; 1 the run failed; 2 bad usage or bad config; 3 finished, but a limit is
breached or coverage is below its floor. Add --debug to any command for a traceback.
"""
_EXAMPLES = {
    "sample": [
        "bulkhead sample --out data --positions 20000 --seed 1",
        "bulkhead sample --out real --positions 100000 --history prices.parquet "
        "--tiers tiers.parquet --as-of 2025-06-29",
    ],
    "check": ["bulkhead check data", "bulkhead check data --as-of 2025-06-29 --out checked"],
    "margin": ["bulkhead margin data --out margin.parquet"],
    "run": [
        "bulkhead run configs/demo.yaml",
        "bulkhead run configs/demo.yaml --what-if more-collateral.yaml",
        "bulkhead run configs/nightly.yaml --as-of 2025-06-29 --workers 8 --out /srv/runs",
    ],
    "backtest": [
        "bulkhead backtest configs/demo.yaml --from 2024-06-29 --to 2025-06-27",
        "bulkhead backtest configs/nightly.yaml --from 2022-11-01 --to 2022-11-30 --marks marks",
    ],
    "stress": [
        "bulkhead stress configs/stresses/uniform-fall-50.yaml",
        "bulkhead stress my-stress.yaml --snapshot real --history prices --as-of 2025-06-29",
    ],
    "report": ["bulkhead report", "bulkhead report runs/as_of=2025-06-29 --out printed"],
    "serve": ["bulkhead serve configs/nightly.yaml"],
    "warmup": ["bulkhead warmup", "bulkhead warmup configs/nightly.yaml"],
    "runs": ["bulkhead runs", "bulkhead runs --compare RUN RUN", "bulkhead runs --verify"],
}


def _show_sample(folder: Any) -> int:
    print(folder)
    return 0


def _show_check(snapshot: Any) -> int:
    from risk.snapshot import check_report

    n_kept = snapshot.positions.num_rows
    print(f"{snapshot.path}: {n_kept:,} of {snapshot.n_rows:,} positions keep every rule")
    if snapshot.is_synthetic:
        print("SYNTHETIC: this snapshot was generated")
    for row in check_report(snapshot).to_pylist():
        print(f"  {row['n_rows']:>9,}  {row['reason']}")
    return 0


def _show_margin(table: Any) -> int:
    counts = table["status"].value_counts().to_pylist()
    parts = ", ".join(f"{row['counts']:,} {row['values']}" for row in counts)
    print(f"{table.num_rows:,} positions: {parts or 'none'}")
    return 0


def _show_run(run: Any) -> int:
    from risk import terminal

    _print(terminal.summary(run))
    if (run.path / "what_if.parquet").exists():
        _print(terminal.what_if_table(run.path))
    print(run.path / "report.html")
    return 3 if run.breaches else 0


def _show_backtest(run: Any) -> int:
    from risk import terminal
    from risk.replay.show import text_tables

    for shown in text_tables(run):
        _print(terminal.table(shown.title, shown.columns, shown.rows, n_text=shown.n_text))
    print(run.path)
    return 0


def _show_stress(result: Any) -> int:
    from risk import terminal

    stress, snapshot = result.stress, result.snapshot
    synthetic = ", SYNTHETIC" if snapshot.is_synthetic else ""
    title = f"{stress.title}, on the book of {snapshot.as_of}, USD{synthetic}"
    notes = [f"Source: {stress.source}"]
    if result.ignored:
        notes.append(f"Moves without a price that day, ignored: {', '.join(result.ignored)}")
    _print(terminal.stress_summary(title, result.cells, result.coverage, notes))
    return 0


def _show_report(folder: Any) -> int:
    print(folder / "report.html")
    return 0


def _show_serve(_: None) -> int:
    return 0


def _show_warmup(n_kept: int) -> int:
    print(f"{n_kept} compiled loops kept; later processes load them")
    return 0


def _show_runs(found: Any) -> int:
    from risk import terminal

    if isinstance(found, tuple):
        rows = [[str(run.as_of), run.id, str(run.path), str(len(run.breaches))] for run in found]
        columns = ["as of", "run", "folder", "breaches"]
        print(f"{len(found)} finished runs")
        if rows:
            _print(terminal.table("", columns, rows, n_text=3))
        return 0
    for name in found.inputs:
        print(f"input differs: {name}")
    for key, (before, after) in found.config.items():
        print(f"config differs: {key}: {before} -> {after}")
    if not found.is_same_code:
        print("code differs")
    moved = [row for row in found.facts.to_pylist() if row["before"] != row["after"]]
    rows = [
        [row["fact_id"], *(_figure(row[name]) for name in ("before", "after", "change"))]
        for row in moved
    ]
    title = f"{len(moved)} of {found.facts.num_rows} figures moved"
    _print(terminal.table(title, ["figure", "before", "after", "change"], rows))
    return 0


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.6g}"


def _print(renderable: Any) -> None:
    from rich.console import Console

    # A file or a pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else 120).print(renderable)


#: Every command that is built, and what prints its result and gives the exit status.
_SHOW: dict[Callable[..., Any], Callable[[Any], int]] = {
    commands.sample: _show_sample,
    commands.check: _show_check,
    commands.margin: _show_margin,
    commands.run: _show_run,
    commands.backtest: _show_backtest,
    commands.stress: _show_stress,
    commands.report: _show_report,
    commands.runs: _show_runs,
    commands.serve: _show_serve,
    commands.warmup: _show_warmup,
}


@contextmanager
def _watched(command: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Arguments that only a terminal gives: something to report progress to, and a stopwatch."""
    if command in (commands.run, commands.backtest, commands.warmup):
        from rich.console import Console

        from risk.terminal import show_progress

        with show_progress(Console(stderr=True)) as progress:
            yield {"progress": progress, "clock": time.perf_counter}
    elif command in (commands.sample, commands.serve):
        yield {"progress": lambda line: print(line, file=sys.stderr)}
    else:
        yield {}


def _front(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command without its return type, which is only imported by type checkers."""

    @functools.wraps(command)
    def front(*args: Any, **kwargs: Any) -> int:
        with _watched(command) as extra:
            result = command(*args, **kwargs, **extra)
        return _SHOW[command](result)

    hints = command.__annotations__.items()
    front.__annotations__ = {name: hint for name, hint in hints if name != "return"}
    return front


def _app() -> cyclopts.App:
    app = cyclopts.App(
        name="bulkhead",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        version=lambda: metadata.version("bulkhead"),
        default_parameter=cyclopts.Parameter(parse="^(?!(progress|clock)$)", negative=()),
        help_format="markdown",
    )
    for place, command in enumerate(_SHOW):
        examples = "\n\n".join(f"    {line}" for line in _EXAMPLES[command.__name__])
        app.command(_front(command), help_epilogue=f"Examples:\n\n{examples}", sort_key=place)
    return app


def run_command(tokens: Sequence[str]) -> int:
    """Run one command line and give its exit status."""
    is_debug = "--debug" in tokens
    app = _app()
    try:
        command, bound, _ = app.parse_args(
            [token for token in tokens if token != "--debug"],
            exit_on_error=False,
            print_error=False,
        )
    except cyclopts.CycloptsError as error:
        return _fail(f"{error} See bulkhead --help.", 2)
    try:
        # --help and --version print for themselves and give nothing back.
        return command(*bound.args, **bound.kwargs) or 0
    except KeyboardInterrupt:
        return _fail("stopped; start it again and it goes on where it was", 130)
    except Exception as error:
        if is_debug:
            raise
        if isinstance(error, BulkheadError):
            return _fail(str(error), error.exit_status)
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _fail(sentence: str, status: int) -> int:
    print(f"bulkhead: {' '.join(sentence.split())}", file=sys.stderr)
    return status


def main() -> None:
    """Entry point of the `bulkhead` command."""
    leave_with(lambda: run_command(sys.argv[1:]))
