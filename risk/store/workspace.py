"""A run being written: its hidden folder, the lock on it, and the moment it becomes visible.

A run grows in ``OUT/as_of=<date>/.run=<id>.part/``. Publishing writes the manifest with the
checksum of every file, forces all of it to disk and renames the folder to ``run=<id>``: a reader
sees the whole run or nothing. ``OUT/LATEST.json`` is replaced afterwards, also in one step.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from risk.config import Config, config_digest
from risk.errors import RunError
from risk.store.identity import check_code, code_digest, file_digest, versions

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST, LATEST = "manifest.json", "LATEST.json"
#: Names of files that a writer had not finished when it was killed.
UNFINISHED = (".tmp", ".partial")
#: Files forced to disk at once: each is waited for, and a disk takes many.
_AT_ONCE = 16


@dataclass(frozen=True)
class Workspace:
    """The folder of an unfinished run, locked against a second process until `close`.

    Attributes
    ----------
    path : Path
        The folder; stages write here. Left over from a killed run, it holds what that run
        finished. A name that ends with ``.tmp`` or ``.partial`` is not published.
    out : Path
        Folder of all runs.
    as_of : date
        Date of the snapshot.
    run_id : str
        See `risk.store.run_id`.
    """

    path: Path
    out: Path
    as_of: dt.date
    run_id: str
    _lock: _Lock | None

    def lent(self) -> Workspace:
        """The same folder for a process that works for the one with the lock."""
        return replace(self, _lock=None)

    def close(self) -> None:
        """Give the lock back; the folder stays and is resumed by the next start."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Lock:
    """An exclusive lock of the operating system, which a killed process cannot leave behind."""

    def __init__(self, path: Path, busy: str | None) -> None:
        """Take the lock; wait for it when `busy` is None, else raise that sentence."""
        self._path = path
        while True:
            fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                holder = os.pread(fd, 200, 0).decode(errors="replace").strip()
                os.close(fd)
                raise RunError(f"{busy} ({holder or 'another process'})") from None
            # The last holder may have removed the file while we waited: then lock the new one.
            with suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == path.stat().st_ino:
                    break
            os.close(fd)
        os.truncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._fd: int | None = fd

    def release(self) -> None:
        """Remove the lock file and free it; a second call does nothing."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None


def run_folder(out: Path, as_of: dt.date, run_id: str) -> Path:
    """Where a finished run lies."""
    return Path(out) / f"as_of={as_of.isoformat()}" / f"run={run_id}"


def finished_run(out: str | Path, as_of: dt.date, run_id: str) -> Path | None:
    """Folder of a run that is already finished, or None.

    A finished run is taken as it is; only the pointer is put right and the lock's file removed, in
    case the process that finished it died before it could.
    """
    path = run_folder(Path(out), as_of, run_id)
    if not path.is_dir():
        return None
    if not (path / MANIFEST).is_file():
        raise RunError(f"{path}: has no {MANIFEST}, so it was damaged after it finished; remove it")
    if (left := _lock_file(path)).exists():
        with suppress(RunError):  # it is publishing just now and removes the file itself
            _Lock(left, busy=f"{path}: is being published").release()
    point_at_latest(Path(out))
    return path


def _lock_file(final: Path) -> Path:
    return final.parent / f".{final.name}.lock"


def open_workspace(out: str | Path, as_of: dt.date, run_id: str) -> Workspace:
    """Create or reopen the folder of an unfinished run and lock it.

    Raises
    ------
    RunError
        If another process works on this run, or it is finished.
    """
    out = Path(out)
    final = run_folder(out, as_of, run_id)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = _Lock(
            _lock_file(final),
            busy=f"{final}: this run is already running; wait for it or stop it",
        )
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); choose another out") from None
    if final.exists():
        lock.release()
        raise RunError(f"{final}: this run is finished; open it, or remove it to compute it again")
    part = final.parent / f".{final.name}.part"
    part.mkdir(exist_ok=True)
    return Workspace(part, out, as_of, run_id, lock)


def publish(
    workspace: Workspace,
    config: Config,
    inputs: Mapping[str, str],
    *,
    coverage: pa.Table,
    timings: Mapping[str, float],
    breaches: Sequence[str] = (),
    scratch: Iterable[str] = (),
) -> Path:
    """Make a complete run visible, in one step.

    Parameters
    ----------
    workspace : Workspace
        Its folder holds every output; it is renamed and its lock is given back.
    config : Config
        What was asked.
    inputs : Mapping of str to str
        Every file read, with its digest; the ones `run_id` was made of.
    coverage : Table
        Schema ``COVERAGE``.
    timings : Mapping of str to float
        Seconds by stage.
    breaches : sequence of str
        One sentence per breached limit, and one if coverage is below its floor.
    scratch : iterable of str
        Files and folders of the workspace that are not part of the run.

    Returns
    -------
    Path
        Folder of the finished run.

    Raises
    ------
    RunError
        If the sources changed while the run was computed.
    """
    check_code()
    part, final = workspace.path, run_folder(workspace.out, workspace.as_of, workspace.run_id)
    _remove_scratch(part, scratch)
    manifest: dict[str, Any] = {
        "manifest": 1,
        "run_id": workspace.run_id,
        "as_of": workspace.as_of.isoformat(),
        "code_digest": code_digest(),
        "config_digest": config_digest(config),
        "config": config.model_dump(mode="json"),
        "seeds": {"monte_carlo": config.seed},
        "inputs": dict(sorted(inputs.items())),
        "versions": versions(),
        "coverage": coverage.to_pylist(),
        "breaches": list(breaches),
        "timings": {stage: round(seconds, 3) for stage, seconds in timings.items()},
        "outputs": _seal(part),
    }
    _write(part / MANIFEST, manifest)
    _sync(part)
    os.rename(part, final)
    _sync(final.parent)
    workspace.close()
    point_at_latest(workspace.out)
    return final


def _remove_scratch(part: Path, scratch: Iterable[str]) -> None:
    unfinished = [path for path in part.rglob("*") if path.suffix in UNFINISHED]
    for path in (*unfinished, *(part / name for name in (*scratch, MANIFEST))):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _seal(folder: Path) -> dict[str, dict[str, Any]]:
    """Checksum and size of every file below `folder`, each forced to disk."""

    def seal(path: Path) -> dict[str, Any]:
        _sync(path)
        return {"sha256": file_digest(path), "bytes": path.stat().st_size}

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sealed = dict(zip(files, pool.map(seal, files), strict=True))
        list(pool.map(_sync, [path for path in folder.rglob("*") if path.is_dir()]))
    return {path.relative_to(folder).as_posix(): entry for path, entry in sealed.items()}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def finished_folders(out: Path) -> list[Path]:
    """Folders of the finished runs, by as-of date and then in the order they finished."""
    manifests = [path / MANIFEST for path in out.glob("as_of=*/run=*")]
    order = [
        (path.parts[-3], path.stat().st_mtime_ns, path.parts[-2], path.parent)
        for path in manifests
        if path.is_file()
    ]
    return [folder for *_, folder in sorted(order)]


def point_at_latest(out: Path) -> None:
    """Let ``LATEST.json`` name the finished run with the greatest as-of, then the last finished."""
    with _waiting_lock(out / ".LATEST.lock"):
        newest = finished_folders(out)[-1]
        pointer = {
            "as_of": newest.parent.name.removeprefix("as_of="),
            "run_id": newest.name.removeprefix("run="),
            "path": newest.relative_to(out).as_posix(),
        }
        aside = out / f".{LATEST}.tmp"
        _write(aside, pointer)
        os.replace(aside, out / LATEST)
        _sync(out)


@contextmanager
def _waiting_lock(path: Path) -> Iterator[None]:
    lock = _Lock(path, busy=None)
    try:
        yield
    finally:
        lock.release()
