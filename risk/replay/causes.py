"""What made the loss of a day, by asset and by cell, in rows and in words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.scenarios.moves import Ratios

#: Assets and cells kept as the cause of a loss.
N_CAUSES = 5


def day_causes(
    base: Mapping[str, Any], realised: xr.Dataset, cells: pa.Table, moves: Ratios, assets: list[str]
) -> list[dict[str, Any]]:
    """What lost most on the day, by asset and by cell."""
    pnl, closed = realised.pnl.values, realised.liquidations.values
    asset = np.array([assets.index(name) for name in cells["asset"].to_pylist()], "i8")
    labels = ["/".join(row.values()) for row in cells.to_pylist()]
    n = len(assets)
    levels = {
        "asset": (np.bincount(asset, pnl, n), np.bincount(asset, closed, n), assets, np.arange(n)),
        "cell": (pnl, closed, labels, asset),
    }
    rows = []
    for level, (gains, counts, names, which) in levels.items():
        for rank, at in enumerate(np.argsort(gains, kind="stable")[:N_CAUSES], start=1):
            if gains[at] >= 0:
                break
            a = which[at]
            rows.append(
                dict(base)
                | {
                    "level": level,
                    "rank": rank,
                    "label": names[at],
                    "pnl_usd": float(gains[at]),
                    "share": float(gains[at] / pnl.sum()) if pnl.sum() < 0 else None,
                    "liquidations": int(counts[at]),
                    "low": float(moves.low[0, a]),
                    "high": float(moves.high[0, a]),
                    "last": float(moves.last[0, a]),
                }
            )
    return rows


def in_words(causes: list[dict[str, Any]]) -> str | None:
    """The assets that lost most, with their move and their share of the loss."""
    parts = [
        f"{row['label']} {row['last'] - 1:+.1%} (low {row['low'] - 1:+.1%}, high "
        f"{row['high'] - 1:+.1%}): {row['pnl_usd']:,.0f} USD, {row['liquidations']:,} liquidated"
        for row in causes
        if row["level"] == "asset" and row["rank"] <= 3
    ]
    return "; ".join(parts) or None


def what_is_missing(night: dt.date, lost: list[str]) -> str:
    """Why a night has no P&L."""
    if lost:
        return f"no price on {night + dt.timedelta(days=1)} for {', '.join(lost)}"
    return f"no position could be priced on {night}"
