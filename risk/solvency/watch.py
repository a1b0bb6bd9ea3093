"""Backtest of tonight's book over the latest 250 days: last year's days against the windows before.

The book is static in ratios (docs/methods/backtest_replay.md), so a plain historical forecast of a
past night is an order statistic of the windows that ended by then: no night is run again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view

from risk.backtest import exceedances
from risk.measures import expected_shortfall, value_at_risk
from risk.solvency.windows import WindowPnl

#: Days that are judged, as MAR32 counts them; and the least windows a forecast is made with.
N_DAYS, LEAST_WINDOWS = 250, 250

WATCH = pa.schema(
    [
        pa.field("day", pa.date32(), False),
        pa.field("pnl_usd", pa.float64(), True),
        pa.field("value_at_risk_usd", pa.float64(), False),
        pa.field("expected_shortfall_usd", pa.float64(), False),
        pa.field("is_exceedance", pa.bool_(), False),
        pa.field("n_windows", pa.int64(), False),
        pa.field("cause", pa.string(), True),
    ]
)


def watch_book(
    windows: WindowPnl, *, most: int, confidence: float = 0.99, es_confidence: float = 0.975
) -> pa.Table:
    """Forecast and P&L of each of the latest days.

    Parameters
    ----------
    windows : WindowPnl
        Of one day each.
    most : int
        Windows a forecast is made with, if the history has them.
    confidence, es_confidence : float
        Of the value at risk and the expected shortfall.

    Returns
    -------
    Table
        Schema ``WATCH``, in order of time; no row where the history is too short. A day on which
        an asset with positions has no price of its own, though it had one before, has no P&L and
        counts as an exceedance.
    """
    total = windows.pnl.sum(axis=1)
    n_days = min(N_DAYS, len(total) - LEAST_WINDOWS)
    if n_days < 1:
        return WATCH.empty_table()
    length = min(most, len(total) - n_days)
    first = len(total) - n_days
    before = sliding_window_view(total[first - length : -1], length)
    var = value_at_risk(before, confidence)
    es = expected_shortfall(before, es_confidence)
    lost = _lost(windows)[first:]
    pnl = np.where(lost.any(axis=1), np.nan, total[first:])
    hit = exceedances(pnl, var)
    rows: list[dict[str, Any]] = []
    for at in range(n_days):
        window = first + at
        rows.append(
            {
                "day": windows.day[window].item(),
                "pnl_usd": None if np.isnan(pnl[at]) else float(pnl[at]),
                "value_at_risk_usd": float(var[at]),
                "expected_shortfall_usd": float(es[at]),
                "is_exceedance": bool(hit[at]),
                "n_windows": length,
                "cause": _cause(windows, window, lost[at]) if hit[at] else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=WATCH)


def _lost(windows: WindowPnl) -> np.ndarray:
    """Whether an asset that had prices before lacks them (window, asset)."""
    known = np.logical_or.accumulate(windows.is_own, axis=0)
    held = (windows.pnl != 0.0).any(axis=0)
    return known & ~windows.is_own & held


def _cause(windows: WindowPnl, window: int, lost: np.ndarray) -> str:
    """What lost most, or which prices are missing."""
    if lost.any():
        names = ", ".join(np.array(windows.assets, object)[lost])
        return f"no price of {names}"
    pnl = windows.pnl[window]
    worst = [at for at in np.argsort(pnl, kind="stable")[:3] if pnl[at] < 0.0]
    return "; ".join(
        f"{windows.assets[at]} {windows.last[window, at] - 1:+.1%}, "
        f"{100 * pnl[at] / min(pnl.sum(), -1e-300):.0f} % of the loss, "
        f"{windows.liquidations[window, at]:,.0f} liquidated"
        for at in worst
    )
