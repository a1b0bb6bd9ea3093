"""One block of the run, as a worker does it: scenarios in, chunks of the cube out.

A pure function of the workspace's files and the block's number. Importable by a bare worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

from risk.cube import check_block, load_depths, load_record, read_dataset, write_block
from risk.drivers import JointPaths, slice_drivers, take_drivers
from risk.engine import Block
from risk.liquidation import Ladders, load_ladders, walk
from risk.liquidation.cross import (
    PoolOutcomes,
    among_shown,
    check_outcomes,
    find_slopes,
    join_outcomes,
    live_pools,
    pool_outcomes,
    put_outcomes,
    save_outcomes,
    shown_drivers,
    take_outcomes,
)
from risk.liquidation.options import (
    Valued,
    check_valued,
    save_valued,
    take_valued,
    value_options,
)
from risk.scenarios.carry import Carry
from risk.scenarios.monte_carlo import draw_block

#: Numbers the random streams of a scenario set are keyed by; never reuse one.
SET_CODES = {"historical": 1, "monte_carlo": 2, "stress": 3}

#: Files of the workspace that a block reads, its results aside.
READS = (
    "plan.json",
    "calibration.zarr/**/*",
    "ladders/*",
    "scenarios/**/*",
    "cube.zarr/**/zarr.json",
    "drivers.zarr/**/zarr.json",
)

#: Folder in the workspace for what the option contracts are worth in every block.
OPTIONS = "options"

#: The same for what account pools came to.
POOLS = "pools"

#: Folder in the workspace for the ladders of a market with less depth, where a stress needs them.
THIN = "ladders-thin"


def run_block(workspace: str, block: Block) -> Mapping[str, str]:
    """Draw or read the block's scenarios, walk the ladders, write the chunks.

    Returns
    -------
    mapping of str to str
        Checksum of every array written.
    """
    ladders = _ladders(workspace)
    drivers, pooled = _drivers_and_pools(workspace, block, ladders)
    contracts = ladders.options.contracts
    valued = value_options(contracts, drivers) if len(contracts.asset) else None
    cube = walk(ladders, drivers, valued=valued, pooled=pooled)
    if block.scenario_set == "stress":
        pooled = _close_in_thin_markets(workspace, block, drivers, valued, pooled, cube)
    sums = write_block(Path(workspace), block.scenario_set, block.start, cube, drivers)
    if valued is not None:
        sums[OPTIONS] = save_valued(Path(workspace) / OPTIONS, block.key, valued)
    if pooled is not None:
        sums[POOLS] = save_outcomes(Path(workspace) / POOLS, block.key, pooled)
    return sums


def _close_in_thin_markets(
    workspace: str,
    block: Block,
    drivers: xr.Dataset,
    valued: Valued | None,
    pooled: PoolOutcomes | None,
    cube: xr.Dataset,
) -> PoolOutcomes | None:
    """Price the stresses of another depth on their own ladders; the cube is changed in place."""
    depth = _depths(workspace)[block.start : block.stop]
    for share in np.unique(depth):
        if share == 1 or not (Path(workspace) / THIN / thin_name(share)).exists():
            continue  # nobody's closing moves a price on this night
        index = np.flatnonzero(depth == share)
        some = None if valued is None else take_valued(valued, index)
        ladders = load_ladders(Path(workspace) / THIN / thin_name(share))
        part, shared = take_drivers(drivers, index), None
        if pooled is not None:
            shared = pool_outcomes(ladders.cross.pools, part)
            pooled = put_outcomes(pooled, index, shared)
        thin = walk(ladders, part, valued=some, pooled=shared)
        for name, variable in thin.items():
            cube[name].values[index] = variable.values
    return pooled


def thin_name(share: float) -> str:
    """Name of the folder of the ladders at a share of the usual depth."""
    return f"{share:.17g}"


def check(workspace: str, block: Block, checksums: Mapping[str, str]) -> bool:
    """Whether an earlier attempt's chunks are intact."""
    folder = Path(workspace)
    if OPTIONS in checksums and not check_valued(folder / OPTIONS, block.key, checksums[OPTIONS]):
        return False
    if POOLS in checksums and not check_outcomes(folder / POOLS, block.key, checksums[POOLS]):
        return False
    return check_block(folder, block.scenario_set, block.start, block.stop, checksums)


def _drivers_and_pools(
    workspace: str, block: Block, ladders: Ladders
) -> tuple[xr.Dataset, PoolOutcomes | None]:
    """The driver record of one block, and what the book's pools, if it has any, come to in it.

    Paths are shown to the pools step by step, tile by tile, while they are drawn: of the assets and
    instruments that pools hold.
    """
    pools = ladders.cross.pools
    if not len(pools.legs):
        return block_drivers(workspace, block), None
    if block.scenario_set != "monte_carlo":
        drivers = block_drivers(workspace, block)
        return drivers, pool_outcomes(pools, drivers)
    parts: list[tuple[int, PoolOutcomes]] = []
    shown = shown_drivers(pools)
    few = among_shown(pools, shown)
    slopes = find_slopes(few)
    drivers = block_drivers(
        workspace,
        block,
        lambda first, paths: parts.append((first, live_pools(few, paths, slopes))),
        shown.tolist(),
    )
    wanted = np.arange(block.stop - block.start)
    return drivers, take_outcomes(join_outcomes(parts), wanted)


def block_drivers(
    workspace: str,
    block: Block,
    watch: Callable[[int, JointPaths], None] | None = None,
    shown: Sequence[int] | None = None,
) -> xr.Dataset:
    """The driver record of one block.

    `watch` is shown its Monte Carlo paths step by step, of the drivers `shown`.
    """
    if block.scenario_set != "monte_carlo":
        record = _record(workspace, block.scenario_set)
        return slice_drivers(record, block.start, block.stop)
    drawn, carry = _plan(workspace)["monte_carlo"], _plan(workspace)["carry"]
    # Always draw the whole block: a path must not depend on how many paths the run asks for.
    whole = draw_block(
        _calibration(workspace),
        block=block.number,
        n=drawn["block_size"],
        recorded=np.unique(_ladders(workspace).options.contracts.asset).tolist(),
        carry=None if carry is None else Carry.from_dict(carry),
        watch=watch,
        shown=shown,
        **drawn,
    )
    return slice_drivers(whole, 0, block.stop - block.start)


@lru_cache(maxsize=2)
def _plan(workspace: str) -> dict:
    return json.loads((Path(workspace) / "plan.json").read_text())


@lru_cache(maxsize=2)
def _ladders(workspace: str) -> Ladders:
    return load_ladders(Path(workspace) / "ladders")


@lru_cache(maxsize=4)
def _record(workspace: str, scenario_set: str) -> xr.Dataset:
    return load_record(Path(workspace) / "scenarios" / f"{scenario_set}.zarr", instruments=True)


@lru_cache(maxsize=2)
def _depths(workspace: str) -> np.ndarray:
    return load_depths(Path(workspace) / "scenarios" / "stress.zarr")


@lru_cache(maxsize=2)
def _calibration(workspace: str) -> xr.Dataset:
    return read_dataset(Path(workspace) / "calibration.zarr")
