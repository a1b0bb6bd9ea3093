"""Every error a person can cause, with the exit status the command line gives it.

A message is one sentence that names the file, the row and the fix; `--debug` adds the traceback.
"""

from __future__ import annotations


class BulkheadError(Exception):
    """Anything Bulkhead refuses to do; the base of the errors below."""

    exit_status = 1


class ConfigError(BulkheadError):
    """Bad usage, bad config, or a date the data cannot serve (exit 2)."""

    exit_status = 2


class DataError(BulkheadError):
    """A damaged, ill-typed or contradictory input file (exit 1)."""


class RunError(BulkheadError):
    """A run that could not be finished or read (exit 1)."""
