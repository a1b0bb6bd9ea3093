"""The liquidation curve: what a move of one asset's own price closes by force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.liquidation.terms import close_out_terms


def liquidation_curve(book: pa.Table, assets: Sequence[str], moves: Sequence[float]) -> xr.Dataset:
    """Liquidations caused by a steady move of each asset alone.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    assets : sequence of str
    moves : sequence of float
        Fractions of the mark, such as -0.3; falls close longs, rises close shorts.

    Returns
    -------
    Dataset (asset, move)
        `liquidated_notional` (USD, at the triggers) and `liquidations` (positions). Positions
        whose stop comes first are not counted.
    """
    terms = close_out_terms(book, assets)
    liquidated = terms.first == terms.margin
    grid = np.asarray(moves, "f8")
    notional = np.zeros((len(assets), len(grid)))
    count = np.zeros((len(assets), len(grid)), "i8")
    for a in range(len(assets)):
        for direction, affected in ((1, grid < 0), (-1, grid > 0)):
            mine = liquidated & (terms.asset == a) & (terms.direction == direction)
            triggers = np.sort(terms.first[mine], kind="stable")
            order = np.argsort(terms.first[mine], kind="stable")
            price = np.where(terms.is_inverse[mine], 1.0, np.abs(terms.first[mine]))
            size = np.where(np.isfinite(price), terms.notional[mine] * price, 0.0)[order]
            sums = np.concatenate([[0.0], np.cumsum(size)])
            hit = np.searchsorted(triggers, -direction * (1.0 + grid[affected]), side="right")
            notional[a, affected] = sums[hit]
            count[a, affected] = hit
    return xr.Dataset(
        {
            "liquidated_notional": (("asset", "move"), notional, {"units": "USD"}),
            "liquidations": (("asset", "move"), count, {"units": "1"}),
        },
        coords={"asset": np.asarray(assets, object), "move": grid},
    )
