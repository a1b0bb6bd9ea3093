"""What a worker loads before it is given work: the blocks' code, and which version of it that is.

``dask worker ... --preload risk.worker`` on another machine; our own workers do it by themselves.
"""

from __future__ import annotations

from risk.block import run_block
from risk.store import code_digest

__all__ = ["run_block", "version"]


def version() -> str:
    """SHA-256 (hex) of the sources and libraries this process began with."""
    return code_digest()


# Now, and not when it is first asked: sources that change later are not those that were loaded.
version()
