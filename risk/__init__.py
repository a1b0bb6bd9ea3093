"""Bulkhead: the nightly risk engine for books of isolated-margin crypto derivatives.

`risk.pipeline.run` computes a night, `risk.open_run` opens a finished one.
"""

from __future__ import annotations

from typing import Any

__all__ = ["open_run"]


def __getattr__(name: str) -> Any:
    # Lazily: whoever imports one room must not pay for, or depend on, the store.
    if name == "open_run":
        from risk.store import open_run

        return open_run
    raise AttributeError(f"module 'risk' has no attribute {name!r}")
