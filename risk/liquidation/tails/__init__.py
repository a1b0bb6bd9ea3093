"""Tail measures of every single position, without a matrix of positions times scenarios.

`docs/methods/position_tails.md` says why the tail of a position needs no more than a few look-ups.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.liquidation.cascade import stay_moved
from risk.liquidation.columns import Terms
from risk.liquidation.cross import PoolOutcomes, measure_legs, read_pools
from risk.liquidation.impact import Impact
from risk.liquidation.options import Valued, measure_holdings, read_options, value_options
from risk.liquidation.tails.merged import measure_merged
from risk.liquidation.tails.ordered import measure_ordered
from risk.liquidation.tails.paths import gaps_of, sort_paths, split_paths, weigh_below
from risk.liquidation.tails.required import margins_with, required_margins
from risk.liquidation.tails.state import Closable, Tails, find_ordered
from risk.liquidation.tails.stepped import measure_stepped
from risk.liquidation.tails.weights import whole_weights
from risk.liquidation.terms import close_lines, close_out_terms
from risk.liquidation.walk import adverse_extremes, group_gaps

__all__ = ["margins_with", "position_tails", "required_margins"]

#: The sweeps; those that return coin need the rank of every scenario.
ORDERED, MERGED, STEPPED, STEPPED_COIN = range(4)


def position_tails(
    book: pa.Table,
    drivers: xr.Dataset,
    *,
    var_confidence: float = 0.99,
    es_confidence: float = 0.975,
    impact: Impact | None = None,
    valued: Valued | None = None,
    pooled: PoolOutcomes | None = None,
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
    pooled : PoolOutcomes, optional
        The account pools in these scenarios, if they were lived before.

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
        asset has no driver.
    """
    levels, weight = whole_weights(drivers.weight.values, var_confidence, es_confidence)
    closing = close_out_terms(book, list(drivers.asset.values), impact)
    terms = closing.terms
    book_closable = _closable(terms)
    steps = (closing.held, closing.rules, closing.stairs, closing.events)
    which = np.cumsum(terms.rule >= 0) - 1
    farthest = adverse_extremes(drivers)
    moved_last = stay_moved(closing.events, drivers["last"].values.T, farthest)
    kind = _sort_out(terms, book_closable, bool(closing.events.permanent.any()))
    # One sweep for each asset, side and kind.
    key = (8 * terms.asset.astype("u4") + 4 * (terms.direction < 0) + kind).astype("u4")
    order = np.argsort(terms.first, kind="stable")
    order = order[np.argsort(key[order], kind="stable")]
    found = np.empty((len(Tails._fields), len(kind)))
    gaps = group_gaps(drivers)
    groups, sizes = np.unique(key, return_counts=True)
    for group, end, size in zip(groups.tolist(), np.cumsum(sizes), sizes, strict=True):
        index = order[end - size : end]
        asset, side, how = group // 8, group // 4 % 2, group % 4
        extreme, last = farthest[asset, side], np.ascontiguousarray(moved_last[asset])
        reach = max(levels.var_limit, levels.es_limit) if how in (ORDERED, STEPPED) else None
        closable = Closable(*(column[index] for column in book_closable))
        out = Tails(*np.empty((len(Tails._fields), len(index))))
        short_of = weigh_below(extreme, weight, closable.first)
        jumps = gaps_of(gaps, group // 4)
        if how in (STEPPED, STEPPED_COIN):
            paths = sort_paths(side, extreme, last, weight, reach, None)
            split = split_paths(extreme, last, weight, jumps, closable.first[0])
            measure_stepped(
                short_of, closable, which[index], steps, paths, *split, jumps, levels, out
            )
        else:
            paths = sort_paths(side, extreme, last, weight, reach, jumps)
            measure = measure_merged if how == MERGED else measure_ordered
            measure(short_of, closable, paths, levels, out)
        found[:, index] = out
    contracts, holdings = read_options(book, list(drivers.asset.values))
    of_options = np.empty((len(Tails._fields), len(holdings.row)))
    if len(holdings.row):
        valued = value_options(contracts, drivers) if valued is None else valued
        measure_holdings(contracts, holdings, valued, weight, tuple(levels), of_options)
    pools = read_pools(book, list(drivers.asset.values), impact)
    pool_rows, of_pools = measure_legs(pools, drivers, pooled, weight, tuple(levels))
    rows = np.concatenate([terms.row, holdings.row, pool_rows])
    every = np.concatenate([found, of_options, of_pools], axis=1)
    return _spread(book.num_rows, rows, every, kind)


def _closable(terms: Terms) -> Closable:
    """All positions as the sweeps ask for them, in book order."""
    alpha, beta, _, fee = close_lines(terms)
    columns = terms._asdict() | {"alpha": alpha, "beta": beta, "fee": fee}
    return Closable(*(columns[name] for name in Closable._fields))


def _sort_out(terms: Terms, book: Closable, is_moved: bool) -> np.ndarray:
    """Which sweep each position takes.

    `is_moved` says that the price at the horizon can lie beyond the path's extreme: then a survivor
    can lose more than a hit, and no losses come in order.
    """
    if is_moved:
        return np.where(terms.rule >= 0, STEPPED_COIN, MERGED)
    sign = terms.direction * -1.0
    is_ordered = np.empty(len(sign), bool)
    find_ordered(sign, book, is_ordered)
    kind = np.where(is_ordered, ORDERED, MERGED)
    # A linear position that was cut while it had equity left has lost at least as much as any
    # survivor whose `last` is better: the survivors' tail is among the most adverse scenarios.
    is_cut = np.flatnonzero(terms.rule >= 0)
    part = terms.take(is_cut)
    left = part.equity + part.exposure * (sign[is_cut] * part.first - 1.0)
    is_plain = ~part.inverse & (part.exposure * sign[is_cut] <= 0) & (left >= 0)
    kind[is_cut] = np.where(is_plain, STEPPED, STEPPED_COIN)
    return kind


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
