"""Backtests as runs: past nights replayed on real history for a static book."""

from risk.replay.judge import (
    backtest_facts,
    calibrate_liquidations,
    judge,
    judge_attribution,
    judge_liquidations,
    z_of_days,
)
from risk.replay.run import (
    STAGES,
    Replay,
    backtest,
    close,
    finished,
    open_backtest,
    publish,
)
from risk.replay.shared import read_bars, write_bars

__all__ = [
    "STAGES",
    "Replay",
    "backtest",
    "backtest_facts",
    "calibrate_liquidations",
    "close",
    "finished",
    "judge",
    "judge_attribution",
    "judge_liquidations",
    "open_backtest",
    "publish",
    "read_bars",
    "write_bars",
    "z_of_days",
]
