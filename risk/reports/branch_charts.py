"""The chart of what a branch changes in every stress."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter

from risk.reports.charts import (
    GRID,
    HOLDER,
    INK,
    VENUE,
    Canvas,
    figure,
    money,
    style,
    tick_format,
)
from risk.reports.view import Facts, printable


def stress_differences(facts: Facts, rows: Sequence[tuple[str, str]]) -> Markup:
    """Change of the holders' P&L and of the deficit, stress by stress."""
    scale, unit = money(facts)
    canvas = Canvas("differences", facts)
    with style():
        fig = figure(12.4, 1.2 + 0.44 * len(rows))
        ax = fig.subplots()
        places = [float(place) for place in range(len(rows))]
        for shift, measure, colour, words in (
            (-0.19, "pnl", HOLDER, "holders' P&L"),
            (0.19, "deficit", VENUE, "deficit"),
        ):
            values = [
                (facts.value(f"{key}.{measure}.difference") or 0.0) / scale for _, key in rows
            ]
            at = [place + shift for place in places]
            ax.barh(at, values, 0.34, color=colour, label=words)
            for y, value, (_, key) in zip(at, values, rows, strict=True):
                canvas.fact(
                    ax, max(value, 0.0), y, f"{key}.{measure}.difference", sign=True, pad=4,
                    va="center", color=INK, fontsize=8,
                )  # fmt: skip
        ax.axvline(0.0, color=INK, lw=0.8)
        ax.set_yticks(places, [printable(name, 34) for name, _ in rows], color=INK)
        ax.invert_yaxis()
        ax.margins(x=0.12)
        ax.set_xlabel(f"branch less base, {unit}")
        ax.xaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.grid(axis="x", color=GRID, lw=0.6)
        ax.tick_params(axis="y", length=0)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8.5)
        return canvas.svg(fig)
