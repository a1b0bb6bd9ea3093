"""Parts of a stage, side by side on the worker processes a night has anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from risk.engine.clients import Workers, local_client
from risk.errors import RunError

if TYPE_CHECKING:
    from distributed import Future


def run_parts(
    task: Callable[..., None],
    names: Sequence[str],
    arguments: Sequence[Any] = (),
    *,
    workers: Workers | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run parts that read what is finished and each write files of their own.

    Parameters
    ----------
    task : callable (name, arguments ...)
        Importable by the workers; a part that is run twice writes the same files.
    names : sequence of str
        The parts, the longest first.
    arguments : sequence
        Small; sent with every part.
    workers : Workers, optional
        Without them everything is done in this process, in the order of `names`.
    progress : callable (done, total), optional

    Raises
    ------
    Exception
        What a part raised, the first in the order of `names`; no part is then still at work.
    RunError
        If a part keeps killing its worker.

    Notes
    -----
    The bytes are the same either way: every part runs on one native thread, as blocks do.
    """
    report = progress or (lambda done, total: None)
    report(0, len(names))
    if workers is None:
        for done, name in enumerate(names, start=1):
            _run(task, name, arguments)
            report(done, len(names))
        return
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    with local_client(workers) as client:
        futures: list[Future] = []

        def submit() -> Future:
            name = names[len(futures)]
            futures.append(
                client.submit(_run, task, name, arguments, key=f"part {name}", pure=False)
            )
            return futures[-1]

        # A part is sent when a worker is free: dask would share them out at once by their number,
        # and the longest would wait behind each other.
        first = [submit() for _ in names[: workers.n]]
        finished = as_completed(first, loop=client.loop)
        for done, _ in enumerate(finished, start=1):
            report(done, len(names))
            if len(futures) < len(names):
                finished.add(submit())
        try:
            client.gather(futures)
        except KilledWorker as error:
            raise RunError(
                f"{error.task} killed its worker {error.allowed_failures + 1} times (out of "
                "memory?); lower max_cells or the number of paths and start the run again"
            ) from error


def _run(task: Callable[..., None], name: str, arguments: Sequence[Any]) -> None:
    with threadpool_limits(1):
        task(name, *arguments)
