"""The chart of the probability transforms of the calibrated model."""

from __future__ import annotations

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter

from risk.reports.charts import HOLDER_SOFT, INK, Canvas, figure, style, tick_format
from risk.reports.view import Facts


def transforms(facts: Facts, n: int) -> Markup:
    """Histogram of the probability transforms; flat if the model were true."""
    canvas = Canvas("transforms", facts)
    with style():
        fig = figure(12.4, 2.6)
        ax = fig.subplots()
        heights = [facts.value(f"fit.bin.{place}") or 0.0 for place in range(n)]
        ax.bar([(place + 0.5) / n for place in range(n)], heights, 0.94 / n, color=HOLDER_SOFT)
        ax.axhline(100.0 / n, color=INK, lw=1.0, ls=(0, (4, 3)))
        ax.set_xlim(0.0, 1.0)
        ax.set_xlabel("probability the model gave to a return as low as the day's")
        ax.set_ylabel("% of days")
        ax.xaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.yaxis.set_major_formatter(FuncFormatter(tick_format))
        return canvas.svg(fig)
