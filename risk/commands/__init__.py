"""What the command line does, as functions: each is the command of the same name.

They return what they made, print nothing and read no clock. Everything heavy is imported inside,
so that `bulkhead --help` answers at once.
"""

from risk.commands.books import check, margin, sample
from risk.commands.nights import backtest, report, run, runs, serve, warmup
from risk.commands.stresses import stress

__all__ = [
    "backtest",
    "check",
    "margin",
    "report",
    "run",
    "runs",
    "sample",
    "serve",
    "stress",
    "warmup",
]
