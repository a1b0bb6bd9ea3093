"""Commands on nights: run one, schedule them, print one again, list and compare them."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from risk.errors import RunError

if TYPE_CHECKING:
    from risk.config import Config
    from risk.store import Comparison, Run


def run(
    config: Path,
    *,
    snapshot: Path | None = None,
    as_of: dt.date | None = None,
    out: Path | None = None,
    workers: int | None = None,
    executor: Literal["plain", "dask"] | None = None,
    what_if: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Run the night: snapshot in; cube, measures and reports out.

    The same inputs, config and code give the same run: one that was killed is resumed, one that is
    finished is recognised. Workers and executor change how fast it is, never a byte of it.

    Parameters
    ----------
    config : Path
        YAML file, such as configs/demo.yaml.
    snapshot : Path, optional
        Folder of the snapshot, or the folder above it, instead of the config's.
    as_of : date, optional
        Day of the snapshot instead of the config's.
    out : Path, optional
        Folder of runs instead of the config's.
    workers : int, optional
        Worker processes instead of the config's.
    executor : {"plain", "dask"}, optional
        In this process or on dask, instead of the config's.
    what_if : Path, optional
        File of changes to the book: docs/what_if.md. The night is run first, or recognised; its
        branch goes to what_if/ of the out folder and is measured against it.
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        For the timings in the manifest.

    Returns
    -------
    Run
        The finished run; the branch if there is one.
    """
    from risk.ahead import prepare_workers
    from risk.config import WhatIf, load_config

    night = load_config(
        config,
        snapshot=snapshot,
        as_of=as_of,
        out=out,
        execution__workers=workers,
        execution__executor=executor,
    )
    prepare_workers(night)
    from risk import pipeline

    if what_if is None:
        return pipeline.run(night, progress=progress, clock=clock)
    from risk.snapshot.what_if import load_what_if

    load_what_if(what_if)  # a file that is wrong is refused before the night is run
    base = pipeline.run(night, progress=progress, clock=clock)
    branch = WhatIf(file=what_if, base=base.path)
    aside = night.model_copy(update={"what_if": branch, "out": night.out / "what_if"})
    return pipeline.run(aside, progress=progress, clock=clock)


