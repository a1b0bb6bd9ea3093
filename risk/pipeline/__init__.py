"""The whole night as a plain loop: snapshot, scenarios, ladders, cube, measures, reports.

Every stage is a function of a `Night` that reads and writes the run's folder, so that a scheduler
can call the same functions one by one, and a night that was killed is resumed by starting it again.
`flows.nightly` is this loop under Prefect; the bytes are the same.
"""

from risk.pipeline.book import plan
from risk.pipeline.night import Night, Progress, close, finished, open_night
from risk.pipeline.scenarios import historical_records, path_settings, window_bars
from risk.pipeline.stages import STAGES, publish, report_stage, run

__all__ = [
    "STAGES",
    "Night",
    "Progress",
    "close",
    "finished",
    "historical_records",
    "open_night",
    "path_settings",
    "plan",
    "publish",
    "report_stage",
    "run",
    "window_bars",
]
