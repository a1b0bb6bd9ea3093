"""Past nights under Prefect: the stages of a backtest, one after the other.

As in `flows.nightly`, Prefect decides when and where; the numbers and the bytes are those of
`risk.replay.backtest`. Tasks pass the small `Replay` (a config, two dates, a folder), never an
array. The days fan out on dask inside one task, and a backtest that was killed goes on where it
was: what a night makes lies in the backtest's folder beside its receipt.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.client.schemas import State
from prefect.states import Completed
from prefect.tasks import Task

from flows.card import backtest_card, show
from flows.nightly import NOTHING_KEPT, last_closed_day, may_pass
from flows.record import begin, recorded
from flows.watch import Watch, watched
from risk import replay
from risk.config import load_config
from risk.errors import ConfigError
from risk.replay import Replay
from risk.store import Run


def _stage(name: str, title: str, *, minutes: int) -> Task[[Replay, Watch], Replay]:
    """A stage of the backtest as a task: followed, tried again, stopped when it hangs."""

    def stage(nights: Replay, watch: Watch) -> Replay:
        with watch.stage(name):
            replay.STAGES[name](nights, watch)
        return nights  # handed on, so that the UI draws the stages as a chain

    wrap = task(
        name=title,
        task_run_name=title,
        description=replay.STAGES[name].__doc__,
        retries=2,
        retry_delay_seconds=[10, 60],
        retry_condition_fn=may_pass,
        timeout_seconds=60 * minutes,
        **NOTHING_KEPT,
    )
    return wrap(stage)


def _step(work: Any, title: str) -> Any:
    """A step that is done at once and once only."""
    return task(name=title, task_run_name=title, **NOTHING_KEPT)(work)


open_backtest = _step(replay.open_backtest, "Open the backtest")
prepare = _stage("prepare", "Lay out what the nights share", minutes=30)
replay_nights = _stage("replay", "Replay the nights, day by day", minutes=720)
judge = _stage("judge", "Judge the forecasts", minutes=60)
publish = _step(replay.publish, "Publish the backtest")


@flow(
    name="backtest",
    flow_run_name="backtest, {config}",
    persist_result=False,
    result_serializer="json",
)
def backtest(
    config: Path,
    first: dt.date | None = None,
    last: dt.date | Literal["scheduled"] = "scheduled",
    nights: int = 250,
    marks: Path | None = None,
    snapshot: Path | None = None,
    out: Path | None = None,
    workers: int | None = None,
    executor: Literal["plain", "dask"] | None = None,
) -> Any:
    """Replay past nights on the real history of a static book; exceedances, causes and tests.

    Parameters
    ----------
    config : Path
        YAML file, such as configs/demo.yaml.
    first : date, optional
        First night; without it the `nights` that end with `last`.
    last : date or "scheduled"
        Last night. "scheduled" is the last one whose day after was over when the run was due.
    nights : int
        How many, where `first` is not given.
    marks : Path, optional
        History of mark prices to count liquidations on.
    snapshot, out : Path, optional
        Folders instead of the config's.
    workers : int, optional
        Worker processes instead of the config's.
    executor : {"plain", "dask"}, optional
        In this process or on dask, instead of the config's.

    Returns
    -------
    str
        Folder of the finished backtest.
    """
    settings = load_config(
        config,
        snapshot=snapshot,
        out=out,
        execution__workers=workers,
        execution__executor=executor,
    )
    start, end = period(first, last, nights)
    with recorded(settings.out / "logs" / "backtest.log", "backtest"):
        opened = open_backtest(settings, start, end, marks)
        try:
            begin(opened.run_id, f"backtest of {start} to {end}", is_finished=opened.is_finished)
            if opened.is_finished:
                return _end(replay.finished(opened))
            with watched(list(replay.STAGES), "backtest") as watch:
                opened = prepare(opened, watch)
                opened = replay_nights(opened, watch)
                opened = judge(opened, watch)
                run = publish(opened, watch.timings)
            return _end(run)
        finally:
            replay.close(opened)


def period(
    first: dt.date | None, last: dt.date | Literal["scheduled"], nights: int
) -> tuple[dt.date, dt.date]:
    """First and last night; a scheduled one ends with the last night whose day after is over."""
    if nights < 1:
        raise ConfigError(f"a backtest of {nights} nights; ask for at least 1")
    end = last_closed_day() - dt.timedelta(days=1) if last == "scheduled" else last
    return (end - dt.timedelta(days=nights - 1) if first is None else first), end


def _end(run: Run) -> State[str]:
    """Show the card and say where the backtest lies."""
    show(backtest_card(run), "Backtest")
    return Completed(message=str(run.path), data=str(run.path))
