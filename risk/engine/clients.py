"""Worker processes of this machine, and the way to those of another."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver
from threading import Event
from typing import TYPE_CHECKING

from risk.errors import ConfigError, RunError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster
    from distributed.security import Security

#: Deaths of workers a block may be around for before it is held responsible.
_ALLOWED_FAILURES = 3
#: Seconds between two looks at whether a worker process is gone for good.
_LOOK_SECONDS = 2.0
#: How long blocks wait for a worker when there is none; then the run fails, and can be resumed.
_NO_WORKERS = "10 minutes"
#: Bytes of freed memory a worker keeps. Blocks want the same arrays again and again: giving them
#: back to the system after every use, as dask has its workers do, cost a quarter of the CPU time.
_KEPT_BYTES = 1 << 28
#: Read by the C library when a process begins; only the first pool of memory keeps as much, and a
#: worker's one thread is not its first.
_KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT_BYTES),
    "MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES),
    "MALLOC_ARENA_MAX": "1",
}


def import_ahead(modules: Sequence[str]) -> None:
    """Begin to import what workers need, in the process that all of this process's are forked from.

    Once, and not by each of them; beside whatever else this process does. A second call does
    nothing: what is missing then is imported by each worker itself.

    Parameters
    ----------
    modules : sequence of str
        Names; they must start no thread that would be missing in a fork.
    """
    # xarray imports dask's arrays as soon as it sees an array: while there is time.
    forkserver.set_forkserver_preload(["distributed", "dask.array", *modules])
    before = dict(os.environ)
    os.environ.update(_KEEP_MEMORY | before)
    try:
        forkserver.ensure_running()
    finally:
        for name in _KEEP_MEMORY.keys() - before.keys():
            del os.environ[name]


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
        self.n, self._preload = n, list(preload)
        # One thread, so that they are started and stopped in the order that was asked for.
        self._thread = ThreadPoolExecutor(1, "workers")
        self._cluster: Future[LocalCluster] | None = None
        self._settings = ExitStack()

    def start(self) -> None:
        """Begin to start them, unless that was done."""
        if self._cluster is None:
            self._cluster = self._thread.submit(
                _local_cluster, self.n, self._preload, self._settings
            )

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

    @contextmanager
    def kept_up(self) -> Iterator[LocalCluster]:
        """The cluster; meanwhile, processes that died are replaced.

        dask starts a dead worker again, but gives it up where that takes longer than 15 s, as it
        may on a busy machine, or where it dies once more while it starts. A run whose last worker
        went that way would wait for ever.
        """
        cluster, over = self.cluster(), Event()

        def look() -> None:
            while not over.wait(_LOOK_SECONDS):
                cluster.scale(self.n)  # nothing happens while all are there

        with ThreadPoolExecutor(1, "look after workers") as thread:
            looking = thread.submit(look)
            try:
                yield cluster
            finally:
                over.set()
        looking.result()

    def stop(self) -> None:
        """Begin to stop them; they can be started again."""
        if self._cluster is not None:
            self._thread.submit(_close, self._cluster, self._settings)
            self._cluster = None

    def close(self) -> None:
        """Stop them, for good, and wait until they are gone."""
        self.stop()
        self._thread.shutdown()


def _local_cluster(n: int, preload: list[str], kept: ExitStack) -> LocalCluster:
    import dask
    from distributed import LocalCluster
    from distributed.utils import get_mp_context

    settings = {
        "scheduler.allowed-failures": _ALLOWED_FAILURES,
        "scheduler.no-workers-timeout": _NO_WORKERS,
        "worker.multiprocessing-method": "forkserver",
        # dask sets its own in this process, for all that begin after it.
        **{f"nanny.pre-spawn-environ.{name}": it for name, it in _KEEP_MEMORY.items()},
    }
    # For as long as they live: a worker that dies is replaced in the same way.
    kept.enter_context(dask.config.set({f"distributed.{key}": it for key, it in settings.items()}))
    get_mp_context()
    import_ahead(preload)
    return LocalCluster(
        n_workers=n,
        threads_per_worker=1,
        preload=preload,
        # Any free port: a second night on this machine must not trip over the first.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    )


def _close(cluster: Future[LocalCluster], kept: ExitStack) -> None:
    with kept:
        if cluster.exception() is None:
            cluster.result().close()


@contextmanager
def local_client(workers: int | Workers) -> Iterator[Client]:
    """A client of worker processes of this machine; those that were started ahead go on."""
    from distributed import Client

    started = Workers(workers) if isinstance(workers, int) else workers
    try:
        with (
            started.kept_up() as cluster,
            Client(
                # Whoever holds dask arrays in this process must not send them here.
                cluster,
                set_as_default=False,
            ) as client,
        ):
            yield client
    finally:
        if started is not workers:
            started.close()


@contextmanager
def remote_client(address: str, tls: Mapping[str, str] | None) -> Iterator[Client]:
    """A client of a running dask scheduler.

    Raises
    ------
    ConfigError
        If nothing answers within dask's ``distributed.comm.timeouts.connect`` (30 s unless it is
        set otherwise), the certificates cannot be read, or the two sides do not accept each other.
    """
    from distributed import Client

    security = _security(address, tls)
    try:
        client = Client(address, security=security, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        hint = "start one there, or mend the address"
        if tls:
            hint += "; with TLS both sides must be signed by execution.tls.ca"
        reason = str(error) or type(error).__name__
        raise ConfigError(
            f"execution.address {address}: no dask scheduler answers ({reason}); {hint}"
        ) from error
    with client:
        yield client


def check_scheduler(address: str, tls: Mapping[str, str] | None) -> None:
    """Refuse a scheduler that does not answer, before any work is done. See `remote_client`."""
    with remote_client(address, tls):
        pass


def _security(address: str, tls: Mapping[str, str] | None) -> Security | None:
    from distributed.security import Security

    encrypted = address.startswith("tls://")
    if encrypted and not tls:
        raise ConfigError(
            f"execution.address {address}: asks for certificates; write execution.tls with ca, "
            "cert and key"
        )
    if not tls:
        return None
    if not encrypted:
        raise ConfigError(
            f"execution.address {address}: has certificates but would not be encrypted; write "
            "tls:// before the host"
        )
    security = Security(
        tls_ca_file=tls["ca"],
        tls_client_cert=tls["cert"],
        tls_client_key=tls["key"],
        require_encryption=True,
    )
    try:
        security.get_connection_args("client")
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(f"{name} {tls[name]}" for name in ("ca", "cert", "key"))
        raise ConfigError(
            f"execution.tls: {named} cannot be used ({error}); give PEM files of one certificate, "
            "its key and the authority that signed the scheduler's"
        ) from error
    return security
