"""Isolated against shared: the same positions, alone and as pools, in the same joint scenarios."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.compiled import borrow, njit
from risk.drivers import JointPaths
from risk.liquidation.closing import close_positions
from risk.liquidation.columns import LIQUIDATED, Gaps, Terms
from risk.liquidation.cross.dying import dies_surely
from risk.liquidation.cross.kernel import COULD_DIE, DIED, TOUCHED, live
from risk.liquidation.cross.reach import Slopes, find_near, find_slopes
from risk.liquidation.terms import close_out_terms
from risk.liquidation.walk import adverse_extremes
from risk.margin.excess import (
    ASSET,
    BETA,
    CLOSING_FEE,
    INVERSE,
    ROW,
    SIZE,
    Packed,
    State,
    new_state,
    pack,
)
from risk.margin.pools import Pools

#: Per scenario, all pools together; amounts in USD, P&L gain positive, deficits positive.
TOTALS = (
    "isolated_liquidations",  # positions
    "cross_liquidations",
    "isolated_pnl",
    "cross_pnl",
    "isolated_deficit",
    "cross_deficit",
    "isolated_accounts_in_deficit",
    "cross_accounts_in_deficit",
    "dies_of_its_neighbours",  # positions liquidated in the pool that would have lived alone
    "saved_by_its_neighbours",  # positions that die alone and live in the pool
    "pools_liquidated",
    "pools_liquidated_surely",  # however the assets move together inside the frames
    "pools_liquidated_at_most",
)
(
    _LIQ_ALONE, _LIQ_POOL, _PNL_ALONE, _PNL_POOL, _DEF_ALONE, _DEF_POOL, _IN_ALONE, _IN_POOL,
    _INFECTED, _SAVED, _DIED, _SURELY, _AT_MOST,
) = range(len(TOTALS))  # fmt: skip

#: Columns of one pool's result in one scenario.
_ROW = (
    "isolated_liquidations", "cross_liquidations", "isolated_pnl_usd", "cross_pnl_usd",
    "isolated_deficit_usd", "cross_deficit_usd",
)  # fmt: skip


class Alone(NamedTuple):
    """What closes the same positions one by one, in the order of the legs' rows."""

    terms: Terms
    steps: tuple
    which: np.ndarray


class Days(NamedTuple):
    """The extremes, ends and gaps of whole scenarios, as the isolated positions see them."""

    low: np.ndarray  # (scenario, asset)
    high: np.ndarray
    last: np.ndarray
    farthest: np.ndarray  # (scenario, asset, side)
    gap_start: np.ndarray  # (scenario, 2 * asset + side and the end)
    gap_before: np.ndarray
    gap_landing: np.ndarray


def isolated_positions(book: pa.Table, assets: list[str]) -> Alone:
    """Terms of a book whose every row is priced and isolated."""
    closing = close_out_terms(book, assets)
    which = np.full(len(closing.terms.row), -1)
    which[closing.terms.rule >= 0] = np.arange(len(closing.held.first))
    steps = (closing.held, closing.rules, closing.stairs, closing.events)
    return Alone(closing.terms, steps, which)


def whole_days(drivers: xr.Dataset) -> Days:
    """A driver record laid out scenario by scenario."""
    n, n_assets = drivers.sizes["scenario"], drivers.sizes["asset"]
    side = (drivers.gap_direction.values > 0).astype("i8")
    scenario = drivers.gap_scenario.values.astype("i8")
    key = (scenario * n_assets + drivers.gap_asset.values) * 2 + side
    sign = np.where(side == 0, -1.0, 1.0)
    edges = np.arange(n)[:, None] * 2 * n_assets + np.arange(2 * n_assets + 1)
    low, high, last = (np.ascontiguousarray(drivers[k].values) for k in ("low", "high", "last"))
    return Days(
        low,
        high,
        last,
        np.ascontiguousarray(adverse_extremes(drivers).transpose(2, 0, 1)),
        np.searchsorted(key, edges).astype("i8"),
        sign * drivers.gap_before.values,
        sign * drivers.gap_landing.values,
    )


def contrast(
    pools: Pools, alone: Alone, paths: JointPaths, drivers: xr.Dataset
) -> tuple[xr.Dataset, pa.Table]:
    """Price every position alone and in its pool.

    Parameters
    ----------
    pools : Pools
        From `risk.margin.pooling.build_pools` of the same book, without other collateral.
    alone : Alone
        From `isolated_positions`.
    paths : JointPaths
        How the assets move together in each scenario.
    drivers : Dataset
        Driver record of the same scenarios.

    Returns
    -------
    totals : Dataset (scenario,)
        The variables `TOTALS`.
    rows : Table
        `scenario`, `pool` and the columns of `_ROW` wherever something was liquidated on either
        side; elsewhere both P&Ls are exposure times move.
    """
    totals = np.zeros((len(TOTALS), drivers.sizes["scenario"]))
    packed = pack(pools)
    state, slopes = new_state(packed, drivers.sizes["asset"]), find_slopes(packed)
    which, values, n = _compare(packed, slopes, state, alone, paths, whole_days(drivers), totals)
    names = dict(zip(TOTALS, totals, strict=True))
    columns = {
        "scenario": pa.array(which[:n, 0].astype("i4")),
        "pool": pa.array(which[:n, 1].astype("i4")),
    } | {name: pa.array(values[:n, c]) for c, name in enumerate(_ROW)}
    data = {name: ("scenario", column) for name, column in names.items()}
    return xr.Dataset(data), pa.table(columns)


