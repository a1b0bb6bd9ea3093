"""The chart of posted and required margins by leverage."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter

from risk.reports.charts import (
    BREACH,
    GRID,
    HOLDER_SOFT,
    INK,
    VENUE,
    Canvas,
    figure,
    style,
    tick_format,
)
from risk.reports.view import Facts

#: Levels that are marked: fact, words, colour, marker.
_MARKS = (
    ("required", "required for deficits", BREACH, "D"),
    ("required_stressed", "at stressed volatility", BREACH, "d"),
    ("liquidation", "required for liquidations", VENUE, "o"),
    ("liquidation_stressed", "at stressed volatility", VENUE, "."),
)


def posted_and_required(facts: Facts, rows: Sequence[tuple[str, str]]) -> Markup:
    """Equity of every leverage bucket as bars, its requirements as marks, in % of the notional."""
    canvas = Canvas("posted", facts)
    with style():
        fig = figure(12.4, 1.3 + 0.42 * len(rows))
        ax = fig.subplots()
        places = [float(place) for place in range(len(rows))]
        equity = [facts.value(f"{key}.equity") or 0.0 for _, key in rows]
        ax.barh(places, equity, 0.62, color=HOLDER_SOFT, label="posted: equity at the mark")
        for name, words, colour, marker in _MARKS:
            level = [facts.value(f"{key}.{name}") or 0.0 for _, key in rows]
            filled = "none" if name.endswith("stressed") else colour
            ax.plot(level, places, marker, color=colour, mfc=filled, ms=6, ls="none", label=words)
        for place, (_, key) in zip(places, rows, strict=True):
            # Beside the longest bar, where no mark is in the way.
            canvas.fact(ax, 120.0, place, f"{key}.equity", va="center", color=INK, weight="bold")
        ax.set_xscale("symlog", linthresh=1.0, linscale=0.4)
        ax.set_yticks(places, [label for label, _ in rows], color=INK)
        ax.invert_yaxis()
        ax.set_xlim(0.0, 220.0)
        ax.set_xticks([0, 1, 2, 5, 10, 20, 50, 100])
        ax.xaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.minorticks_off()
        ax.set_xlabel("% of the notional (log scale above 1 %)")
        ax.grid(axis="x", color=GRID, lw=0.6)
        ax.tick_params(axis="y", length=0)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize=8.5)
        return canvas.svg(fig)
