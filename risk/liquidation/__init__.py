"""Liquidation that depends on the path: rungs, ladders, gaps, and the positions behind them."""

from risk.liquidation.accounts import account_losses
from risk.liquidation.cross.contrast import collateral_needed, contrast, isolated_positions
from risk.liquidation.cross.lives import uncounted_outcomes
from risk.liquidation.curve import liquidation_curve
from risk.liquidation.impact import Impact, square_root_impact
from risk.liquidation.ladder import Ladders, build_ladders, load_ladders
from risk.liquidation.margins import Uncovered, uncovered_losses
from risk.liquidation.positions import (
    liquidation_probability,
    position_outcomes,
    rows_in_steps,
)
from risk.liquidation.tails import position_tails
from risk.liquidation.walk import walk
from risk.liquidation.waterfall import Waterfall, auto_deleverage

__all__ = [
    "Impact",
    "Ladders",
    "Uncovered",
    "Waterfall",
    "account_losses",
    "auto_deleverage",
    "build_ladders",
    "collateral_needed",
    "contrast",
    "isolated_positions",
    "liquidation_curve",
    "liquidation_probability",
    "load_ladders",
    "position_outcomes",
    "position_tails",
    "rows_in_steps",
    "square_root_impact",
    "uncounted_outcomes",
    "uncovered_losses",
    "walk",
]
