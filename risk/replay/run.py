"""A whole backtest in stages: check the period, lay out the nights, fan them out, judge, publish.

Every stage is a function of a `Replay` that reads and writes the backtest's folder, so that a
scheduler can call them one by one; `flows.backtest` is the loop of `backtest` under Prefect.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from risk.config import Config, config_digest
from risk.engine import Block, plan_blocks, run_blocks
from risk.replay import prepare as shared
from risk.replay.judge import (
    backtest_facts,
    calibrate_liquidations,
    judge,
    judge_attribution,
    judge_liquidations,
)
from risk.replay.night import READS, TABLES, check_night, night_file, run_night
from risk.snapshot import resolve_snapshot
from risk.store import (
    Run,
    Workspace,
    file_digest,
    finished_run,
    open_run,
    open_workspace,
    run_id,
)
from risk.store import publish as seal
from risk.worker import version

#: Called with a stage's name, how much of it is done and how much there is.
Progress = Callable[[str, int, int], None]

#: Folder of the backtests, inside the folder of runs.
FOLDER = "backtest"

SCRATCH = (
    "blocks", "nights", "ladders", "history.npz", "marks.npz", "plan.json", "book.parquet",
    "coverage.parquet",
)  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """One backtest's work: what is replayed, on what, and where it is written.

    Attributes
    ----------
    config : Config
    first, last : date
        Nights, inclusive.
    run_id : str
    inputs : dict of str to str
        SHA-256 of every input file, and the period.
    snapshot : Path
        Folder of the snapshot.
    marks : Path or None
    workspace : Workspace or None
        The locked folder of the unfinished backtest; None when this very one is finished.
    """

    config: Config
    first: dt.date
    last: dt.date
    run_id: str
    inputs: dict[str, str]
    snapshot: Path
    marks: Path | None
    workspace: Workspace | None

    @property
    def folder(self) -> Path:
        """Where the stages write."""
        if self.workspace is None:
            raise RuntimeError("this backtest is already finished; open its run")
        return self.workspace.path

    @property
    def is_finished(self) -> bool:
        """Whether the same inputs, config and code were already replayed to the end."""
        return self.workspace is None

    @property
    def nights(self) -> tuple[Block, ...]:
        """Its blocks, one a night."""
        return plan_blocks({"night": (self.last - self.first).days + 1}, 1)


def open_backtest(
    config: Config, first: dt.date, last: dt.date, marks: Path | None = None
) -> Replay:
    """Digest every input, name the backtest, and open (or find finished) its folder.

    Raises
    ------
    ConfigError
        If the period is empty or the config names no set to forecast with.
    """
    snapshot = resolve_snapshot(config.snapshot, config.as_of_date)
    shared.make_plan(config, first, last)
    inputs = _inputs(config, snapshot, marks) | {"period": f"{first}..{last}"}
    name = run_id(inputs, config_digest(config), last)
    out = config.out / FOLDER
    done = finished_run(out, last, name)
    workspace = None if done else open_workspace(out, last, name)
    return Replay(config, first, last, name, inputs, snapshot, marks, workspace)


def prepare(replay: Replay, progress: Progress | None = None) -> None:
    """Check the book and the history; lay out what the nights share."""
    plan = shared.make_plan(replay.config, replay.first, replay.last)
    shared.prepare(replay.folder, replay.config, plan, replay.snapshot, replay.marks)


def replay_nights(replay: Replay, progress: Progress | None = None) -> None:
    """Replay every night that is not yet on disk, in this process or on dask."""
    execution = replay.config.execution
    run_blocks(
        run_night,
        check_night,
        str(replay.folder.resolve()),
        replay.nights,
        executor=execution.executor,
        workers=execution.workers,
        address=execution.address,
        tls=None if execution.tls is None else execution.tls.model_dump(mode="json"),
        shared=execution.shared,
        cache=execution.cache,
        reads=READS,
        version=version,
        progress=(lambda n, total: progress("replay", n, total)) if progress else None,
    )


def judge_nights(replay: Replay, progress: Progress | None = None) -> None:
    """Join the nights, in their order, and test the forecasts."""
    folder = replay.folder
    joined = {
        name: pa.concat_tables(
            pq.read_table(night_file(folder, night, name)) for night in replay.nights
        )
        for name in TABLES
    }
    for name in ("days", "liquidations"):
        order = [("scenario_set", "ascending"), ("night", "ascending")]
        order[1:1] = [("confidence", "ascending")] if name == "days" else []
        joined[name] = joined[name].sort_by(order)
    exceeded = joined["days"].filter(joined["days"]["is_exceedance"])["night"]
    joined["causes"] = joined["causes"].filter(
        pc.is_in(joined["causes"]["night"], pc.unique(exceeded))
    )
    tests = pa.concat_tables(
        [
            judge(joined["days"]),
            judge_attribution(joined["attribution"]),
            judge_liquidations(joined["liquidations"]),
        ]
    )
    results = {
        "days": joined["days"],
        "causes": joined["causes"],
        "attribution": joined["attribution"],
        "liquidations": joined["liquidations"],
        "calibration": calibrate_liquidations(joined["buckets"]),
        "tests": tests,
        "facts": backtest_facts(tests, replay.last),
    }
    for name, table in results.items():
        pq.write_table(table, folder / f"{name}.parquet")


#: The stages between opening and publishing, in order.
STAGES: dict[str, Callable[[Replay, Progress | None], None]] = {
    "prepare": prepare,
    "replay": replay_nights,
    "judge": judge_nights,
}


def publish(replay: Replay, timings: dict[str, float]) -> Run:
    """Make the backtest visible, in one step."""
    assert replay.workspace is not None
    path = seal(
        replay.workspace,
        replay.config,
        replay.inputs,
        coverage=pq.read_table(replay.folder / "coverage.parquet"),
        timings=timings,
        scratch=SCRATCH,
    )
    return open_run(path)


def finished(replay: Replay) -> Run:
    """The run of a backtest that is finished already."""
    path = finished_run(replay.config.out / FOLDER, replay.last, replay.run_id)
    assert path is not None
    return open_run(path)


def close(replay: Replay) -> None:
    """Give the folder's lock back."""
    if replay.workspace is not None:
        replay.workspace.close()


