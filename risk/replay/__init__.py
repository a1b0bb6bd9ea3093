"""Backtests as runs: past nights replayed on real history for a static book."""

from risk.replay.judge import (
    backtest_facts,
    calibrate_liquidations,
    judge,
    judge_attribution,
    judge_liquidations,
    z_of_days,
)
from risk.replay.run import backtest
from risk.replay.shared import read_bars, write_bars

__all__ = [
    "backtest",
    "backtest_facts",
    "calibrate_liquidations",
    "judge",
    "judge_attribution",
    "judge_liquidations",
    "read_bars",
    "write_bars",
    "z_of_days",
]
