"""The book at the mark: how much margin there is and how far the triggers are."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from risk.findings.by_account import coded
from risk.margin.pooling import divided_equity
from risk.reports import MarginSummary

#: Edges of the distance-to-liquidation histogram, fractions of the mark.
DISTANCE_EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, math.inf)

#: What the summary needs of a book.
_COLUMNS = [
    "status", "account", "venue", "direction", "notional_usd", "equity_usd", "pool_holdings",
    "distance_to_liquidation", "margin_call",
]  # fmt: skip


def margin_summary(book: pa.Table) -> MarginSummary:
    """Counts, notional and equity of the priced positions, and how far their triggers are."""
    priced = book.select(_COLUMNS).filter(pc.equal(book["status"], "ok"))
    notional = priced["notional_usd"].to_numpy(zero_copy_only=False)
    long = priced["direction"].to_numpy(zero_copy_only=False) > 0
    distance = priced["distance_to_liquidation"].to_numpy(zero_copy_only=False)
    distance = np.where(np.isnan(distance), math.inf, distance)  # cannot be liquidated
    edges = np.array(DISTANCE_EDGES)
    place = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)
    sides = {"long": long, "short": ~long}
    shape = len(edges) - 1
    by_side = [np.bincount(place[m], notional[m], shape) for m in sides.values()]
    counts = [np.bincount(place[m], minlength=shape) for m in sides.values()]
    return MarginSummary(
        n_priced=priced.num_rows,
        n_margin_calls=int(pc.sum(priced["margin_call"]).as_py() or 0),
        n_liquidatable=int(pc.sum(pc.equal(book["status"], "liquidatable")).as_py() or 0),
        n_accounts=len(np.unique(coded(priced["account"])[1])),
        long_notional_usd=float(notional[long].sum()),
        short_notional_usd=float(notional[~long].sum()),
        equity_usd=float(np.nansum(divided_equity(priced))),
        distance=xr.Dataset(
            {
                "notional_usd": (("bin", "side"), np.stack(by_side, axis=1), {"units": "USD"}),
                "n_positions": (("bin", "side"), np.stack(counts, axis=1), {"units": "1"}),
                "lower": ("bin", edges[:-1]),
                "upper": ("bin", edges[1:]),
            },
            coords={"side": np.array(list(sides), object)},
        ),
    )
