"""Positions one at a time: outcomes in a few scenarios, losses by account, probabilities.

The cube holds cells. Where a reader asks who is behind a number (accounts in a stress, the holder
of a position), the same closing rule is applied to every position, scenario by scenario.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.drivers import slice_drivers
from risk.liquidation.closing import close_positions, count_liquidations
from risk.liquidation.columns import LIQUIDATED, Rules, Terms
from risk.liquidation.terms import close_out_terms, held_positions, label_codes
from risk.liquidation.walk import adverse_extremes, group_gaps

_AMOUNTS = ("pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional")


def _outcomes(terms: Terms, rules: Rules, drivers: xr.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """One dict of (position,) columns per scenario."""
    cut = np.flatnonzero(terms.rule >= 0)
    held = held_positions(terms.take(cut), terms.rule[cut])
    which = np.full(len(terms.row), -1)
    which[cut] = np.arange(len(cut))
    for i in range(drivers.sizes["scenario"]):
        scenario = slice_drivers(drivers, i, i + 1)
        farthest = adverse_extremes(scenario)[..., 0]
        out = np.zeros((len(_AMOUNTS), len(terms.row)))
        outcome = np.zeros(len(terms.row), "i1")
        last = scenario["last"].values[0]
        close_positions(
            terms, held, rules, which, farthest, last, group_gaps(scenario), out, outcome
        )
        yield dict(zip(_AMOUNTS, out, strict=True)) | {"outcome": outcome}


def position_outcomes(book: pa.Table, drivers: xr.Dataset) -> xr.Dataset:
    """Outcome of every priced position in every scenario; for a few scenarios only.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    drivers : Dataset
        Driver record; memory grows with scenarios times positions.

    Returns
    -------
    Dataset (scenario, position)
        `pnl`, `venue_gain`, `deficit`, `market_cost`, `liquidated_notional` in USD, `outcome` (0
        survived, 1 stopped, 2 liquidated); `row` on (position,) is the row in the book.
    """
    terms, rules = close_out_terms(book, list(drivers.asset.values))
    stacked = list(_outcomes(terms, rules, drivers))
    dims = ("scenario", "position")
    names = stacked[0] if stacked else ()
    data = {name: (dims, np.stack([one[name] for one in stacked])) for name in names}
    return xr.Dataset(data, coords={"row": ("position", terms.row)})


def account_losses(book: pa.Table, drivers: xr.Dataset) -> pa.Table:
    """P&L, deficit and liquidations of every account that has some, per scenario.

    Parameters
    ----------
    book : Table (position,)
    drivers : Dataset
        Driver record, usually the stresses.

    Returns
    -------
    Table
        `scenario` (index), `account`, `venue`, `pnl_usd`, `deficit_usd`, `liquidations`,
        sorted by scenario, account and venue.
    """
    terms, rules = close_out_terms(book, list(drivers.asset.values))
    priced = book.select(["account", "venue"]).take(pa.array(terms.row))
    accounts, account = label_codes(priced["account"])
    venues, venue = label_codes(priced["venue"])
    key, group = np.unique(account * max(len(venues), 1) + venue, return_inverse=True)
    parts = []
    for i, out in enumerate(_outcomes(terms, rules, drivers)):
        sums = [
            np.bincount(group, column, len(key))
            for column in (out["pnl"], out["deficit"], out["outcome"] == LIQUIDATED)
        ]
        parts.append((np.full(len(key), i), key, *sums))
    scenario, pair, pnl, deficit, liquidations = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    who, where = np.divmod(pair, max(len(venues), 1))
    return pa.table(
        {
            "scenario": pa.array(scenario, pa.int32()),
            "account": pa.array(accounts, pa.string()).take(pa.array(who)),
            "venue": pa.array(venues, pa.string()).take(pa.array(where)),
            "pnl_usd": pnl,
            "deficit_usd": deficit,
            "liquidations": pa.array(liquidations.astype("i8")),
        }
    )


def liquidation_probability(book: pa.Table, drivers: xr.Dataset) -> np.ndarray:
    """Probability that each position is liquidated within the horizon.

    Parameters
    ----------
    book : Table (position,)
    drivers : Dataset
        Driver record of one whole scenario set, with its weights.

    Returns
    -------
    ndarray (row of the book,)
        Weight of the scenarios that liquidate; NaN for rows that are not priced. A stop that
        closes first does not count.
    """
    terms, _ = close_out_terms(book, list(drivers.asset.values))
    extreme = adverse_extremes(drivers)
    order = np.argsort(extreme, axis=2, kind="stable")
    extreme = np.take_along_axis(extreme, order, axis=2)
    weight = drivers.weight.values
    above = np.zeros((*extreme.shape[:2], extreme.shape[2] + 1))
    above[..., :-1] = np.cumsum(weight[order][..., ::-1], axis=2)[..., ::-1]
    found = np.zeros(len(terms.row))
    count_liquidations(terms, extreme, above, group_gaps(drivers), weight, found)
    probability = np.full(book.num_rows, np.nan)
    probability[terms.row] = np.minimum(found, 1.0)
    return probability
