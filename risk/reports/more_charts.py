"""Charts of the second half of the report: intervals, funds, liquidation curves and distances."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from risk.reports import choose
from risk.reports.charts import (
    BREACH,
    GRID,
    HOLDER,
    HOLDER_SOFT,
    INK,
    LINES,
    MUTED,
    VENUE,
    Canvas,
    figure,
    money,
    style,
    tick_format,
)
from risk.reports.inputs import ReportInputs
from risk.reports.view import Facts, printable, slug

_MARKERS = ("o", "s", "D", "^")
_SET_COLOURS = (HOLDER, VENUE, "#1d7a4f", "#7b3f98")


def intervals(facts: Facts, inputs: ReportInputs) -> Markup:
    """VaR and ES of every set at every confidence, with their intervals."""
    sets = choose.scenario_sets(inputs)
    group = choose.group_names(inputs, "total")[0]
    scale, unit = money(facts)
    rows = [
        (variable, confidence)
        for variable in ("value_at_risk", "expected_shortfall")
        for confidence in choose.confidences(inputs)
    ]
    canvas = Canvas("intervals", facts)
    with style():
        fig = figure(6.0, 0.9 + 0.5 * len(rows))
        ax = fig.subplots()
        for s, name in enumerate(sets):
            for row, (variable, confidence) in enumerate(rows):
                value, low, high = (
                    facts.value(choose.measure_id(variable + end, name, "total", group, confidence))
                    for end in ("", "_low", "_high")
                )
                if value is None:
                    continue
                y = row + 0.24 * (s - (len(sets) - 1) / 2)
                colour = _SET_COLOURS[s % 4]
                ends = [value if end is None else end for end in (low, high)]
                ax.plot([end / scale for end in ends], [y, y], color=colour, lw=3, alpha=0.35)
                ax.plot(
                    value / scale,
                    y,
                    _MARKERS[s % 4],
                    color=colour,
                    ms=5,
                    label=choose.words(name, choose.SET_WORDS) if row == 0 else None,
                )
        names = [
            f"{'VaR' if variable == 'value_at_risk' else 'ES'} {100 * confidence:g} %"
            for variable, confidence in rows
        ]
        ax.set_yticks(range(len(rows)), names, color=INK)
        ax.invert_yaxis()
        ax.set_xlim(left=0.0 if ax.get_xlim()[0] > 0 else None)
        ax.set_xlabel(f"loss, {unit}")
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.xaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.grid(axis="x", color=GRID, lw=0.6)
        ax.tick_params(axis="y", length=0)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8.5)
        return canvas.svg(fig)


def fund_use(facts: Facts, inputs: ReportInputs) -> Markup:
    """Worst stress deficit of each venue as a share of its own fund."""
    venues = choose.venues(inputs)
    used = {venue: facts.value(f"fund.use.{slug(venue)}") for venue in venues}
    venues = sorted(venues, key=lambda venue: -(used[venue] or 0.0))[:16]
    canvas = Canvas("funds", facts)
    # A fund used up many times over would flatten all others: cut the bar, keep its number.
    edge = min(max([110.0, *(1.1 * (used[venue] or 0.0) for venue in venues)]), 300.0)
    with style():
        fig = figure(6.0, 0.9 + 0.36 * max(len(venues), 2))
        ax = fig.subplots()
        for row, venue in enumerate(venues):
            use = used[venue] or 0.0
            full = use >= 100.0
            ax.barh(row, edge, 0.6, color="#f0f3f6")
            ax.barh(
                row,
                min(use, edge),
                0.6,
                color=BREACH if full else VENUE,
                hatch="////" if full else None,
                ec="white",
                lw=0,
            )
            canvas.fact(ax, edge, row, f"fund.use.{slug(venue)}", pad=4, va="center", weight="bold")
        for level, word in ((50.0, "half"), (100.0, "all of the fund")):
            ax.axvline(level, color=INK, lw=0.9, ls="-" if level == 100.0 else (0, (4, 3)))
            ax.text(level, -0.62, word, ha="center", va="bottom", color=MUTED, fontsize=8.5)
        ax.set_yticks(range(len(venues)), [printable(venue, 22) for venue in venues], color=INK)
        ax.set_ylim(len(venues) - 0.4, -0.6)
        ax.set_xlim(0.0, edge)
        ax.set_xlabel("worst stress deficit, % of the venue's own fund")
        ax.xaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        return canvas.svg(fig)


def liquidation_curves(facts: Facts, inputs: ReportInputs) -> Markup:
    """Notional liquidated by an asset's own move, falls to the left and rises to the right."""
    assets = choose.curve_assets(inputs, choose.N_CURVES)
    scale, unit = money(facts)
    moves = 100.0 * inputs.curves["move"].values
    notional = inputs.curves["liquidated_notional"].transpose("asset", "move")
    canvas = Canvas("curves", facts)
    with style():
        fig = figure(12.4, 4.0)
        ax = fig.subplots()
        values = [notional.sel(asset=asset).values / scale for asset in assets]
        for (colour, dash), line in zip(LINES, values, strict=False):
            ax.plot(moves, line, color=colour, ls=dash, lw=1.7)
        top = max([float(np.nanmax(line)) for line in values], default=1.0) or 1.0
        for end, side in ((0, "right"), (-1, "left")):
            heights = spread([float(line[end]) for line in values], 0.055 * top)
            for asset, height, (colour, _) in zip(assets, heights, LINES, strict=False):
                gap = -1.0 if end == 0 else 1.0
                at = {"ha": side, "va": "center", "color": colour, "weight": "bold"}
                canvas.label(ax, moves[end] + gap, height, asset, **at)
        ax.axvline(0.0, color=MUTED, lw=0.8)
        ax.set_ylim(-0.02 * top, 1.08 * top)
        ax.set_xlim(moves.min() - 9, moves.max() + 9)
        for x, word in ((0.44, "falls hit longs"), (0.56, "rises hit shorts")):
            ax.text(x, 0.99, word, transform=ax.transAxes, ha="center", va="top", color=MUTED)
        ax.set_xlabel("own price move, %")
        ax.set_ylabel(f"liquidated notional, {unit}")
        ax.xaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.yaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.grid(axis="y", color=GRID, lw=0.6)
        return canvas.svg(fig)


