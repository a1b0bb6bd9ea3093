"""Inputs and results by way of a shared address, for workers that do not see the run's folder.

The driver puts the files that tasks read there, named by their SHA-256, once. A machine of workers
fetches them once into its cache, checks them and maps them. Results go back the same way: files
first, then one receipt that lists them; the driver collects, checks and removes them. Whatever is
interrupted is an unfinished name or a receipt that is not there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from risk.engine.address import Address
from risk.engine.blocks import Block
from risk.errors import ConfigError, RunError

#: Files of one listing that are copied at a time; an object store takes most of it in waiting.
_COPIES = 8

_UNFINISHED = (".tmp", ".partial")

_LISTING = "listing.json"


@dataclass(frozen=True)
class Shared:
    """Where a run's inputs lie and its results go; a few strings, which travel with every task.

    Attributes
    ----------
    address : str
        Folder of this run at the shared address.
    digest : str
        SHA-256 (hex) of the listing of its inputs.
    cache : str or None
        Folder of the worker's machine; `~` and variables are the worker's own.
    """

    address: str
    digest: str
    cache: str | None

    def run(
        self, task: Callable[[str, Block], Mapping[str, str]], block: Block, scratch: Path, who: str
    ) -> None:
        """Do one block in a worker and send its files, unless that was done.

        Parameters
        ----------
        task : callable (workspace, block) -> checksums
        block : Block
        scratch : Path
            The worker's own folder.
        who : str
            The worker's address, for errors.
        """
        with _told(who, self.address):
            there = Address(self.address)
            if there.holds(_receipt(self.digest, block)):
                return
            folder = _workspace(self, scratch).folder
        for left in _written(folder):
            left.unlink()  # of a block that failed half-way
        sums = task(str(folder), block)
        with _told(who, self.address):
            _send(there, self.digest, block, folder, sums)


@contextmanager
def _told(who: str, address: str) -> Iterator[None]:
    """Say which worker cannot read or write where."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise RunError(
            f"worker {who} cannot use execution.shared {address} or its cache ({error}); every "
            "worker must be able to read and write both"
        ) from error


def publish(
    address: str, workspace: Path, reads: Iterable[str], cache: str | None = None
) -> Shared:
    """Put what tasks read at the shared address.

    Parameters
    ----------
    address : str
        A folder, or a URL of an object store that pyarrow opens.
    workspace : Path
        The run's folder.
    reads : iterable of str
        Patterns of the files that tasks read, relative to it.
    cache : str, optional
        Where workers keep what they fetched.

    Raises
    ------
    ConfigError
        If the address cannot be written.
    """
    listing = {
        path.relative_to(workspace).as_posix(): (_digest(path), path.stat().st_size)
        for pattern in reads
        for path in sorted(workspace.glob(pattern))
        if path.is_file() and path.suffix not in _UNFINISHED
    }
    content = json.dumps(listing, sort_keys=True).encode()
    shared = Shared(folder_of(address, workspace), hashlib.sha256(content).hexdigest(), cache)
    with _usable(address):
        there = Address(shared.address)
        known = there.sizes("inputs")

        def put(name: str) -> None:
            digest, size = listing[name]
            if known.get(digest) != size:
                there.put(f"inputs/{digest}", workspace / name)

        # One of each content: two writers of one name would be in each other's way.
        _in_threads(put, {digest: name for name, (digest, _) in listing.items()}.values())
        there.put_bytes(f"inputs/{shared.digest}.json", content)
    return shared


@contextmanager
def _usable(address: str) -> Iterator[None]:
    """Say that the driver cannot use the address."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"execution.shared {address}: cannot be used ({error}); give a folder or an object "
            "store that this machine and all workers can read and write"
        ) from error


def folder_of(address: str, workspace: Path) -> str:
    """Folder of a run at a shared address: by where the run lies, so that a restart finds it."""
    place = f"{socket.gethostname()}\0{workspace.resolve()}"
    return Address.below(address, f"run-{hashlib.sha256(place.encode()).hexdigest()[:16]}")


def finished_blocks(shared: Shared, blocks: Sequence[Block]) -> list[Block]:
    """Those of the blocks whose results wait to be collected."""
    # Listed once: a file system that remembers what was not there is not asked name by name.
    with _usable(shared.address):
        waiting = Address(shared.address).sizes(f"results/{shared.digest[:16]}")
    return [block for block in blocks if f"{block.key}.json" in waiting]


def collect(shared: Shared, workspace: Path, block: Block) -> Mapping[str, str]:
    """Move one block's results into the workspace; give the task's checksums.

    Raises
    ------
    RunError
        If a file is missing or is not what the worker sent; its receipt is then removed, so that
        the next start does the block again.
    """
    there, receipt = Address(shared.address), _receipt(shared.digest, block)
    try:
        content = json.loads(there.read(receipt))
        for name, digest in content["files"].items():
            target = workspace / name
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f"{target.name}.{os.getpid()}.partial")
            there.get(f"{_results(shared.digest, block)}/{digest}", draft)
            if _digest(draft) != digest:
                raise ValueError(f"{name} is damaged")
            os.replace(draft, target)
    except (FileNotFoundError, ValueError, KeyError) as error:
        there.remove(receipt)
        raise RunError(
            f"block {block.key}: its results at execution.shared {shared.address} cannot be "
            f"collected ({error}); start the run again"
        ) from error
    return content["checksums"]


def forget(shared: Shared, block: Block) -> None:
    """Remove the results of a block that was collected."""
    there = Address(shared.address)
    there.remove(_receipt(shared.digest, block))
    there.remove(_results(shared.digest, block))


def withdraw(address: str, workspace: Path) -> None:
    """Remove whatever a run left at the shared address."""
    with _usable(address):
        Address(folder_of(address, workspace)).remove("")


class _Local:
    """A worker's own view of the inputs: a folder of links into the cache, held while it lives."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        weakref.finalize(self, os.close, lock)


