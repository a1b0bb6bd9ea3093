"""Tail measures of every single position, without a matrix of positions times scenarios.

`docs/methods/position_tails.md` says why the tail of a position needs no more than a few look-ups.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.liquidation.cascade import stay_moved
from risk.liquidation.cross import PoolOutcomes, PoolResults, measure_legs
from risk.liquidation.impact import Impact
from risk.liquidation.options import Valued, measure_holdings, value_options
from risk.liquidation.tails.book import MERGED, ORDERED, STEPPED, STEPPED_COIN, BookTerms
from risk.liquidation.tails.merged import measure_merged
from risk.liquidation.tails.ordered import measure_ordered
from risk.liquidation.tails.paths import Side, gaps_of, split_paths
from risk.liquidation.tails.required import margins_with, required_margins
from risk.liquidation.tails.state import Closable, Levels, Tails
from risk.liquidation.tails.stepped import measure_stepped
from risk.liquidation.tails.weights import whole_weights
from risk.liquidation.walk import adverse_extremes, group_gaps

__all__ = ["BookTerms", "margins_with", "position_tails", "required_margins"]


def position_tails(
    book: pa.Table,
    drivers: xr.Dataset,
    *,
    var_confidence: float = 0.99,
    es_confidence: float = 0.975,
    impact: Impact | None = None,
    valued: Valued | None = None,
    pooled: PoolOutcomes | PoolResults | None = None,
    terms: BookTerms | None = None,
    others: bool = True,
) -> xr.Dataset:
    """Value at risk, expected shortfall, expected deficit and liquidation of every position.

    Exact, as if every position were priced in every scenario and its P&L given to
    `risk.measures`; the cost of a position is that of a few look-ups.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    drivers : Dataset
        Driver record of one whole scenario set, with its weights.
    var_confidence, es_confidence : float
        Levels in (0, 1) of the value at risk and the expected shortfall.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.
    valued : Valued, optional
        The options' contracts in these scenarios, if they were valued before.
    pooled : PoolOutcomes or PoolResults, optional
        The account pools in these scenarios, if they were lived before.
    terms : BookTerms, optional
        What was read of the same book with the same impact, if it was read before.
    others : bool
        False: options and positions in pools are not wanted; their rows are NaN.

    Returns
    -------
    Dataset (position,)
        One row per row of the book, NaN where it is not priced. `value_at_risk` and
        `expected_shortfall` of the holder's loss, positive is bad; `expected_deficit`, the mean
        loss beyond the collateral; all USD. `liquidation_probability`, in which a stop that
        closes first does not count. The attributes ``ordered``, ``merged`` and ``stepped`` count
        the positions whose losses came in order, those whose families of losses had to be merged,
        and those liquidated in steps; options and positions in pools are in none of them.

    Raises
    ------
    ConfigError
        If a level lies outside (0, 1).
    DataError
        If the record holds no scenario, its weights do not add up to one, or a priced position's
        asset has no driver, or `terms` were read for other assets.
    """
    levels, weight = whole_weights(drivers.weight.values, var_confidence, es_confidence)
    if terms is None:
        terms = BookTerms(book, list(drivers.asset.values), impact)
    terms.check(drivers)
    rows, found = _sweep(terms, drivers, weight, levels)
    if not others:
        return _spread(book.num_rows, rows, found, terms.sweeps.kind)
    contracts, holdings = terms.options
    limits = (levels.var_limit, levels.es_limit, levels.es_tail, levels.unit)
    of_options = np.empty((len(Tails._fields), len(holdings.row)))
    if len(holdings.row):
        valued = value_options(contracts, drivers) if valued is None else valued
        measure_holdings(contracts, holdings, valued, weight, limits, of_options)
    pool_rows, of_pools = measure_legs(terms.pools, drivers, pooled, weight, limits)
    rows = np.concatenate([rows, holdings.row, pool_rows])
    every = np.concatenate([found, of_options, of_pools], axis=1)
    return _spread(book.num_rows, rows, every, terms.sweeps.kind)


def _sweep(
    terms: BookTerms, drivers: xr.Dataset, weight: np.ndarray, levels: Levels
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the book (position,) and `Tails` of all that are no options and in no pool."""
    closing, sweeps = terms.closing, terms.sweeps
    steps = (closing.held, closing.rules, closing.stairs, closing.events)
    farthest = adverse_extremes(drivers)
    moved_last = stay_moved(closing.events, drivers["last"].values.T, farthest)
    gaps = group_gaps(drivers)
    reach = max(levels.var_limit, levels.es_limit)
    found = np.empty((len(Tails._fields), len(sweeps.row)))
    begin, driver, side = 0, -1, None
    # One sweep for each asset, side and kind.
    for group, end in zip(sweeps.group.tolist(), sweeps.end.tolist(), strict=True):
        if side is None or group // 4 != driver:
            driver = group // 4
            asset, which = divmod(driver, 2)
            side = Side(which, farthest[asset, which], moved_last[asset], weight, reach)
        part, how = slice(begin, end), group % 4
        begin = end
        closable = Closable(*(column[part] for column in sweeps.closable))
        out = Tails(*found[:, part])
        short_of = side.weigh_below(closable.first)
        jumps, is_narrow = gaps_of(gaps, driver), how in (ORDERED, STEPPED)
        if how in (STEPPED, STEPPED_COIN):
            split = split_paths(side, jumps, closable.first[0])
            measure_stepped(
                short_of, closable, sweeps.which[part], steps, side.paths(is_narrow, None), *split,
                jumps, levels, out,
            )  # fmt: skip
        else:
            measure = measure_merged if how == MERGED else measure_ordered
            measure(short_of, closable, side.paths(is_narrow, jumps), levels, out)
    return sweeps.row, found


def _spread(n_rows: int, row: np.ndarray, found: np.ndarray, kind: np.ndarray) -> xr.Dataset:
    """Results on the rows of the book, NaN where there are none."""
    data = {}
    for name, values in zip(Tails._fields, found, strict=True):
        column = np.full(n_rows, np.nan)
        column[row] = values
        units = "1" if name == "liquidation_probability" else "USD"
        data[name] = ("position", column, {"units": units})
    counts = np.bincount(kind, minlength=4)
    attrs = {"ordered": counts[ORDERED], "merged": counts[MERGED], "stepped": counts[2:].sum()}
    return xr.Dataset(data, attrs={name: int(count) for name, count in attrs.items()})
