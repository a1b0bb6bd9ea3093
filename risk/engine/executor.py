"""Run blocks in this process or on dask; the only module that knows dask.

Nothing large travels: a task is the workspace's address and a few blocks, and its answer is a
handful of checksums. A worker that dies loses its unfinished block, which dask runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from risk.engine.blocks import Block, read_receipt, write_receipt
from risk.errors import ConfigError, RunError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

Task = Callable[[str, Block], Mapping[str, str]]
Check = Callable[[str, Block, Mapping[str, str]], bool]

#: Deaths of workers a block may be around for before it is held responsible.
_ALLOWED_FAILURES = 3


class Workers:
    """Worker processes of this machine; they can start while other work is done.

    Parameters
    ----------
    n : int
        How many.
    preload : sequence of str
        Modules they import before they are given work.
    """

    def __init__(self, n: int, preload: Sequence[str] = ()) -> None:
        self._n, self._preload = n, list(preload)
        # One thread, so that they are started and stopped in the order that was asked for.
        self._thread = ThreadPoolExecutor(1, "workers")
        self._cluster: Future[LocalCluster] | None = None

    def start(self) -> None:
        """Begin to start them, unless that was done."""
        if self._cluster is None:
            self._cluster = self._thread.submit(_local_cluster, self._n, self._preload)

    def cluster(self) -> LocalCluster:
        """The cluster they form, once all of them are there."""
        self.start()
        assert self._cluster is not None
        try:
            return self._cluster.result()
        except (RuntimeError, OSError, TimeoutError) as error:
            raise RunError(
                f"the worker processes did not start ({error}); give them more memory, "
                "set executor: plain, or, in a script, call it below `if __name__ == '__main__':`"
            ) from error

    def stop(self) -> None:
        """Begin to stop them; they can be started again."""
        if self._cluster is not None:
            self._thread.submit(_close, self._cluster)
            self._cluster = None

    def close(self) -> None:
        """Stop them, for good, and wait until they are gone."""
        self.stop()
        self._thread.shutdown()


def _local_cluster(n: int, preload: list[str]) -> LocalCluster:
    import dask
    from distributed import LocalCluster

    with dask.config.set({"distributed.scheduler.allowed-failures": _ALLOWED_FAILURES}):
        return LocalCluster(
            n_workers=n,
            threads_per_worker=1,
            preload=preload,
            # Any free port: a second night on this machine must not trip over the first.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        )


def _close(cluster: Future[LocalCluster]) -> None:
    if cluster.exception() is None:
        cluster.result().close()


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
    progress : callable (done, total), optional

    Returns
    -------
    int
        How many blocks were kept from an earlier attempt.

    Raises
    ------
    RunError
        If a block fails, or keeps killing its worker; blocks already done stay on disk.
    ConfigError
        If the executor is unknown or the scheduler cannot be reached.
    """
    receipts = Path(workspace) / "blocks"
    left = [block for block in blocks if not _is_done(check, workspace, receipts, block)]
    kept = len(blocks) - len(left)
    report = progress or (lambda done, total: None)
    report(kept, len(blocks))
    if not left:
        return kept
    if executor == "plain":
        for done, block in enumerate(left, start=kept + 1):
            _run(task, workspace, [block])
            report(done, len(blocks))
    elif executor == "dask":
        with _client(workers, address, tls) as client:
            _run_on(client, task, workspace, left, kept, len(blocks), report)
    else:
        raise ConfigError(f"execution.executor {executor!r} is not one of plain, dask")
    return kept


def _is_done(check: Check, workspace: str, receipts: Path, block: Block) -> bool:
    receipt = read_receipt(receipts, block)
    return receipt is not None and check(workspace, block, receipt)


def _run(task: Task, workspace: str, blocks: Sequence[Block]) -> int:
    """Blocks one after the other, on one native thread: thread counts change matrix products."""
    with threadpool_limits(1):
        for block in blocks:
            write_receipt(Path(workspace) / "blocks", block, task(workspace, block))
    return len(blocks)


def _run_on(
    client: Client,
    task: Task,
    workspace: str,
    left: Sequence[Block],
    kept: int,
    total: int,
    report: Callable[[int, int], None],
) -> None:
    from distributed import as_completed

    # A few dozen tasks per worker balance well; the scheduler costs about 2 ms a task.
    slots = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    size = max(1, len(left) // (32 * slots))
    batches = [left[i : i + size] for i in range(0, len(left), size)]
    futures = client.map(
        _run,
        [task] * len(batches),
        [workspace] * len(batches),
        batches,
        key=[f"block {batch[0].key}-{len(batch)}" for batch in batches],
        retries=2,
        pure=False,
    )
    done = kept
    with killed("lower scenarios.monte_carlo.block or max_cells"):
        for future in as_completed(futures):
            done += future.result()
            report(done, total)


@contextmanager
def killed(remedy: str) -> Iterator[None]:
    """Say in one sentence that some work kept killing its worker, and what to do about it."""
    from distributed.scheduler import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise RunError(
            f"{error.task} killed its worker {_ALLOWED_FAILURES + 1} times (out of memory?); "
            f"{remedy} and start the run again"
        ) from error


@contextmanager
def _client(
    workers: int | Workers, address: str | None, tls: Mapping[str, str] | None
) -> Iterator[Client]:
    from distributed import Client
    from distributed.security import Security

    if address is None:
        started = Workers(workers) if isinstance(workers, int) else workers
        try:
            with Client(started.cluster()) as client:
                yield client
        finally:
            if started is not workers:
                started.close()
        return
    security = None
    if tls:
        security = Security(
            tls_ca_file=tls["ca"],
            tls_client_cert=tls["cert"],
            tls_client_key=tls["key"],
            require_encryption=True,
        )
    try:
        client = Client(address, security=security, timeout=30)
    except OSError as error:
        raise ConfigError(
            f"execution.address {address}: no dask scheduler answers ({error})"
        ) from error
    with client:
        yield client
