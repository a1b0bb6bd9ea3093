"""Run blocks in this process or on dask.

Nothing large travels: a task is a few strings and a few blocks, and its answer is a number. A
worker that dies loses its unfinished block, which dask runs again.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from risk.engine import shared as shared_files
from risk.engine.blocks import Block, write_receipt
from risk.engine.clients import Workers, local_client, remote_client
from risk.engine.shared import Shared
from risk.engine.tasks import MARK, RECEIPTS, Check, Job, Task, is_done, run_here, run_on_worker
from risk.errors import ConfigError, RunError

if TYPE_CHECKING:
    from distributed import Client


#: A few dozen tasks balance well; the scheduler costs about 2 ms a task.
_TASKS_PER_WORKER = 32


def run_blocks(
    task: Task,
    check: Check,
    workspace: str,
    blocks: Sequence[Block],
    *,
    executor: str = "dask",
    workers: int | Workers = 2,
    address: str | None = None,
    tls: Mapping[str, str] | None = None,
    shared: str | None = None,
    cache: str | None = None,
    reads: Sequence[str] = (),
    version: Callable[[], str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Run every block that is not already on disk.

    Parameters
    ----------
    task : callable (workspace, block) -> checksums
        Importable by the workers; writes its own results.
    check : callable (workspace, block, checksums) -> bool
        Whether what an earlier attempt left on disk is still what its receipt says.
    workspace : str
        Address of the run's folder; receipts go to its ``blocks/``.
    blocks : sequence of Block
    executor : {"plain", "dask"}
        In this process, or on a dask cluster. The bytes are the same.
    workers : int or Workers
        Processes of the embedded cluster, or those that were started ahead, which go on for
        whoever started them; ignored when `address` is given.
    address : str, optional
        An existing dask scheduler.
    tls : mapping, optional
        Files ``ca``, ``cert`` and ``key`` for that scheduler.
    shared : str, optional
        A folder or an object store by which workers that do not see the workspace get what they
        read and give what they wrote; without it they work in the workspace itself.
    cache : str, optional
        Where their machines keep what they read; in the folder for temporary files when absent.
    reads : sequence of str
        Patterns of the files of the workspace that the task reads; only used with `shared`.
    version : callable () -> str, optional
        Names the code of the process it is called in; a worker with another one is refused.
    progress : callable (done, total), optional

    Returns
    -------
    int
        How many blocks were kept from an earlier attempt.

    Raises
    ------
    RunError
        If a block fails, keeps killing its worker, or a worker is unfit (another version, several
        threads, another file system); blocks already done stay on disk.
    ConfigError
        If the executor is unknown or the scheduler or the shared address cannot be reached.
    """
    folder = Path(workspace)
    job = Job(task, check, workspace)
    left = [block for block in blocks if not is_done(job, block)]
    kept = len(blocks) - len(left)
    report = progress or (lambda done, total: None)
    report(kept, len(blocks))
    if executor not in ("plain", "dask"):
        raise ConfigError(f"execution.executor {executor!r} is not one of plain, dask")
    (folder / RECEIPTS).mkdir(exist_ok=True)
    if executor == "plain":
        for done, block in enumerate(left, start=kept + 1):
            run_here(job, block)
            report(done, len(blocks))
        return kept
    if left:
        sent = None if shared is None else shared_files.publish(shared, folder, reads, cache)
        expected = version() if version else ""
        job = Job(task, check, workspace, _leave_mark(folder), version, expected, sent)
        if sent is not None:
            waiting = shared_files.finished_blocks(sent, left)
            for block in waiting:
                _take(sent, folder, block)
            left = [block for block in left if block not in waiting]
        with _client(workers, address, tls) as client:
            _run_on(client, job, left, len(blocks), report)
        (folder / RECEIPTS / MARK).unlink()
    if shared is not None:
        shared_files.withdraw(shared, folder)
    return kept


def _leave_mark(folder: Path) -> str:
    """Write what tells the workers that they see this very folder."""
    mark = f"{socket.gethostname()} {os.getpid()} {folder.stat().st_ino}"
    draft = folder / RECEIPTS / f"{MARK}.part"
    draft.write_text(mark)
    os.replace(draft, folder / RECEIPTS / MARK)
    return mark


def _take(sent: Shared, folder: Path, block: Block) -> None:
    """Bring the results of a block that was done elsewhere home."""
    write_receipt(folder / RECEIPTS, block, shared_files.collect(sent, folder, block))
    shared_files.forget(sent, block)


def _client(
    workers: int | Workers, address: str | None, tls: Mapping[str, str] | None
) -> AbstractContextManager[Client]:
    return local_client(workers) if address is None else remote_client(address, tls)


def _run_on(
    client: Client,
    job: Job,
    left: Sequence[Block],
    total: int,
    report: Callable[[int, int], None],
) -> None:
    from distributed import as_completed
    from distributed.scheduler import KilledWorker, NoWorkerError

    slots = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    size = max(1, len(left) // (_TASKS_PER_WORKER * slots))
    batches = {
        _key(job, batch): batch for batch in (left[i : i + size] for i in range(0, len(left), size))
    }
    done = total - len(left)
    # Nothing else may hold the futures: the results of a worker that dies would be made again.
    finished = as_completed(
        client.map(
            run_on_worker,
            [job] * len(batches),
            list(batches.values()),
            key=list(batches),
            retries=2,
            pure=False,
        ),
        loop=client.loop,
    )
    try:
        for future in finished:
            done += future.result()
            if job.shared is not None:
                for block in batches[future.key]:
                    _take(job.shared, Path(job.workspace), block)
            future.release()
            report(done, total)
    except KilledWorker as error:
        name = str(error.task).partition("@")[0]
        raise RunError(
            f"block {name} killed its worker {error.allowed_failures + 1} times (out of memory?); "
            "lower scenarios.monte_carlo.block or max_cells and start the run again"
        ) from error
    except NoWorkerError as error:
        raise RunError(
            f"the dask scheduler has no worker ({error}); start some and start the run again"
        ) from error
    except ModuleNotFoundError as error:
        raise RunError(
            f"a worker cannot load the code of the blocks ({error}); install this version of "
            "Bulkhead there and start the worker again"
        ) from error


def _key(job: Job, batch: Sequence[Block]) -> str:
    """Name of a task; a scheduler that serves two runs must not take one's for the other's."""
    place = f"{job.mark}\0{job.workspace}"
    return f"{batch[0].key}-{len(batch)}@{hashlib.sha256(place.encode()).hexdigest()[:12]}"
