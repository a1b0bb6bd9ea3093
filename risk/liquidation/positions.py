"""Positions one at a time: outcomes in a few scenarios, losses by account, probabilities.

The cube holds cells. Where a reader asks who is behind a number (accounts in a stress, the holder
of a position), the same closing rule is applied to every position, scenario by scenario.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.drivers import PEG
from risk.liquidation.cascade import stay_moved
from risk.liquidation.closing import close_positions, count_liquidations
from risk.liquidation.columns import LIQUIDATED, SURVIVED
from risk.liquidation.cross import PoolOutcomes, leg_outcomes, leg_probabilities, read_pools
from risk.liquidation.impact import Impact
from risk.liquidation.options import (
    Contracts,
    Holdings,
    Valued,
    holding_outcomes,
    holding_probabilities,
    read_options,
    value_options,
)
from risk.liquidation.pegs import outcome_in_dollars, prices_of
from risk.liquidation.terms import Closing, close_out_terms, label_codes
from risk.liquidation.walk import adverse_extremes, gaps_by_scenario, group_gaps
from risk.margin.excess import ROW, Packed

_AMOUNTS = ("pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional")


def scenario_outcomes(closing: Closing, drivers: xr.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """One dict of (position,) columns per scenario, of every position that is no option."""
    terms = closing.terms
    which = np.full(len(terms.row), -1)
    which[terms.rule >= 0] = np.arange(len(closing.held.first))
    steps = (closing.held, closing.rules, closing.stairs, closing.events)
    farthest = adverse_extremes(drivers)
    last = stay_moved(closing.events, drivers["last"].values.T, farthest)
    for i, gaps in enumerate(gaps_by_scenario(drivers)):
        out = np.zeros((len(_AMOUNTS), len(terms.row)))
        outcome = np.zeros(len(terms.row), "i1")
        at = (np.ascontiguousarray(part[..., i]) for part in (farthest, last))
        close_positions(terms, steps, which, *at, gaps, out, outcome)
        yield dict(zip(_AMOUNTS, out, strict=True)) | {"outcome": outcome}


def _outcomes(
    closing: Closing,
    options: tuple[Contracts, Holdings],
    pools: Packed,
    drivers: xr.Dataset,
    valued: Valued | None,
    pooled: PoolOutcomes | None,
    priced: pa.Table,
) -> Iterator[dict[str, np.ndarray]]:
    """One dict of (position,) columns per scenario, in US dollars; then options, then pools.

    `priced` has the `settle` and `equity_usd` of the same positions. What options and pools come to
    is not converted (`docs/methods/carry.md`).
    """
    coins, coin = label_codes(priced["settle"])
    prices = prices_of(drivers, coins)
    equity = priced["equity_usd"].to_numpy(zero_copy_only=False)
    amounts, outcome = other_outcomes(options, pools, drivers, valued, pooled)
    for i, out in enumerate(scenario_outcomes(closing, drivers)):
        more = dict(zip(_AMOUNTS, amounts[:, i], strict=True)) | {"outcome": outcome[i]}
        if PEG in drivers:
            n = len(out["pnl"])
            out = outcome_in_dollars(out, prices[i, coin[:n]], equity[:n])
        yield {name: np.concatenate([column, more[name]]) for name, column in out.items()}


def other_outcomes(
    options: tuple[Contracts, Holdings],
    pools: Packed,
    drivers: xr.Dataset,
    valued: Valued | None,
    pooled: PoolOutcomes | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Amounts (5, scenario, position) and outcomes of the options, then of those in pools."""
    amounts, liquidated = holding_outcomes(*options, drivers, valued)
    _, more, status = leg_outcomes(pools, drivers, pooled)
    outcome = np.where(liquidated, LIQUIDATED, SURVIVED).astype("i1")
    return np.concatenate([amounts, more], axis=2), np.concatenate([outcome, status], axis=1)


def rows_in_pools(pools: Packed) -> np.ndarray:
    """Rows of the book of the positions in pools, ascending."""
    rows = pools.kinds[:, ROW]
    return np.sort(rows[rows >= 0])


