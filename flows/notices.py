"""What a night says while it runs: one console for bar and lines, and a plain log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from risk.errors import BulkheadError

#: The one console: a line written by another one would cut the progress bar in two.
CONSOLE = Console(stderr=True)

#: Prefect's loggers of what happens in a run; they do not reach the root.
_RUNS = ("prefect.flow_runs", "prefect.task_runs")


def console_handler() -> logging.Handler:
    """Handler that prints above the progress bar: warnings, and what the schedule's runner does."""
    handler = RichHandler(console=CONSOLE, show_time=False, show_path=False, markup=False)
    # By level alone dask would get through, which sets the level of its own loggers.
    handler.addFilter(
        lambda record: record.levelno >= logging.WARNING or record.name == "prefect.runner"
    )
    return handler


class OneSentence(logging.Filter):
    """Leave the traceback out where a person's mistake is told in one clear sentence."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record; take the traceback from those that need none."""
        if record.exc_info and isinstance(record.exc_info[1], BulkheadError):
            record.exc_info = record.exc_text = None
        return True


class _Plain(logging.Formatter):
    """One line per event, in UTC."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Say when, how bad, where and what."""
        where = getattr(record, "task_run_name", None)
        if where is None and record.name not in _RUNS:
            where = record.name
        record.where = f"{where}: " if where else ""
        return super().format(record)


def _belongs(record: logging.LogRecord) -> bool:
    """What happens to the night itself, and every library's warnings."""
    if record.name not in _RUNS:
        return record.levelno >= logging.WARNING
    # Each stage says itself how long it took.
    return "Finished in state Completed" not in record.getMessage()


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append what happens to a plain text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Plain("%(asctime)s %(levelname)-7s %(where)s%(message)s"))
    handler.addFilter(_belongs)
    loggers = [logging.getLogger(name) for name in (*_RUNS, None)]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
