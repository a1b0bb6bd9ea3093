"""What a night must hold against its book: past windows, backtest of tonight's book, capital lines.

It brings the measured numbers to `risk.capital`, which holds the rules.
"""

from risk.solvency.capital import capital_lines
from risk.solvency.parts import pool_parts, position_parts
from risk.solvency.watch import WATCH, watch_book
from risk.solvency.windows import WindowPnl, window_pnl

__all__ = [
    "WATCH",
    "WindowPnl",
    "capital_lines",
    "pool_parts",
    "position_parts",
    "watch_book",
    "window_pnl",
]
