"""Account pools of a night: what they came to, and the contrast of isolated with shared."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.cube import load_record, open_drivers, read_dataset
from risk.drivers import JointPaths, joint_bars, slice_drivers
from risk.liquidation import (
    collateral_needed,
    contrast,
    isolated_positions,
)
from risk.liquidation.columns import LIQUIDATED
from risk.liquidation.cross import AMOUNTS, COUNTS, read_pools
from risk.margin.excess import APART
from risk.margin.pooling import build_pools, folded, pooled_rows
from risk.margin.pools import Pools
from risk.pipeline.carry import driver_names
from risk.pipeline.files import pooled_outcomes
from risk.pipeline.gone_through import worst_scenarios
from risk.pipeline.night import Night
from risk.pipeline.scenarios import path_settings
from risk.scenarios.monte_carlo import draw_block


def write_pools(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write `pools.parquet`: what the book's cross-margin pools came to, scenario by scenario."""
    if not len(pooled_rows(book)):
        return
    pools = read_pools(book, driver_names(night, assets))
    is_apart = np.repeat(pools.pool[:, APART] != 0.0, np.diff(pools.start))
    parts = []
    for name in night.config.scenarios.names:
        outcomes = pooled_outcomes(night.folder, name)
        if outcomes is None:
            return
        n = len(outcomes.counts)
        mine = np.flatnonzero(~is_apart[outcomes.leg])
        scenario = outcomes.scenario[mine]
        columns: dict[str, np.ndarray] = {
            "scenario": np.arange(n, dtype="i4"),
            "weight": open_drivers(night.folder)[name].to_dataset()["weight"].values,
        }
        columns |= dict(zip(COUNTS, outcomes.counts.T, strict=True))
        hit = outcomes.status[mine] == LIQUIDATED
        columns["liquidations"] = np.bincount(scenario[hit], minlength=n)
        for amount in ("venue_gain", "deficit", "market_cost", "liquidated_notional"):
            values = outcomes.amounts[mine, AMOUNTS.index(amount)]
            # Of nothing, counts come back whatever the weights are.
            columns[amount] = np.bincount(scenario, values, n).astype("f8")
        names = pa.array([name] * n, pa.string())
        parts.append(pa.table(columns).add_column(0, "scenario_set", names))
    pq.write_table(pa.concat_tables(parts), night.folder / "pools.parquet")


