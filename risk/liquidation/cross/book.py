"""The cross-margined positions of a book, and what their lives mean for the cube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.compiled import njit
from risk.liquidation.columns import LIQUIDATED, STOPPED
from risk.liquidation.cross.lives import pool_outcomes
from risk.liquidation.cross.outcomes import PoolOutcomes
from risk.liquidation.impact import Impact
from risk.liquidation.terms import driver_places
from risk.margin.excess import (
    ALPHA,
    ASSET,
    BETA,
    DRIVER,
    INVERSE,
    ROW,
    SHARE,
    Packed,
    pack,
)
from risk.margin.pooling import build_pools, pooled_rows, rows_apart
from risk.schema import BOOK


class CrossBook(NamedTuple):
    """The pools of a book, and the cube cell of every leg (-1: collateral)."""

    pools: Packed
    cell: np.ndarray  # (leg,)


def read_pools(book: pa.Table, assets: Sequence[str], impact: Impact | None = None) -> Packed:
    """The pools of the priced cross-margined positions of a book, and the positions apart.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    assets : sequence of str
        The drivers: assets, then instruments. A position follows its instrument, or its asset where
        there is none; coins follow their asset.
    impact : Impact, optional
        What closing costs; a pool moves no price and is moved by none.
    """
    single = rows_apart(book)
    rows = np.union1d(pooled_rows(book), single).astype("i8")
    if not len(rows):
        book = BOOK.empty_table()  # a book without pools may lack what tells them apart
    costs = driver = None
    if len(rows):
        # A replayed book has no labels: without instruments nobody asks for them.
        labels = ("asset", "settle", "kind", "symbol")
        names = [name for name in labels if name in book.column_names]
        driver = driver_places(book.select(names).take(pa.array(rows)), assets)
    if impact is not None:
        part = book.select(["asset", "notional_usd"]).take(pa.array(rows))
        place = {name: i for i, name in enumerate(assets)}
        asset = np.array([place[name] for name in part["asset"].to_pylist()], "i8")
        notional = part["notional_usd"].to_numpy(zero_copy_only=False)
        alone = replace(impact, own=impact.own + impact.joint)
        costs = impact.waiting[asset] + alone.own_rate(asset, notional)
    return pack(build_pools(book, rows, assets, costs, driver, np.isin(rows, single)))


def shown_drivers(pools: Packed) -> np.ndarray:
    """The drivers that pools need to be shown, assets and instruments, ascending."""
    return np.unique(pools.kinds[:, [ASSET, DRIVER]])


def among_shown(pools: Packed, shown: np.ndarray) -> Packed:
    """The same pools where only the drivers `shown` are there, renumbered."""
    kinds = pools.kinds.copy()
    for column in (ASSET, DRIVER):
        kinds[:, column] = np.searchsorted(shown, kinds[:, column])
    kinds.flags.writeable = pools.kinds.flags.writeable  # one compiled kernel for both
    return pools._replace(kinds=kinds)


def add_pools(
    cross: CrossBook,
    drivers: xr.Dataset,
    outputs: dict[str, np.ndarray],
    is_wide: bool,
    outcomes: PoolOutcomes | None = None,
) -> None:
    """Add a book's pools to the variables of the cube.

    Parameters
    ----------
    cross : CrossBook
    drivers : Dataset
    outputs : dict of ndarray (cell, scenario)
        In the order of `risk.schema.CUBE`; changed in place.
    is_wide : bool
        False: venue gain and market cost are not wanted, and their arrays may be short.
    outcomes : PoolOutcomes, optional
        Of these scenarios, if they are already known.
    """
    if not len(cross.cell):
        return
    if not is_wide:
        shape = outputs["pnl"].shape
        outputs = outputs | {name: np.empty(shape) for name in ("venue_gain", "market_cost")}
    if outcomes is None:
        outcomes = pool_outcomes(cross.pools, drivers)
    last = np.ascontiguousarray(drivers["last"].values.T)
    _add_moves(cross.pools, cross.cell, last, outputs["pnl"])
    _add_outcomes(cross.pools, cross.cell, last, outcomes, tuple(outputs.values()))


def leg_outcomes(
    pools: Packed, drivers: xr.Dataset, outcomes: PoolOutcomes | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every cross-margined position in every scenario; for a few scenarios only.

    Returns
    -------
    row : ndarray of int (position,)
        Rows of the book, ascending.
    amounts : ndarray (5, scenario, position)
        `AMOUNTS`, USD.
    status : ndarray (scenario, position)
    """
    legs = position_legs(pools)
    n = drivers.sizes["scenario"]
    amounts, status = np.zeros((5, n, len(legs))), np.zeros((n, len(legs)), "i1")
    if not len(legs):
        return pools.kinds[legs, ROW], amounts, status
    if outcomes is None:
        outcomes = pool_outcomes(pools, drivers)
    last = np.ascontiguousarray(drivers["last"].values.T)
    for place, leg in enumerate(legs.tolist()):
        amounts[0, :, place] = leg_moves(pools, leg, last)
    position = np.full(len(pools.legs), -1)
    position[legs] = np.arange(len(legs))
    at = (outcomes.scenario, position[outcomes.leg])
    amounts[:, at[0], at[1]] = outcomes.amounts.T
    status[at] = outcomes.status
    return pools.kinds[legs, ROW], amounts, status


