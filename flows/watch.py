"""Where a night or a backtest stands, told three times: in the terminal, in the UI, in the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from flows.notices import CONSOLE
from risk.terminal import Progress, show_progress

#: Seconds between two updates of the progress artifact; each is a request to the server.
_PACE = 1.0


class Watch:
    """Progress of one night or backtest, and how long its stages took.

    Attributes
    ----------
    timings : dict of str to float
        Seconds by stage, for the manifest.
    """

    def __init__(self, shown: Progress, stages: Sequence[str], work: str = "nightly") -> None:
        """Start at zero; needs a flow run."""
        self.timings: dict[str, float] = {}
        self._shown = shown
        self._stages = list(stages)
        self._log = get_run_logger()
        self._told = 0.0
        # The sync half of a function that Prefect declares as both.
        self._artifact = cast(
            UUID,
            create_progress_artifact(
                0.0, key=f"{work}-progress", description="Stages that are done"
            ),
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Follow one stage from its beginning to its end."""
        begun = time.perf_counter()
        self._shown(name, 0, 1)
        yield
        self.timings[name] = time.perf_counter() - begun
        self._shown(name, 1, 1)
        self._log.info("%s: %.1f s", name, self.timings[name])
        self._tell(self._stages.index(name) + 1)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how much of a stage is done."""
        self._shown(stage, done, total)
        if done < total and time.perf_counter() - self._told > _PACE:
            self._tell(self._stages.index(stage) + done / total)

    def _tell(self, n_stages: float) -> None:
        self._told = time.perf_counter()
        update_progress_artifact(self._artifact, 100.0 * n_stages / len(self._stages))


@contextmanager
def watched(stages: Sequence[str], work: str) -> Iterator[Watch]:
    """Follow a night or a backtest: a bar in a terminal, plain lines elsewhere."""
    with show_progress(CONSOLE) as shown:
        yield Watch(shown, stages, work)