def write_contrast(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write `cross.parquet`, `cross_accounts.parquet` and `cross_collateral.parquet`."""
    folder, config, book = night.folder, night.config, folded(book)
    rows = _isolated_rows(book)
    if not (config.cross.contrast and len(rows)):
        return
    pools = build_pools(book, rows, assets)
    owner = book.select(["account", "venue"]).take(pa.array(pools.row[pools.start[:-1]]))
    pools = pools._replace(row=np.searchsorted(rows, pools.row))
    alone = isolated_positions(book.take(pa.array(rows)), assets)
    totals, found = [], []
    for name in config.scenarios.names:
        parts = []
        for first, paths, drivers in _joint_scenarios(night, name):
            summed, hit = contrast(pools, alone, paths, drivers)
            n = drivers.sizes["scenario"]
            numbers = pa.array(np.arange(first, first + n, dtype="i4"))
            columns = {"scenario": numbers, "weight": drivers.weight.values}
            parts.append(pa.table(columns | {k: v.values for k, v in summed.items()}))
            found.append(_rows(name, first, hit, owner))
        if parts:
            joined = pa.concat_tables(parts)
            names = pa.array([name] * len(joined), pa.string())
            totals.append(joined.add_column(0, "scenario_set", names))
            found = _keep_worst(name, joined, found, config.accounts.worst_scenarios)
    if not totals:
        return
    pq.write_table(pa.concat_tables(totals), folder / "cross.parquet")
    pq.write_table(pa.concat_tables(found), folder / "cross_accounts.parquet")
    _write_collateral(night, pools, owner)


def _isolated_rows(book: pa.Table) -> np.ndarray:
    is_priced = pc.equal(book["status"], "ok")
    is_alone = pc.and_(book["option_terms"].is_null(), book["pool_holdings"].is_null())
    wanted = pc.and_(is_priced, is_alone)
    return np.flatnonzero(wanted.to_numpy(zero_copy_only=False))


def _joint_scenarios(night: Night, name: str) -> list[tuple[int, JointPaths, xr.Dataset]]:
    """The scenarios of a set that the contrast takes: first index, joint paths, driver record."""
    folder, wanted = night.folder, night.config.cross
    if name == "stress":
        record = load_record(folder / "scenarios" / "stress.zarr")
        return [(0, joint_bars(record), record)]
    if name == "historical":
        record = load_record(folder / "scenarios" / "historical.zarr")
        n = record.sizes["scenario"]
        first = max(n - wanted.windows, 0)
        newest = slice_drivers(record, first, n)
        return [(first, joint_bars(newest), newest)] if first < n else []
    if name != "monte_carlo":
        return []
    settings = path_settings(night.config)
    assert settings is not None
    drivers = open_drivers(folder)[name].to_dataset()
    n = min(wanted.paths, drivers.sizes["scenario"])
    record = slice_drivers(drivers.load(), 0, n)
    calibration = read_dataset(folder / "calibration.zarr")
    found: list[tuple[int, JointPaths, xr.Dataset]] = []
    size = settings["block_size"]
    for number in range(-(-n // size)):
        begin = number * size
        seen: list[tuple[int, JointPaths]] = []
        draw_block(
            calibration,
            block=number,
            n=min(size, n - begin),
            watch=lambda at, paths, seen=seen: seen.append((at, paths)),  # type: ignore[misc]
            **settings,
        )
        for at, paths in seen:
            first = begin + at
            found.append((first, paths, slice_drivers(record, first, first + len(paths.low))))
    return found


def _rows(name: str, first: int, hit: pa.Table, owner: pa.Table) -> pa.Table:
    """One row per account pool and scenario in which somebody was liquidated."""
    who = owner.take(hit["pool"].combine_chunks())
    columns = {
        "scenario_set": pa.array([name] * len(hit), pa.string()),
        "scenario": pc.add(hit["scenario"], pa.scalar(first, pa.int32())),
        "account": who["account"].cast(pa.string()),
        "venue": who["venue"].cast(pa.string()),
    }
    return pa.table(columns | {k: hit[k] for k in hit.column_names[2:]})


def _keep_worst(name: str, totals: pa.Table, found: list[pa.Table], n: int) -> list[pa.Table]:
    """Of a sampled set, only the scenarios with the largest deficits keep their accounts."""
    if name == "stress":
        return found
    deficit = pc.add(totals["isolated_deficit"], totals["cross_deficit"]).to_numpy()
    kept = pa.array(totals["scenario"].to_numpy()[worst_scenarios(deficit, n)])
    return [
        part.filter(
            pc.or_(pc.not_equal(part["scenario_set"], name), pc.is_in(part["scenario"], kept))
        )
        for part in found
    ]


def _write_collateral(night: Night, pools: Pools, owner: pa.Table) -> None:
    """What every account posts and needs, alone and shared, at the same probability."""
    path = night.folder / "scenarios" / "historical.zarr"
    if not path.exists():
        return
    target = night.config.margin.target_deficit_probability
    alone, shared = collateral_needed(pools, joint_bars(load_record(path)), target)
    pool = np.repeat(np.arange(pools.n_pools), np.diff(pools.start))
    columns = {
        "account": owner["account"].cast(pa.string()),
        "venue": owner["venue"].cast(pa.string()),
        "positions": pa.array(np.diff(pools.start)),
        "posted_usd": pools.cash + np.bincount(pool, pools.alpha + pools.beta, pools.n_pools),
        "needed_isolated_usd": np.bincount(pool, alone, pools.n_pools),
        "needed_cross_usd": shared,
    }
    pq.write_table(pa.table(columns), night.folder / "cross_collateral.parquet")