def warmup(
    config: Path = Path("configs/demo.yaml"),
    *,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> int:
    """Compile every loop a config needs, once: later processes load the machine code.

    Runs the config on a tiny sample book in a folder of its own, and deletes machine code of other
    versions of the sources. Run it after an update; without it the first night compiles.

    Parameters
    ----------
    config : Path
        YAML file; what it switches on is compiled. Its snapshot, history and out are not touched.
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        Unused: a tiny night keeps no timings.

    Returns
    -------
    int
        How many compiled loops are kept.
    """
    from risk import compiled, pipeline
    from risk.config import load_config
    from risk.sample import write_sample

    compiled.remove_outdated()
    with tempfile.TemporaryDirectory(prefix="bulkhead-warmup-") as name:
        folder = Path(name)
        (folder / "history").mkdir()
        night = load_config(
            config,
            snapshot=folder,
            history=folder / "history",
            out=folder / "runs",
            execution__executor="plain",
        )
        write_sample(folder, positions=300, seed=1, venue_rules=night.venues)
        scenarios = night.scenarios
        few: dict[str, object] = {}
        if scenarios.historical:
            few["historical"] = scenarios.historical.model_copy(
                update={"windows": 60, "interval": "1d", "step_hours": 24}
            )
        if scenarios.monte_carlo:
            few["monte_carlo"] = scenarios.monte_carlo.model_copy(
                update={"paths": 256, "block": 256}
            )
        night = night.model_copy(
            update={
                "as_of": "latest",
                "scenarios": scenarios.model_copy(update=few),
                "limits": None,
            }
        )
        pipeline.run(night, progress=progress)
    return compiled.count_kept()


def backtest(
    config: Path,
    *,
    from_: dt.date,
    to: dt.date,
    snapshot: Path | None = None,
    out: Path | None = None,
    marks: Path | None = None,
    workers: int | None = None,
    executor: Literal["plain", "dask"] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Replay past nights on the real history of a static book; exceedances, causes and tests.

    Every night forecasts the day after from what was known then. The book is kept in terms of
    ratios: exposures, collateral and triggers as of its snapshot, re-marked to each close. A
    backtest that was killed goes on where it was.

    Parameters
    ----------
    config : Path
        YAML file, such as configs/demo.yaml; its historical and Monte Carlo sets are tested.
    from_ : date
        First night.
    to : date
        Last night; the history must hold the day after it.
    snapshot : Path, optional
        Folder of the snapshot, or the folder above it, instead of the config's.
    out : Path, optional
        Folder of runs instead of the config's; the backtest goes to its backtest/.
    marks : Path, optional
        History of mark prices to count liquidations on, instead of the config's history.
    workers : int, optional
        Worker processes instead of the config's.
    executor : {"plain", "dask"}, optional
        In this process or on dask, instead of the config's.
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        For the timings in the manifest.

    Returns
    -------
    Run
        The finished backtest.
    """
    from risk import replay
    from risk.config import load_config

    nights = load_config(
        config,
        snapshot=snapshot,
        out=out,
        execution__workers=workers,
        execution__executor=executor,
    )
    return replay.backtest(nights, from_, to, marks=marks, progress=progress, clock=clock)


def runs(
    out: Path = Path("runs"), *, compare: tuple[Path, Path] | None = None, verify: bool = False
) -> tuple[Run, ...] | Comparison:
    """List finished runs, or compare two.

    Parameters
    ----------
    out : Path
        Folder of runs.
    compare : tuple of Path, optional
        Two runs: what went in differently, and every figure that moved.
    verify : bool
        Check every file of every run against the checksum in its manifest.

    Returns
    -------
    tuple of Run, or Comparison
        By as-of date and then in the order they finished.
    """
    from risk import store

    if compare is not None:
        return store.compare_runs(*(store.open_run(path) for path in compare))
    finished = store.list_runs(out)
    if verify:
        for run in finished:
            store.verify(run)
    return finished


def report(run: Path = Path("runs"), *, out: Path = Path("reports")) -> Path:
    """Render the reports of a finished run again.

    The run itself is never changed: its figures are printed once more, by today's templates, into
    a folder of their own. Nothing is computed again.

    Parameters
    ----------
    run : Path
        A run folder, or a folder of runs: then the newest.
    out : Path
        Folder that gets as_of=.../run=.../ with report.html, capital.html and capital.json.

    Returns
    -------
    Path
        The folder with the reports.
    """
    from dataclasses import replace

    from risk import findings, store

    finished = store.open_run(run)
    manifest = finished.manifest
    config = _config_of(finished)
    try:
        inputs = findings.report_inputs(
            finished.path,
            config,
            as_of=finished.as_of,
            run_id=finished.id,
            inputs=manifest["inputs"],
        )
    except FileNotFoundError as error:
        raise RunError(
            f"{error.filename}: the reports need it and the run does not have it; "
            "run the night again"
        ) from None
    # The figures are the work of the code that computed them, not of the code that prints them.
    code = f"{manifest['versions']['bulkhead']}, sources {manifest['code_digest'][:16]}"
    inputs = replace(inputs, run=replace(inputs.run, code_version=code))
    folder = out / finished.path.parent.name / finished.path.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        findings.write_reports(folder, finished.facts, inputs)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); choose another out") from None
    return folder


def serve(config: Path, *, progress: Callable[[str], None] | None = None) -> None:
    """Schedule the night, by the config's cron and time zone; runs until it is stopped.

    PREFECT_API_URL names the Prefect server to schedule it on. Without it one is started, with its
    UI on port 4200 (or PREFECT_SERVER_API_PORT) and its database in PREFECT_HOME (here: .prefect).
    Every night takes the snapshot of the UTC day before it is due, and fails when that is missing.

    Parameters
    ----------
    config : Path
        YAML file, such as configs/nightly.yaml.
    progress : callable, optional
        Called with one line when the schedule stands.
    """
    from flows.serve import serve as serve_nights

    serve_nights(config, progress=progress)


def _config_of(run: Run) -> Config:
    """The config a run was made with; the settings its reports read must be what they were."""
    from pydantic import ValidationError

    from risk.config import Config
    from risk.store import file_digest

    try:
        config = Config.model_validate(run.manifest["config"])
    except ValidationError:
        raise RunError(
            f"{run.path}: its config is of another version; run the night again"
        ) from None
    for key, where in (("capital", config.capital), ("limits", config.limits)):
        for name, digest in run.manifest["inputs"].items():
            if where is None or not name.startswith(f"{key}/"):
                continue
            file = where if where.suffix else where / name.removeprefix(f"{key}/")
            if not file.is_file() or file_digest(file) != digest:
                raise RunError(
                    f"{file}: is not what it was when {run.path.name} was made; put it back, start "
                    "from the same directory, or run the night again"
                )
    return config
