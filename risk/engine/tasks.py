"""What a task is: a few blocks and a few strings, wherever they are run.

Nothing large travels with it, and its answer is a number. A worker that may not do the work says
so, by its address, instead of giving other bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from risk.engine.blocks import Block, read_receipt, write_receipt
from risk.engine.shared import Shared
from risk.errors import RunError

Task = Callable[[str, Block], Mapping[str, str]]
Check = Callable[[str, Block, Mapping[str, str]], bool]

#: Folder of the receipts, in the workspace.
RECEIPTS = "blocks"
#: In it, the driver's mark, by which a worker knows that it sees the same folder.
MARK = "driver.txt"


@dataclass(frozen=True)
class Job:
    """What all tasks of a run have in common.

    Attributes
    ----------
    task, check : callable
        See `risk.engine.run_blocks`; importable by the workers.
    workspace : str
        The run's folder, as the driver names it.
    mark : str
        What the driver wrote there.
    version : callable () -> str or None
        Names the code of the process that calls it.
    expected : str
        What it says in the driver's.
    shared : Shared or None
        How workers that do not see the workspace get the inputs and give the results.
    """

    task: Task
    check: Check
    workspace: str
    mark: str = ""
    version: Callable[[], str] | None = None
    expected: str = ""
    shared: Shared | None = None


def is_done(job: Job, block: Block) -> bool:
    """Whether the workspace holds the block as its receipt says."""
    receipt = read_receipt(Path(job.workspace) / RECEIPTS, block)
    return receipt is not None and job.check(job.workspace, block, receipt)


def run_here(job: Job, block: Block) -> None:
    """Do one block in the workspace itself."""
    sums = _on_one_thread(job.task, job.workspace, block)
    write_receipt(Path(job.workspace) / RECEIPTS, block, sums)


def _on_one_thread(task: Task, workspace: str, block: Block) -> Mapping[str, str]:
    # Native ones: a matrix product depends on how many share it.
    with threadpool_limits(1):
        return task(workspace, block)


def run_on_worker(job: Job, blocks: Sequence[Block]) -> int:
    """Do blocks one after the other in a dask worker; say how many.

    Blocks that an earlier worker finished before it died are left as they are.
    """
    from distributed import get_worker

    worker = get_worker()
    _refuse_unfit(job, worker.address, worker.state.nthreads)
    scratch = Path(worker.local_directory) / "bulkhead"
    for block in blocks:
        if job.shared is not None:
            work = partial(_on_one_thread, job.task)
            job.shared.run(work, block, scratch, worker.address)
        elif not is_done(job, block):
            run_here(job, block)
    return len(blocks)


def _refuse_unfit(job: Job, address: str, n_threads: int) -> None:
    """Whatever would make other bytes, or put them where the driver does not look."""
    if n_threads > 1:
        raise RunError(
            f"worker {address} runs {n_threads} threads, which share what must be one native "
            "thread; start it with --nthreads 1, and as many of them as there are cores"
        )
    if job.version is not None and (found := job.version()) != job.expected:
        raise RunError(
            f"worker {address} began with version {found[:16]} of the sources and their libraries, "
            f"this run with {job.expected[:16]}; install the same and start the worker again"
        )
    if job.shared is not None:
        return
    mark = Path(job.workspace) / RECEIPTS / MARK
    if not mark.is_file() or mark.read_text() != job.mark:
        raise RunError(
            f"worker {address} does not see the run's folder {job.workspace}; put out on a file "
            "system that all machines share, or set execution.shared"
        )
