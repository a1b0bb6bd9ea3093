"""Run folders: what names a run, how it is written aside and published, how it is read again."""

from risk.store.identity import code_digest, file_digest, run_id
from risk.store.runs import Comparison, Run, compare_runs, list_runs, open_run, verify
from risk.store.workspace import Workspace, finished_run, open_workspace, publish

__all__ = [
    "Comparison",
    "Run",
    "Workspace",
    "code_digest",
    "compare_runs",
    "file_digest",
    "finished_run",
    "list_runs",
    "open_run",
    "open_workspace",
    "publish",
    "run_id",
    "verify",
]
