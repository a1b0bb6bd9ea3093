"""One night's work: its name, its folder and its workers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from risk.ahead import NEEDED
from risk.config import Config, config_digest
from risk.engine import Workers, check_scheduler
from risk.errors import ConfigError
from risk.pipeline.files import digests
from risk.snapshot import resolve_snapshot
from risk.standing import previous_night
from risk.store import (
    Run,
    Workspace,
    file_digest,
    finished_run,
    list_runs,
    open_run,
    open_workspace,
    run_id,
)

#: Called with a stage's name, how much of it is done and how much there is.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Night:
    """One night's work: what to run, on what, and where it is written.

    Attributes
    ----------
    config : Config
    as_of : date
    run_id : str
    inputs : dict of str to str
        SHA-256 of every input file, by a name that does not depend on where the file lies.
    workspace : Workspace or None
        The locked folder of the unfinished run; None when this very run is already finished.
    workers : Workers or None
        Processes that start while the scenarios are prepared; None where none are needed.
    previous : Run or None
        The night before, if the config asks for it and there is one; its id is among the inputs.
    """

    config: Config
    as_of: dt.date
    run_id: str
    inputs: dict[str, str]
    workspace: Workspace | None
    workers: Workers | None = None
    previous: Run | None = None

    @property
    def folder(self) -> Path:
        """Where the stages write."""
        if self.workspace is None:
            raise RuntimeError("this night is already finished; open its run")
        return self.workspace.path

    def lent(self) -> Night:
        """The night as another process gets it: without its lock and workers."""
        assert self.workspace is not None
        return replace(self, workspace=self.workspace.lent(), workers=None)

    @property
    def is_finished(self) -> bool:
        """Whether the same inputs, config and code were already run to the end."""
        return self.workspace is None


def open_night(config: Config) -> Night:
    """Digest every input, name the run, and open (or find finished) its folder."""
    if config.scenarios.names == ("stress",):
        raise ConfigError(
            "scenarios: stresses alone have no distribution to report; add historical or "
            "monte_carlo, or do one stress with `bulkhead stress`"
        )
    path = resolve_snapshot(config.snapshot, config.as_of_date)
    as_of = dt.date.fromisoformat(path.name.removeprefix("as_of="))
    inputs = {f"snapshot/{name}": digest for name, digest in digests(path, "*.parquet").items()}
    inputs |= {f"snapshot/{name}": d for name, d in digests(path, "venues/*.yaml").items()}
    inputs |= {f"venues/{name}": d for name, d in digests(config.venues, "*.yaml").items()}
    inputs |= {f"history/{name}": d for name, d in digests(config.history, "*.parquet").items()}
    if config.scenarios.stress:
        found = digests(config.scenarios.stress.folder, "*.yaml")
        inputs |= {f"stresses/{name}": digest for name, digest in found.items()}
    for key, where in (("capital", config.capital), ("limits", config.limits)):
        if where is not None:
            inputs |= {f"{key}/{name}": d for name, d in digests(where, "*.yaml").items()}
    if config.what_if is not None:
        inputs["what_if"] = file_digest(config.what_if.file)
    before = None
    if config.previous == "latest":
        # A branch on a changed book is no night.
        real = [run for run in list_runs(config.out) if not run.manifest["config"].get("what_if")]
        before = previous_night(real, as_of)
    if before is not None:
        inputs["previous/run"] = before.id
        if config.explain:
            path = resolve_snapshot(config.snapshot, before.as_of)
            inputs |= {f"previous/{name}": d for name, d in digests(path, "*.parquet").items()}
    name = run_id(inputs, config_digest(config), as_of)
    done = finished_run(config.out, as_of, name)
    wanted = config.execution
    if wanted.address and not done:
        # Now, and not when the book is margined.
        check_scheduler(wanted.address, wanted.tls.model_dump(mode="json") if wanted.tls else None)
    workspace = None if done else open_workspace(config.out, as_of, name)
    workers = None
    if workspace and wanted.executor == "dask" and wanted.address is None:
        workers = Workers(wanted.workers, preload=NEEDED)
        workers.start()
    return Night(config, as_of, name, dict(sorted(inputs.items())), workspace, workers, before)


def finished(night: Night) -> Run:
    """The finished run of a night that needs no work."""
    path = finished_run(night.config.out, night.as_of, night.run_id)
    assert path is not None
    return open_run(path)


def close(night: Night) -> None:
    """Give the run's lock back; what is on disk is resumed by the next start."""
    if night.workers is not None:
        night.workers.close()
    if night.workspace is not None:
        night.workspace.close()
