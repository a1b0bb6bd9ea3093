"""Options on the ladder: valued per contract and step, never per position.

Each contract is a driver of its own: the requirement per unit along a path, whose running maximum
closes every writer with less backing per unit. `docs/methods/options.md` has the rules and limits.
"""

from risk.liquidation.options.book import build_options, is_option, read_options
from risk.liquidation.options.columns import Contracts, Holdings, Options, Valued
from risk.liquidation.options.kept import (
    check_valued,
    join_valued,
    load_valued,
    save_valued,
    take_valued,
)
from risk.liquidation.options.tails import holding_probabilities, measure_holdings
from risk.liquidation.options.walk import add_options, holding_outcomes, option_moves, value_options

__all__ = [
    "Contracts",
    "Holdings",
    "Options",
    "Valued",
    "add_options",
    "build_options",
    "check_valued",
    "holding_outcomes",
    "holding_probabilities",
    "is_option",
    "join_valued",
    "load_valued",
    "measure_holdings",
    "option_moves",
    "read_options",
    "save_valued",
    "take_valued",
    "value_options",
]