def spread(heights: list[float], least: float) -> list[float]:
    """Move label heights to at least `least` apart and above zero, keeping their order.

    Examples
    --------
    >>> spread([1.0, 1.0, 5.0], 1.0)
    [0.5, 1.5, 5.0]
    >>> spread([0.0, 0.0], 1.0)
    [0.0, 1.0]
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    clusters: list[list[int]] = []
    centres: list[float] = []
    for index in order:
        clusters.append([index])
        centres.append(heights[index])
        while len(clusters) > 1:
            half = least * (len(clusters[-1]) + len(clusters[-2])) / 2
            if centres[-1] - centres[-2] >= half - 1e-12:
                break
            merged = clusters[-2] + clusters[-1]
            clusters[-2:] = [merged]
            centres[-2:] = [sum(heights[item] for item in merged) / len(merged)]
    moved = list(heights)
    for cluster, centre in zip(clusters, centres, strict=True):
        for place, index in enumerate(cluster):
            moved[index] = centre + least * (place - (len(cluster) - 1) / 2)
    lowest = 0.0
    for index in order:
        moved[index] = max(moved[index], lowest)
        lowest = moved[index] + least
    return moved


def distances(facts: Facts, inputs: ReportInputs) -> Markup:
    """Notional by how far the mark may still move before liquidation, longs beside shorts."""
    distance = inputs.margin.distance
    scale, unit = money(facts)
    lower, upper = 100.0 * distance["lower"].values, 100.0 * distance["upper"].values
    names = [
        f"{low:g}\N{EN DASH}{high:g} %" if np.isfinite(high) else f"over {low:g} %"
        for low, high in zip(lower, upper, strict=True)
    ]
    canvas = Canvas("distances", facts)
    with style():
        fig = figure(12.4, 3.1)
        ax = fig.subplots()
        x = np.arange(len(names))
        tops = np.zeros(len(names))
        for s, side in enumerate(distance["side"].values):
            values = distance["notional_usd"].sel(side=side).values / scale
            ax.bar(
                x + 0.4 * (s - 0.5),
                values,
                0.38,
                color=HOLDER if s == 0 else HOLDER_SOFT,
                hatch=None if s == 0 else "....",
                ec="white",
                lw=0,
                label=printable(side, 20),
            )
            tops = np.maximum(tops, values)
        for k, top in enumerate(tops):
            canvas.fact(ax, k, top, f"distance.{k}.share", ha="center", va="bottom", weight="bold")
        ax.set_xticks(x, names, color=INK)
        ax.set_ylim(0.0, 1.15 * max([*tops, 0.0]) or 1.0)
        ax.set_ylabel(f"notional, {unit}")
        ax.set_xlabel("adverse move left before liquidation (label: share of notional)")
        ax.yaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.grid(axis="y", color=GRID, lw=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="x", length=0)
        ax.legend(loc="upper right", frameon=False, ncols=2)
        return canvas.svg(fig)
