"""Account pools: positions that share collateral, through joint paths."""

from risk.liquidation.cross.contrast import (
    collateral_needed,
    contrast,
    isolated_positions,
    pool_margins,
    pool_results,
)

__all__ = [
    "collateral_needed",
    "contrast",
    "isolated_positions",
    "pool_margins",
    "pool_results",
]
