"""Backtests as runs: past nights replayed on real history for a static book."""

from risk.replay.judge import (
    backtest_facts,
    calibrate_liquidations,
    judge,
    judge_liquidations,
    z_of_days,
)
from risk.replay.run import backtest

__all__ = [
    "backtest",
    "backtest_facts",
    "calibrate_liquidations",
    "judge",
    "judge_liquidations",
    "z_of_days",
]