@njit
def _compare(
    pools: Packed, slopes: Slopes, state: State, alone: Alone, paths: JointPaths, days: Days,
    totals: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, int]:  # fmt: skip
    pools, state, paths = borrow(pools), borrow(state), borrow(paths)
    legs, kinds = pools.legs, pools.kinds
    n_legs, n_pools = len(legs), len(pools.start) - 1
    single, pooled = np.empty((5, len(alone.terms.first))), np.empty((n_legs, 5))
    outcome, status = np.zeros(single.shape[1], np.int8), np.zeros(n_legs, np.int8)
    which, values, n = np.empty((1024, 2), np.int64), np.empty((1024, 6)), 0
    none = np.empty(0, np.int64)
    near = find_near(slopes, paths, days.low, days.high)
    for s in range(len(days.low)):
        low, high, last = days.low[s], days.high[s], days.last[s]
        gaps = Gaps(days.gap_start[s], none, days.gap_before, days.gap_landing)
        close_positions(
            alone.terms, alone.steps, alone.which, days.farthest[s], last, gaps, single, outcome
        )
        at, end = near.start[s], near.start[s + 1]
        for k in range(n_pools):
            code = 0
            if at < end and near.pool[at] == k:
                at += 1
                code = live(pools, k, state, paths, s, low, high, last, pooled, status, False, 0)
            row = np.zeros(6)
            infected, saved = 0, 0
            for i in range(pools.start[k], pools.start[k + 1]):
                p, a = kinds[i, ROW], kinds[i, ASSET]
                dies = outcome[p] == LIQUIDATED
                falls = code & TOUCHED != 0 and status[i] == LIQUIDATED
                row[0] += dies
                row[1] += falls
                infected += falls and not dies
                saved += dies and not falls
                row[2] += single[0, p]
                row[4] += single[2, p]
                if code & TOUCHED:
                    row[3] += pooled[i, 0]
                    row[5] += pooled[i, 2]
                else:
                    row[3] += legs[i, BETA] * (last[a] - 1.0)
            for c in range(6):
                totals[c, s] += row[c]
            totals[_IN_ALONE, s] += row[4] > 0.0
            totals[_IN_POOL, s] += row[5] > 0.0
            totals[_INFECTED, s] += infected
            totals[_SAVED, s] += saved
            if code & DIED:
                totals[_DIED, s] += 1
                totals[_SURELY, s] += dies_surely(pools, k, state, paths, s, 0)
            totals[_AT_MOST, s] += code & COULD_DIE != 0
            if row[0] > 0 or row[1] > 0:
                if n == len(which):
                    which = np.concatenate((which, np.empty_like(which)))
                    values = np.concatenate((values, np.empty_like(values)))
                which[n, 0], which[n, 1] = s, k
                values[n] = row
                n += 1
    return which, values, n


def collateral_needed(
    pools: Pools, paths: JointPaths, probability: float
) -> tuple[np.ndarray, np.ndarray]:
    """Collateral that a loss exceeds with at most this probability, alone and pooled.

    The loss is the largest one at the lows together or the highs together of any frame, closing
    costs included, as if nothing were closed on the way: a deficit after liquidation is not
    monotone in the collateral, since little collateral is closed out before a jump comes.

    Parameters
    ----------
    pools : Pools
    paths : JointPaths
        Equally likely scenarios.
    probability : float
        Of a loss beyond the collateral, for every position or pool by itself.

    Returns
    -------
    alone : ndarray (leg,)
    pooled : ndarray (pool,)
        USD; 0 for collateral.
    """
    n = paths.low.shape[0]
    rank = min(n - 1, max(int(np.ceil(n * (1.0 - probability) - 1e-9)) - 1, 0))
    return _needed(pack(pools), paths, rank)


@njit
def _needed(pools: Packed, paths: JointPaths, rank: int) -> tuple[np.ndarray, np.ndarray]:
    legs, kinds = pools.legs, pools.kinds
    n, n_frames = paths.low.shape[0], paths.low.shape[1]
    alone, pooled = np.zeros(len(legs)), np.zeros(len(pools.start) - 1)
    loss, total = np.empty(n), np.empty(n)
    down, up = np.empty((n, n_frames)), np.empty((n, n_frames))
    for k in range(len(pooled)):
        down[:] = 0.0
        up[:] = 0.0
        for i in range(pools.start[k], pools.start[k + 1]):
            a, inv, b = kinds[i, ASSET], kinds[i, INVERSE] != 0, legs[i, BETA]
            cost = legs[i, CLOSING_FEE] * legs[i, SIZE]
            for s in range(n):
                worst = 0.0
                for f in range(n_frames):
                    low, high = paths.low[s, f, a], paths.high[s, f, a]
                    at_low = cost * (1.0 if inv else low) - b * (low - 1.0)
                    at_high = cost * (1.0 if inv else high) - b * (high - 1.0)
                    down[s, f] += at_low
                    up[s, f] += at_high
                    worst = max(worst, at_low, at_high)
                loss[s] = worst
            if legs[i, SIZE] > 0.0:
                alone[i] = np.partition(loss, rank)[rank]
        for s in range(n):
            total[s] = 0.0
            for f in range(n_frames):
                total[s] = max(total[s], down[s, f], up[s, f])
        pooled[k] = np.partition(total, rank)[rank]
    return alone, pooled
