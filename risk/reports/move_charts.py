"""Charts of grids of moves: a heat table, and what each asset's own move does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter

from risk.reports.charts import (
    BREACH,
    GRID,
    HOLDER,
    INK,
    LINES,
    Canvas,
    figure,
    money,
    style,
    tick_format,
)
from risk.reports.view import Facts, printable, slug


def heat(
    facts: Facts, measure: str, moves: Sequence[float], volatilities: Sequence[float]
) -> Markup:
    """A table of common moves by volatility on the way, every cell with its number."""
    canvas = Canvas(measure, facts)
    values = np.array(
        [
            [facts.value(f"moves.common.{measure}.{i}.{j}") or 0.0 for i in range(len(moves))]
            for j in range(len(volatilities))
        ]
    )
    losses = np.maximum(-values if measure == "pnl" else values, 0.0)
    colour = HOLDER if measure == "pnl" else BREACH
    shades = LinearSegmentedColormap.from_list(measure, ["#ffffff", colour])
    # The root keeps small cells apart; half of the colour keeps the numbers readable.
    shade = 0.6 * np.sqrt(losses / losses.max()) if losses.max() > 0 else losses
    with style():
        fig = figure(12.4, 1.1 + 0.36 * len(volatilities))
        ax = fig.subplots()
        ax.pcolormesh(shade, cmap=shades, vmin=0.0, vmax=1.0, edgecolors=GRID, lw=0.6)
        for j in range(len(volatilities)):
            for i in range(len(moves)):
                canvas.fact(
                    ax, i + 0.5, j + 0.5, f"moves.common.{measure}.{i}.{j}",
                    ha="center", va="center", fontsize=7.5, color=INK,
                )  # fmt: skip
        ax.set_xticks(np.arange(len(moves)) + 0.5, [f"{100 * move:+.0f} %" for move in moves])
        ax.set_yticks(np.arange(len(volatilities)) + 0.5, [f"{v:g}x" for v in volatilities])
        ax.invert_yaxis()
        ax.set_xlabel("common move of all assets")
        ax.set_ylabel("volatility on the way")
        ax.tick_params(length=0)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
        return canvas.svg(fig)


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
