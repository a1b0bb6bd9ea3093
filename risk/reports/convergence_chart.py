"""Chart of measures as scenarios are added, with their intervals."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

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
from risk.reports.view import Facts, format_number

_LINES = (("value_at_risk", "VaR", HOLDER, "-"), ("expected_shortfall", "ES", VENUE, (0, (6, 2))))


def convergence_chart(facts: Facts, steps: pa.Table) -> Markup:
    """Value at risk and expected shortfall on the first n scenarios, shaded intervals."""
    scale, unit = money(facts)
    n = steps["n"].to_numpy()
    canvas = Canvas("convergence", facts)
    with style():
        fig = figure(9.0, 2.9)
        ax = fig.subplots()
        for name, words, colour, dash in _LINES:
            value, low, high = (
                steps[name + end].to_numpy(zero_copy_only=False).astype("f8") / scale
                for end in ("", "_low", "_high")
            )
            ax.plot(n, value, color=colour, ls=dash, lw=1.6)
            known = np.isfinite(low) & np.isfinite(high)
            ax.fill_between(n, low, high, where=known, color=colour, alpha=0.15, lw=0)
            ax.annotate(
                words, (n[-1], value[-1]), (6, 0), textcoords="offset points",
                color=colour, va="center",
            )  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(10))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_number(x, 0)))
        ax.set_xlim(n[0], n[-1] * 1.1)
        ax.set_xlabel("scenarios, log scale", color=INK)
        ax.set_ylabel(f"loss, {unit}")
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.grid(axis="y", color=GRID, lw=0.6)
        return canvas.svg(fig)
