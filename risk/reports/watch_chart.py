"""Chart of a backtest: each day's P&L against its value at risk."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from risk.reports.charts import (
    BREACH,
    GRID,
    HOLDER_SOFT,
    INK,
    Canvas,
    figure,
    money,
    style,
    tick_format,
)
from risk.reports.view import Facts


def watch_chart(facts: Facts, days: pa.Table) -> Markup:
    """P&L as bars, value at risk as a step line below zero, exceedances marked."""
    scale, unit = money(facts)
    pnl = days["pnl_usd"].to_numpy(zero_copy_only=False).astype("f8") / scale
    bound = -days["value_at_risk_usd"].to_numpy(zero_copy_only=False) / scale
    hit = days["is_exceedance"].to_numpy(zero_copy_only=False).astype(bool)
    at = np.arange(len(pnl))
    canvas = Canvas("watch", facts)
    with style():
        fig = figure(9.0, 2.7)
        ax = fig.subplots()
        ax.bar(at, np.nan_to_num(pnl), width=1.0, color=HOLDER_SOFT, lw=0)
        ax.step(at, bound, where="mid", color=INK, lw=1.2)
        low = np.where(np.isnan(pnl), bound, pnl)
        ax.plot(at[hit], low[hit], "v", color=BREACH, ms=6)
        ax.axhline(0.0, color=INK, lw=0.6)
        ax.set_xlim(-1, len(pnl))
        months = [day.month for day in days["day"].to_pylist()]
        starts = [k for k in range(1, len(months)) if months[k] != months[k - 1]]
        names = [f"{days['day'][k].as_py():%Y-%m}" for k in starts]
        ax.set_xticks(starts[::2], names[::2])
        ax.set_ylabel(f"P&L, {unit}")
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(FuncFormatter(tick_format))
        ax.grid(axis="y", color=GRID, lw=0.6)
        return canvas.svg(fig)
