"""What names a run: the content of its inputs, its config and the code. Never the clock."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from risk.errors import RunError

#: Libraries whose version can change the bytes of a result.
NUMERIC_LIBRARIES = ("numba", "numpy", "pandas", "pyarrow", "scipy", "xarray", "zarr")

_SOURCES = Path(__file__).resolve().parents[1]


def file_digest(path: str | Path) -> str:
    """SHA-256 (hex) of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_digest() -> str:
    """SHA-256 (hex) of the installed sources, templates and numeric libraries' versions.

    Digesting the files rather than the version means that an edited tree never passes for the
    release it started from. Taken once: it names the code this process began with.
    """
    return _digest_sources()


def check_code() -> None:
    """Refuse a result that two versions of the code had a hand in.

    Modules, templates and worker processes are loaded as they are needed: sources that change
    while a night runs would be half in its numbers and not at all in its name.

    Raises
    ------
    RunError
        If the sources are no longer those this process began with.
    """
    if _digest_sources() != code_digest():
        raise RunError(
            f"{_SOURCES}: the sources or their libraries changed while this ran; start it again"
        )


def _digest_sources() -> str:
    digest = hashlib.sha256()
    for file in sorted(_SOURCES.rglob("*")):
        name = file.relative_to(_SOURCES)
        if file.is_file() and "__pycache__" not in name.parts:
            digest.update(f"{name.as_posix()}\0{file_digest(file)}\n".encode())
    for library in ("bulkhead", *NUMERIC_LIBRARIES):
        digest.update(f"{library}=={metadata.version(library)}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Version of Bulkhead and of everything it requires."""
    required = [line for line in metadata.requires("bulkhead") or [] if "extra ==" not in line]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required]
    return {name: metadata.version(name) for name in ("bulkhead", *sorted(names))}


def run_id(
    inputs: Mapping[str, str], config_digest: str, as_of: dt.date, *, code: str | None = None
) -> str:
    """Name of a run: 16 hex digits.

    Parameters
    ----------
    inputs : Mapping of str to str
        Name of every file read (snapshot, history, venues, stresses, limits, capital) to the
        SHA-256 of its content. Names are relative to the input's own folder, so moving a folder
        changes nothing.
    config_digest : str
        See `risk.config.config_digest`.
    as_of : date
        Date of the snapshot.
    code : str, optional
        `code_digest` of the sources that compute the run; of the installed ones when absent.

    Examples
    --------
    >>> import datetime as dt
    >>> day = dt.date(2025, 6, 29)
    >>> run_id({"positions.parquet": "ab"}, "cd", day, code="ef")
    '2f46dc856caab0fc'
    >>> run_id({"positions.parquet": "ac"}, "cd", day, code="ef") == _
    False
    """
    parts = {
        "inputs": dict(inputs),
        "config": config_digest,
        "as_of": as_of.isoformat(),
        "code": code or code_digest(),
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
