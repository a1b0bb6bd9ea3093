"""The chart of what each asset's own move does."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter

from risk.reports.charts import (
    GRID,
    INK,
    LINES,
    Canvas,
    figure,
    money,
    style,
    tick_format,
)
from risk.reports.view import Facts, printable, slug


def asset_moves(facts: Facts, assets: Sequence[str], moves: Sequence[float]) -> Markup:
    """Holders' P&L against each asset's own move."""
    scale, unit = money(facts)
    canvas = Canvas("assets", facts)
    with style():
        fig = figure(12.4, 3.6)
        ax = fig.subplots()
        for (colour, dash), name in zip(LINES, assets, strict=False):
            values = [
                (facts.value(f"moves.asset.{slug(name)}.{i}") or 0.0) / scale
                for i in range(len(moves))
            ]
            ax.plot([100 * move for move in moves], values, color=colour, ls=dash, lw=1.5,
                    label=printable(name, 16))  # fmt: skip
        ax.axhline(0.0, color=INK, lw=0.6)
        ax.axvline(0.0, color=INK, lw=0.6)
        ax.set_xlabel("own move of the asset, %")
        ax.set_ylabel(f"holders' P&L, {unit}")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(tick_format))
        ax.grid(color=GRID, lw=0.6)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False, fontsize=8.5)
        return canvas.svg(fig)
