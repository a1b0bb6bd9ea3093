"""From a run's files to what the reports are made of: totals, summaries, checks and identity.

No finance happens here: it adds up, selects and puts into words.
"""

from risk.findings.gaps import gap_sensitivity
from risk.findings.gather import breaches, report_inputs, write_reports
from risk.findings.market import insurance_funds, market_notes, window_notes
from risk.findings.stresses import N_ACCOUNTS

__all__ = [
    "N_ACCOUNTS",
    "breaches",
    "gap_sensitivity",
    "insurance_funds",
    "market_notes",
    "report_inputs",
    "window_notes",
    "write_reports",
]