@lru_cache(maxsize=2)
def _workspace(shared: Shared, scratch: Path) -> _Local:
    """A folder that looks like the run's to a task, and that only this process writes into.

    Done once in a process and run: the second task reads nothing again.
    """
    cache = _cache_folder(shared.cache)
    local = _Local(scratch / shared.digest[:16], _hold(cache, shared))
    shutil.rmtree(local.folder, ignore_errors=True)  # of a worker that was killed in this place
    for name, (digest, _) in _listing(cache / shared.digest).items():
        link = local.folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(cache / shared.digest / digest)
    return local


def _hold(cache: Path, shared: Shared) -> int:
    """See that the inputs are in this machine's cache; the lock that says they are in use."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = cache / shared.digest
    with _locked(cache / ".lock"):
        held = os.open(cache / f"{shared.digest}.use", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            if not _is_there(folder, shared.digest):
                _drop_unused(cache)
                _fetch(Address(shared.address), shared.digest, folder)
        except BaseException:
            os.close(held)
            raise
    return held


def _cache_folder(cache: str | None) -> Path:
    if cache is None:
        return Path(tempfile.gettempdir()) / f"bulkhead-{os.getuid()}"
    return Path(os.path.expandvars(cache)).expanduser().absolute()


def _is_there(folder: Path, digest: str) -> bool:
    """Whether every input that was fetched is still there; its content was checked then."""
    try:
        content = (folder / _LISTING).read_bytes()
        return hashlib.sha256(content).hexdigest() == digest and all(
            (folder / name).stat().st_size == size for name, size in _listing(folder).values()
        )
    except OSError:
        return False  # never fetched, or a cleaner of temporary files was there


def _listing(folder: Path) -> dict[str, tuple[str, int]]:
    """Name of every input to its SHA-256 and size."""
    return json.loads((folder / _LISTING).read_bytes())


def _fetch(there: Address, digest: str, folder: Path) -> None:
    """Copy the inputs into the cache: aside, checked, then in one step."""
    aside = folder.with_name(f".{digest}.part")
    for left in (aside, folder):  # of a killed worker; of a cleaner
        shutil.rmtree(left, ignore_errors=True)
    aside.mkdir()
    (aside / _LISTING).write_bytes(there.read(f"inputs/{digest}.json"))

    def get(name: str) -> None:
        there.get(f"inputs/{name}", aside / name)
        if _digest(aside / name) != name:
            raise OSError(f"inputs/{name} is damaged; remove it and start the run again")

    _in_threads(get, sorted({name for name, _ in _listing(aside).values()}))
    os.rename(aside, folder)


def _drop_unused(cache: Path) -> None:
    """Make room: remove the inputs of other runs that no living process has in use."""
    for lock in cache.glob("*.use"):
        held = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()
        except BlockingIOError:
            pass  # somebody maps it, maybe we do
        finally:
            os.close(held)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the cache's lock, which a killed process cannot leave behind."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _written(folder: Path) -> list[Path]:
    """Files that a task wrote: all that are no link to an input."""
    return [
        Path(at) / name
        for at, _, names in os.walk(folder)
        for name in sorted(names)
        if not (Path(at) / name).is_symlink()
    ]


def _send(
    there: Address, digest: str, block: Block, folder: Path, checksums: Mapping[str, str]
) -> None:
    """Move what a task wrote to the shared address; the receipt last."""
    files = {}
    for path in _written(folder):
        name = path.relative_to(folder).as_posix()
        files[name] = _digest(path)
        there.put(f"{_results(digest, block)}/{files[name]}", path)
        path.unlink()
    receipt = {"files": files, "checksums": dict(checksums)}
    there.put_bytes(_receipt(digest, block), json.dumps(receipt, sort_keys=True).encode())


def _results(digest: str, block: Block) -> str:
    return f"results/{digest[:16]}/{block.key}"


def _receipt(digest: str, block: Block) -> str:
    return f"{_results(digest, block)}.json"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_threads(work: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_COPIES) as pool:
        list(pool.map(work, names))
