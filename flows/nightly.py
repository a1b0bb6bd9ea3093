"""The night under Prefect: the stages of `risk.pipeline`, one after the other.

Prefect decides when and where, and keeps the record; the numbers and the bytes are those of
`risk.pipeline.run`. Tasks pass the small `Night` (a config, a date, a folder), never an array, and
nothing is cached or pickled: what a stage makes lies in the run's folder.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State, TaskRun
from prefect.tasks import Task

from flows.record import begin, end, recorded
from flows.watch import Watch, watched
from risk import pipeline
from risk.config import load_config
from risk.errors import RunError
from risk.pipeline import Night

P = ParamSpec("P")
R = TypeVar("R")

#: No result is cached, and what Prefect keeps of an error is text, never a pickle.
NOTHING_KEPT: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "result_serializer": "json",
}


def may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help: a full disk or a dead worker may pass, a bad file will not."""
    return isinstance(state.data, OSError | RunError)


def _stage(name: str, title: str, *, minutes: int) -> Task[[Night, Watch], Night]:
    """A stage of the pipeline as a task: followed, tried again, stopped when it hangs."""

    def stage(night: Night, watch: Watch) -> Night:
        with watch.stage(name):
            pipeline.STAGES[name](night, watch)
        return night  # handed on, so that the UI draws the stages as a chain

    wrap = task(
        name=title,
        task_run_name=title,
        description=pipeline.STAGES[name].__doc__,
        retries=2,
        retry_delay_seconds=[10, 60],
        retry_condition_fn=may_pass,
        timeout_seconds=60 * minutes,
        **NOTHING_KEPT,
    )
    return wrap(stage)


def _step(work: Callable[P, R], title: str) -> Task[P, R]:
    """A step that is done at once and once only."""
    return task(name=title, task_run_name=title, **NOTHING_KEPT)(work)


open_night = _step(pipeline.open_night, "Open the night")
load_book = _stage("load book", "Load and margin the book", minutes=30)
prepare_scenarios = _stage("prepare scenarios", "Prepare the scenarios", minutes=30)
build_ladders = _stage("build ladders", "Build the ladders", minutes=30)
simulate = _stage("simulate", "Simulate, block by block", minutes=360)
measure = _stage("measure", "Measure the risk", minutes=120)
report = _stage("report", "Write the reports", minutes=30)
publish = _step(pipeline.publish, "Publish the run")


@flow(
    name="nightly",
    flow_run_name="night, {config}",
    persist_result=False,
    result_serializer="json",
)
def nightly(
    config: Path,
    as_of: dt.date | Literal["scheduled"] | None = None,
    snapshot: Path | None = None,
    out: Path | None = None,
    workers: int | None = None,
    executor: Literal["plain", "dask"] | None = None,
) -> Any:
    """Run the night: snapshot in; cube, measures and reports out.

    Parameters
    ----------
    config : Path
        YAML file, such as configs/demo.yaml.
    as_of : date or "scheduled", optional
        Day of the snapshot instead of the config's. "scheduled" is the last UTC day that was over
        when the run was due: where its snapshot is missing the night fails, it never takes an
        older one. A date in the config comes first.
    snapshot, out : Path, optional
        Folders instead of the config's.
    workers : int, optional
        Worker processes instead of the config's.
    executor : {"plain", "dask"}, optional
        In this process or on dask, instead of the config's.

    Returns
    -------
    str
        Folder of the finished run.
    """
    settings = load_config(
        config,
        snapshot=snapshot,
        as_of=None if as_of == "scheduled" else as_of,
        out=out,
        execution__workers=workers,
        execution__executor=executor,
    )
    if as_of == "scheduled" and settings.as_of_date is None:
        settings = settings.model_copy(update={"as_of": last_closed_day()})
    with recorded(settings.out / "logs" / "nightly.log", "night"):
        night = open_night(settings)
        with closing(night):
            begin(night.run_id, f"night of {night.as_of}", is_finished=night.is_finished)
            if night.is_finished:
                return end(pipeline.finished(night))
            with watched(list(pipeline.STAGES), "nightly") as watch:
                night = load_book(night, watch)
                night = prepare_scenarios(night, watch)
                night = build_ladders(night, watch)
                night = simulate(night, watch)
                night = measure(night, watch)
                night = report(night, watch)
                run = publish(night, watch.timings)
            return end(run)


def last_closed_day() -> dt.date:
    """The UTC day that was over when this flow run was due."""
    due = runtime.flow_run.scheduled_start_time
    return due.astimezone(dt.UTC).date() - dt.timedelta(days=1)


@contextmanager
def closing(night: Night) -> Iterator[None]:
    """Give the run's lock back, however the night ends."""
    try:
        yield
    finally:
        pipeline.close(night)
