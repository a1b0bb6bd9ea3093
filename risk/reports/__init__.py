"""The officer's report and the capital summary, both from one fact table.

``collect_facts`` turns a run's results into the table; ``render_officer`` and ``render_capital``
print it. No number reaches a page by another way.
"""

from risk.reports.facts import collect_facts
from risk.reports.inputs import (
    InputFile,
    MarginSummary,
    PreviousNight,
    QualityCheck,
    Reconciled,
    ReportInputs,
    RunIdentity,
)
from risk.reports.limits import Limit, LimitState, evaluate_limits, load_limits
from risk.reports.officer import render_officer
from risk.reports.regulator import render_capital
from risk.reports.section import Fact, Section

__all__ = [
    "Fact",
    "InputFile",
    "Limit",
    "LimitState",
    "MarginSummary",
    "PreviousNight",
    "QualityCheck",
    "Reconciled",
    "ReportInputs",
    "RunIdentity",
    "Section",
    "collect_facts",
    "evaluate_limits",
    "load_limits",
    "render_capital",
    "render_officer",
]