def position_legs(pools: Packed) -> np.ndarray:
    """The legs that are positions, in the order of their rows of the book."""
    legs = np.flatnonzero(pools.kinds[:, ROW] >= 0)
    return legs[np.argsort(pools.kinds[legs, ROW])]


def leg_moves(pools: Packed, leg: int, last: np.ndarray) -> np.ndarray:
    """P&L (scenario,) of a position that nothing happens to; `last` (driver, scenario)."""
    out = np.zeros(last.shape[1])
    k = int(np.searchsorted(pools.start, leg, side="right")) - 1
    add_move(pools, k, leg, last, out)
    return out


@njit
def _gain(legs: np.ndarray, kinds: np.ndarray, i: int, last: np.ndarray, s: int) -> float:
    """What leg `i` gains if nothing happens to it, USD; `last` (driver, scenario)."""
    x, beta = last[kinds[i, ASSET], s], legs[i, BETA]
    if kinds[i, DRIVER] == kinds[i, ASSET]:
        return beta * (x - 1.0)
    y = last[kinds[i, DRIVER], s]
    if kinds[i, INVERSE] != 0:  # its coins are worth what the asset says
        return legs[i, ALPHA] * (x / y - 1.0) + beta * (x - 1.0)
    return beta * (y - 1.0)


@njit
def add_move(pools: Packed, k: int, i: int, last: np.ndarray, out: np.ndarray) -> None:
    """Add position `i`'s own move and its share of what the pool's other holdings gained."""
    legs, kinds = pools.legs, pools.kinds
    if kinds[i, DRIVER] == kinds[i, ASSET] or kinds[i, INVERSE] == 0:
        price, beta = last[kinds[i, DRIVER]], legs[i, BETA]
        for s in range(len(out)):
            out[s] += beta * (price[s] - 1.0)
    else:
        for s in range(len(out)):
            out[s] += _gain(legs, kinds, i, last, s)
    for j in range(pools.start[k], pools.start[k + 1]):
        if kinds[j, ROW] < 0 and legs[j, BETA] != 0.0:
            price, beta = last[kinds[j, ASSET]], legs[i, SHARE] * legs[j, BETA]
            for s in range(len(out)):
                out[s] += beta * (price[s] - 1.0)


@njit
def _add_moves(pools: Packed, cell: np.ndarray, last: np.ndarray, pnl: np.ndarray) -> None:
    for k in range(len(pools.start) - 1):
        for i in range(pools.start[k], pools.start[k + 1]):
            if pools.kinds[i, ROW] >= 0:
                add_move(pools, k, i, last, pnl[cell[i]])


@njit
def _add_outcomes(
    pools: Packed, cell: np.ndarray, last: np.ndarray, outcomes: PoolOutcomes,
    outputs: tuple[np.ndarray, ...],
) -> None:  # fmt: skip
    legs, kinds = pools.legs, pools.kinds
    pnl, venue_gain, deficit, market_cost, liquidations, stops, notional = outputs
    pool_of = np.empty(len(legs), np.int64)
    for k in range(len(pools.start) - 1):
        pool_of[pools.start[k] : pools.start[k + 1]] = k
    for r in range(len(outcomes.scenario)):
        s, i = outcomes.scenario[r], outcomes.leg[r]
        c, k = cell[i], pool_of[i]
        moved = _gain(legs, kinds, i, last, s)
        for j in range(pools.start[k], pools.start[k + 1]):
            if kinds[j, ROW] < 0:
                moved += legs[i, SHARE] * legs[j, BETA] * (last[kinds[j, ASSET], s] - 1.0)
        pnl[c, s] += outcomes.amounts[r, 0] - moved
        venue_gain[c, s] += outcomes.amounts[r, 1]
        deficit[c, s] += outcomes.amounts[r, 2]
        market_cost[c, s] += outcomes.amounts[r, 3]
        liquidated = outcomes.status[r] == LIQUIDATED
        liquidations[c, s] += liquidated
        stops[c, s] += outcomes.status[r] == STOPPED
        notional[c, s] += outcomes.amounts[r, 4]
