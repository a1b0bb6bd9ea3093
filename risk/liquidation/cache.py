"""Where the compiled loops of this room are kept on disk: apart for each version of its sources.

Numba keeps a loop until the file it stands in changes, but not when a file it calls into does, so
an edited rule could go on being priced by the loops of yesterday.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from numba import config


@contextmanager
def own_cache() -> Iterator[None]:
    """Keep what is compiled inside in a folder named by the digest of the room's sources."""
    room = Path(__file__).parent
    digest = hashlib.sha256()
    # Options are valued by the room of contracts.
    for path in sorted([*room.rglob("*.py"), *(room.parent / "contracts").glob("*.py")]):
        digest.update(path.read_bytes())
    before = config.CACHE_DIR  # type: ignore[attr-defined]
    folder = Path(before or room / "__pycache__") / digest.hexdigest()[:16]
    config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
