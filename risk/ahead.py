"""What a night's worker processes need, begun before anything heavy is imported here.

Only the config need be known: the workers' imports then pass beside this process's own.
"""

from __future__ import annotations

from risk.config import Config
from risk.engine import import_ahead

#: Modules that workers of this machine load before they are given work.
NEEDED = ("risk.worker", "risk.pipeline.measures")


def prepare_workers(config: Config) -> None:
    """Begin to import what the workers need, if the night has any on this machine."""
    if config.execution.executor == "dask" and config.execution.address is None:
        import_ahead(NEEDED)