def position_outcomes(
    book: pa.Table, drivers: xr.Dataset, impact: Impact | None = None
) -> xr.Dataset:
    """Outcome of every priced position in every scenario; for a few scenarios only.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    drivers : Dataset
        Driver record; memory grows with scenarios times positions.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.

    Returns
    -------
    Dataset (scenario, position)
        `pnl`, `venue_gain`, `deficit`, `market_cost`, `liquidated_notional` in USD, `outcome` (0
        survived, 1 stopped, 2 liquidated); `row` on (position,) is the row in the book.
    """
    assets = list(drivers.asset.values)
    closing, options = close_out_terms(book, assets, impact), read_options(book, assets)
    pools = read_pools(book, assets, impact)
    rows = np.concatenate([closing.terms.row, options[1].row, rows_in_pools(pools)])
    priced = book.select(["settle", "equity_usd"]).take(pa.array(rows))
    stacked = list(_outcomes(closing, options, pools, drivers, None, None, priced))
    dims = ("scenario", "position")
    names = stacked[0] if stacked else ()
    data = {name: (dims, np.stack([one[name] for one in stacked])) for name in names}
    return xr.Dataset(data, coords={"row": ("position", rows)})


def account_losses(
    book: pa.Table,
    drivers: xr.Dataset,
    impact: Impact | None = None,
    valued: Valued | None = None,
    pooled: PoolOutcomes | None = None,
) -> pa.Table:
    """P&L, deficit and liquidations of every account that has some, per scenario.

    Parameters
    ----------
    book : Table (position,)
    drivers : Dataset
        Driver record, usually the stresses.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.
    valued : Valued, optional
        The options' contracts in these scenarios, if they were valued before.
    pooled : PoolOutcomes, optional
        The account pools in these scenarios, if they were lived before.

    Returns
    -------
    Table
        `scenario` (index), `account`, `venue`, `pnl_usd`, `deficit_usd`, `liquidations`,
        sorted by scenario, account and venue.
    """
    assets = list(drivers.asset.values)
    closing, options = close_out_terms(book, assets, impact), read_options(book, assets)
    pools = read_pools(book, assets, impact)
    rows = np.concatenate([closing.terms.row, options[1].row, rows_in_pools(pools)])
    priced = book.select(["account", "venue", "settle", "equity_usd"]).take(pa.array(rows))
    accounts, account = label_codes(priced["account"])
    venues, venue = label_codes(priced["venue"])
    key, group = np.unique(account * max(len(venues), 1) + venue, return_inverse=True)
    parts = []
    for i, out in enumerate(_outcomes(closing, options, pools, drivers, valued, pooled, priced)):
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


def rows_in_steps(
    book: pa.Table, assets: Sequence[str], impact: Impact | None = None
) -> np.ndarray:
    """Rows of a book whose liquidation is cut in steps, ascending."""
    terms = close_out_terms(book, assets, impact).terms
    return terms.row[terms.rule >= 0]


def liquidation_probability(
    book: pa.Table, drivers: xr.Dataset, impact: Impact | None = None
) -> np.ndarray:
    """Probability that each position is liquidated within the horizon.

    Parameters
    ----------
    book : Table (position,)
    drivers : Dataset
        Driver record of one whole scenario set, with its weights.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.

    Returns
    -------
    ndarray (row of the book,)
        Weight of the scenarios that liquidate; NaN for rows that are not priced. A stop that
        closes first does not count.
    """
    terms = close_out_terms(book, list(drivers.asset.values), impact).terms
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
    contracts, holdings = read_options(book, list(drivers.asset.values))
    if len(holdings.row):
        valued = value_options(contracts, drivers)
        probability[holdings.row] = holding_probabilities(holdings, valued, weight)
    pools = read_pools(book, list(drivers.asset.values), impact)
    rows, shares = leg_probabilities(pools, drivers)
    probability[rows] = shares
    return probability