def backtest(
    config: Config,
    first: dt.date,
    last: dt.date,
    *,
    marks: Path | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Replay every night from `first` to `last` on the static book of the config's snapshot.

    The book is kept in terms of ratios: exposures, collateral and trigger ratios as of its
    snapshot, as if re-marked to each night's close. Every night forecasts one day ahead from what
    was known then; the next day's low, high and last, under the gap rule, make the hypothetical
    P&L. Nights are blocks: they fan out, and a backtest that was killed goes on where it was.

    Parameters
    ----------
    config : Config
        The sets `historical` and `monte_carlo` are forecast with, where it names them, at every
        level of its measures.
    first, last : date
        Nights, inclusive; the history must reach from the windows before the first to the day
        after the last.
    marks : Path, optional
        History of mark prices (any interval) that liquidations are counted on; the config's
        history when absent.
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        For the manifest's timings.

    Returns
    -------
    Run
        Below ``OUT/backtest``: `days`, `causes`, `attribution`, `liquidations`, `calibration`,
        `tests` and `facts`, each a Parquet file with a schema of `risk.replay.tables`.

    Raises
    ------
    ConfigError
        If the period is empty or not covered, or the config names no set to forecast with.
    DataError
        If no position can be priced.
    """
    replay = open_backtest(config, first, last, marks)
    if replay.is_finished:
        return finished(replay)
    timings: dict[str, float] = {}
    try:
        for name, stage in STAGES.items():
            begun = clock() if clock else 0.0
            stage(replay, progress)
            if clock:
                timings[name] = clock() - begun
        return publish(replay, timings)
    finally:
        close(replay)


def _inputs(config: Config, snapshot: Path, marks: Path | None) -> dict[str, str]:
    """Digest of every file read, by a name that does not depend on where it lies."""
    read: list[tuple[str, Path, str]] = [
        ("snapshot", snapshot, "*.parquet"), ("snapshot", snapshot, "venues/*.yaml"),
        ("venues", config.venues, "*.yaml"), ("history", config.history, "*.parquet"),
    ]  # fmt: skip
    if marks is not None:
        read.append(("marks", marks, "*.parquet"))
    found: dict[str, Any] = {}
    for key, where, pattern in read:
        files = [where] if where.is_file() else sorted(where.rglob(pattern))
        for file in files:
            found[f"{key}/{file.name if file == where else file.relative_to(where).as_posix()}"] = (
                file_digest(file)
            )
    return dict(sorted(found.items()))
