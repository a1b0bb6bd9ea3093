"""Liquidation that depends on the path: rungs, ladders, gaps, and the positions behind them."""

from risk.liquidation.cache import own_cache

with own_cache():
    from risk.liquidation.cross import (
        collateral_needed,
        contrast,
        isolated_positions,
        pool_margins,
        pool_results,
    )
    from risk.liquidation.curve import liquidation_curve
    from risk.liquidation.impact import Impact, square_root_impact
    from risk.liquidation.ladder import Ladders, build_ladders, load_ladders
    from risk.liquidation.margins import Uncovered, uncovered_losses
    from risk.liquidation.positions import (
        account_losses,
        liquidation_probability,
        position_outcomes,
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
    "pool_margins",
    "pool_results",
    "position_outcomes",
    "position_tails",
    "square_root_impact",
    "uncovered_losses",
    "walk",
]
