"""The liquidation curve: what a move of one asset's own price closes by force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.liquidation.columns import LIQUIDATED
from risk.liquidation.impact import Impact
from risk.liquidation.steps import RUNG_AT, RUNG_KIND, RUNG_NOTIONAL
from risk.liquidation.terms import Closing, close_out_terms


def liquidation_curve(
    book: pa.Table, assets: Sequence[str], moves: Sequence[float], impact: Impact | None = None
) -> xr.Dataset:
    """Liquidations caused by a steady move of each asset alone.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    assets : sequence of str
    moves : sequence of float
        Fractions of the mark, such as -0.3; falls close longs, rises close shorts.
    impact : Impact, optional
        With a cascade, `moves` are those of the path without impact: the same moves with and
        without one show the first round beside the whole.

    Returns
    -------
    Dataset (asset, move)
        `liquidated_notional` (USD, at the triggers) and `liquidations` (positions). Positions
        whose stop comes first are not counted.
    """
    closing = close_out_terms(book, assets, impact)
    asset, direction, trigger, closed, is_first = _liquidations(closing)
    grid = np.asarray(moves, "f8")
    notional = np.zeros((len(assets), len(grid)))
    count = np.zeros((len(assets), len(grid)), "i8")
    for a in range(len(assets)):
        for side, affected in ((1, grid < 0), (-1, grid > 0)):
            mine = np.flatnonzero((asset == a) & (direction == side))
            mine = mine[np.argsort(trigger[mine], kind="stable")]
            hit = np.searchsorted(trigger[mine], -side * (1.0 + grid[affected]), side="right")
            notional[a, affected] = np.append(0.0, np.cumsum(closed[mine]))[hit]
            count[a, affected] = np.append(0, np.cumsum(is_first[mine]))[hit]
    return xr.Dataset(
        {
            "liquidated_notional": (("asset", "move"), notional, {"units": "USD"}),
            "liquidations": (("asset", "move"), count, {"units": "1"}),
        },
        coords={"asset": np.asarray(assets, object), "move": grid},
    )


def _liquidations(closing: Closing) -> tuple[np.ndarray, ...]:
    """Every liquidation in a steady move: asset, direction, trigger, USD closed, is the first."""
    terms, stairs = closing.terms, closing.stairs
    whole = terms.take(
        np.flatnonzero((terms.rule < 0) & (terms.first == terms.margin) & np.isfinite(terms.margin))
    )
    price = np.where(whole.inverse, 1.0, np.abs(whole.first))
    cut = terms.take(np.flatnonzero(terms.rule >= 0))
    owner = np.repeat(np.arange(len(cut.row)), np.diff(stairs.start))
    mine = np.flatnonzero(stairs.rung[:, RUNG_NOTIONAL] > 0)  # neither stops nor what survives
    owner, rungs = owner[mine], stairs.rung[mine]
    return (
        np.append(whole.asset, cut.asset[owner]),
        np.append(whole.direction, cut.direction[owner]),
        np.append(whole.first, rungs[:, RUNG_AT]),
        np.append(whole.notional * price, rungs[:, RUNG_NOTIONAL]),
        np.append(np.ones(len(whole.row), bool), rungs[:, RUNG_KIND] == LIQUIDATED),
    )
