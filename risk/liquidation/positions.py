"""Positions one at a time: outcomes in a few scenarios, losses by account, probabilities.

The cube holds cells. Where a reader asks who is behind a number (accounts in a stress, the holder
of a position), the same closing rule is applied to every position, scenario by scenario.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.drivers import PEG
from risk.liquidation.cascade import stay_moved
from risk.liquidation.closing import close_positions, count_liquidations
from risk.liquidation.columns import LIQUIDATED, SURVIVED, Gaps
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
_LABELS = ("account", "venue", "symbol", "settle", "equity_usd")


@dataclass(frozen=True)
class Positions:
    """The priced positions of a book, ready to be closed: those alone, options, those in pools.

    Attributes
    ----------
    closing : Closing
        Those that are no option and in no pool.
    contracts, holdings : Contracts, Holdings
        The options.
    pools : Packed
    table : Table (position,)
        `account`, `venue`, `symbol`, `settle` and `equity_usd` of all of them, in that order.
    row : ndarray (position,)
        Their rows in the book.
    """

    closing: Closing
    contracts: Contracts
    holdings: Holdings
    pools: Packed
    table: pa.Table
    row: np.ndarray
    _codes: dict[str, tuple[list[str], np.ndarray]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def codes(self, name: str) -> tuple[list[str], np.ndarray]:
        """Distinct texts of a column of the table, sorted, and each position's among them."""
        if name not in self._codes:
            self._codes[name] = label_codes(self.table[name])
        return self._codes[name]

    @property
    def n_alone(self) -> int:
        """How many are no option and in no pool; they come first."""
        return len(self.closing.terms.row)

    def others(
        self, drivers: xr.Dataset, valued: Valued | None, pooled: PoolOutcomes | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Amounts (5, scenario, position) and outcomes of the options, then of those in pools."""
        options = (self.contracts, self.holdings)
        amounts, liquidated = holding_outcomes(*options, drivers, valued)
        _, more, status = leg_outcomes(self.pools, drivers, pooled)
        outcome = np.where(liquidated, LIQUIDATED, SURVIVED).astype("i1")
        return np.concatenate([amounts, more], axis=2), np.concatenate([outcome, status], axis=1)


def read_positions(
    book: pa.Table, assets: Sequence[str], impact: Impact | None = None
) -> Positions:
    """Everything a book holds, once for all the scenarios it is to go through.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    assets : sequence of str
        The drivers: assets, then instruments.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.
    """
    closing, options = close_out_terms(book, assets, impact), read_options(book, assets)
    pools = read_pools(book, assets, impact)
    rows = np.concatenate([closing.terms.row, options[1].row, rows_in_pools(pools)])
    # A book made by hand may have no account or symbol.
    names = [name for name in _LABELS if name in book.column_names]
    return Positions(closing, *options, pools, book.select(names).take(pa.array(rows)), rows)


def step_places(closing: Closing) -> np.ndarray:
    """Where each position is among those that are cut in steps, -1 if it is closed whole."""
    which = np.full(len(closing.terms.row), -1)
    which[closing.terms.rule >= 0] = np.arange(len(closing.held.first))
    return which


def scenario_paths(
    closing: Closing, drivers: xr.Dataset
) -> Iterator[tuple[np.ndarray, np.ndarray, Gaps]]:
    """What one scenario after the other does to the drivers.

    Yields
    ------
    farthest : ndarray (asset, side)
        Adverse extremes.
    last : ndarray (asset,)
        With what a cascade leaves in the price.
    gaps : Gaps
    """
    farthest = adverse_extremes(drivers)
    last = stay_moved(closing.events, drivers["last"].values.T, farthest)
    for i, gaps in enumerate(gaps_by_scenario(drivers)):
        yield np.ascontiguousarray(farthest[..., i]), np.ascontiguousarray(last[..., i]), gaps


def scenario_outcomes(closing: Closing, drivers: xr.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """One dict of (position,) columns per scenario, of every position that is no option."""
    terms, which = closing.terms, step_places(closing)
    steps = (closing.held, closing.rules, closing.stairs, closing.events)
    for path in scenario_paths(closing, drivers):
        out = np.zeros((len(_AMOUNTS), len(terms.row)))
        outcome = np.zeros(len(terms.row), "i1")
        close_positions(terms, steps, which, *path, out, outcome)
        yield dict(zip(_AMOUNTS, out, strict=True)) | {"outcome": outcome}


def _outcomes(positions: Positions, drivers: xr.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """One dict of (position,) columns per scenario, in US dollars.

    What options and pools come to is not converted (`docs/methods/carry.md`).
    """
    coins, coin = positions.codes("settle")
    prices = prices_of(drivers, coins)
    equity = positions.table["equity_usd"].to_numpy(zero_copy_only=False)
    amounts, outcome = positions.others(drivers, None, None)
    for i, out in enumerate(scenario_outcomes(positions.closing, drivers)):
        more = dict(zip(_AMOUNTS, amounts[:, i], strict=True)) | {"outcome": outcome[i]}
        if PEG in drivers:
            n = positions.n_alone
            out = outcome_in_dollars(out, prices[i, coin[:n]], equity[:n])
        yield {name: np.concatenate([column, more[name]]) for name, column in out.items()}


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
    positions = read_positions(book, list(drivers.asset.values), impact)
    stacked = list(_outcomes(positions, drivers))
    dims = ("scenario", "position")
    names = stacked[0] if stacked else ()
    data = {name: (dims, np.stack([one[name] for one in stacked])) for name in names}
    return xr.Dataset(data, coords={"row": ("position", positions.row)})


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
