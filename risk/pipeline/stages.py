"""The stages in order, and the loop over them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from risk import findings
from risk.book import MAPPED
from risk.config import Config
from risk.cube import TOTALS
from risk.pipeline.book import build_book_ladders, load_book, simulate
from risk.pipeline.files import read_json, write_json
from risk.pipeline.measures import measure
from risk.pipeline.night import Night, Progress, close, finished, open_night
from risk.pipeline.scenarios import prepare_scenarios
from risk.reports import collect_facts
from risk.store import Run, open_run
from risk.store import publish as publish_run

#: What the stages leave for each other and neither a reader nor the reports need.
SCRATCH = (
    "plan.json",
    MAPPED,
    TOTALS,
    "blocks",
    "gaps",
    "ladders",
    "ladders-thin",
    "options",
    "scenarios",
    "stores.json",
    "breaches.json",
    "bars.npz",
    "pools",
)


def run(
    config: Config,
    *,
    progress: Progress | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Run a night from snapshot to reports.

    Parameters
    ----------
    config : Config
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        For the manifest's timings, such as `time.perf_counter`; none are kept when absent.

    Returns
    -------
    Run
        The finished run. The same inputs, config and code give the same run, which is recognised
        and not computed again.

    Raises
    ------
    ConfigError, DataError, RunError
        One sentence each; see `risk.errors` for the exit status.
    """
    night = open_night(config)
    if night.is_finished:
        return finished(night)
    timings: dict[str, float] = {}
    try:
        for name, stage in STAGES.items():
            begun = clock() if clock else 0.0
            report_stage(progress, name, 0)
            stage(night, progress)
            report_stage(progress, name, 1)
            timings[name] = (clock() if clock else 0.0) - begun
        return publish(night, timings if clock else None)
    finally:
        close(night)


def report_stage(progress: Progress | None, name: str, done: int) -> None:
    """Say that a stage begins (0) or ends (1)."""
    if progress is not None:
        progress(name, done, 1)


def report(night: Night, progress: Progress | None = None) -> None:
    """Collect the facts and print the officer's report and the capital summary from them."""
    folder = night.folder
    inputs = findings.report_inputs(
        folder, night.config, as_of=night.as_of, run_id=night.run_id, inputs=night.inputs
    )
    facts = collect_facts(inputs)
    pq.write_table(facts, folder / "facts.parquet")
    findings.write_reports(folder, facts, inputs)
    write_json(folder / "breaches.json", list(findings.breaches(facts, inputs)))


def publish(night: Night, timings: dict[str, float] | None = None) -> Run:
    """Make the finished run visible, in one step."""
    workspace = night.workspace
    assert workspace is not None
    path = publish_run(
        workspace,
        night.config,
        night.inputs,
        coverage=pq.read_table(night.folder / "coverage.parquet"),
        timings=timings or {},
        breaches=read_json(night.folder / "breaches.json"),
        scratch=SCRATCH,
    )
    return open_run(path)


Stage = Callable[[Night, Progress | None], None]


def _on_one_thread(stage: Stage) -> Stage:
    """As blocks are: the bytes of a matrix product depend on how many threads share it."""

    @functools.wraps(stage)
    def pinned(night: Night, progress: Progress | None = None) -> None:
        with threadpool_limits(1):
            stage(night, progress)

    return pinned


#: The night, in order; every stage can be run again.
STAGES: dict[str, Stage] = {
    "load book": _on_one_thread(load_book),
    "prepare scenarios": _on_one_thread(prepare_scenarios),
    "build ladders": _on_one_thread(build_book_ladders),
    "simulate": _on_one_thread(simulate),
    "measure": _on_one_thread(measure),
    "report": _on_one_thread(report),
}
