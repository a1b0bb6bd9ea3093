"""Blocks from the first draw to the last array, beside the cost of the draws alone.

Nothing is written but receipts: the cube on disk is part of `benchmarks.night`. ``--large`` prices
every optional feature on as many paths as the book without them, and ten million positions.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.books import add_options, large_book
from benchmarks.floor import draw_seconds
from benchmarks.table import Row, show
from risk.cube import plain_text, read_dataset
from risk.drivers import slice_drivers
from risk.engine import Block, plan_blocks, run_blocks
from risk.liquidation import Ladders, build_ladders, load_ladders, square_root_impact, walk
from risk.market.calibration import calibrate
from risk.scenarios.monte_carlo import draw_block

BLOCK, STEPS = 4096, 24
FOUR = ("pnl", "deficit", "liquidations", "liquidated_notional")


def random_history(n_days: int, n_assets: int, seed: int = 3) -> xr.Dataset:
    """Closes of assets that share a market and have fat tails of their own."""
    rng = np.random.default_rng(seed)
    market = rng.standard_t(4, (n_days, 1)) * 0.015
    returns = market + rng.standard_t(4, (n_days, n_assets)) * 0.015
    days = np.datetime64("2024-01-01", "ns") + np.arange(n_days) * np.timedelta64(1, "D")
    names = np.array([f"asset{i:07d}" for i in range(n_assets)], object)
    return xr.Dataset(
        {"close": (("day", "asset"), 100 * np.exp(np.cumsum(returns, axis=0)))},
        coords={"day": days, "asset": names},
    )


#: Settings of `prepare` for each optional feature.
FEATURES: dict[str, dict[str, Any]] = {
    "nothing more": {},
    "a fifth liquidated in steps": {"steps": 0.2},
    "cascade": {"cascade": True},
    "100 short-option contracts": {"n_contracts": 100},
}


def prepare(
    folder: Path,
    n_positions: int,
    n_assets: int,
    n_books: int,
    *,
    steps: float = 0.0,
    cascade: bool = False,
    n_contracts: int = 0,
) -> float:
    """Save ladders and calibration where workers find them; CPU seconds to build the ladders."""
    history = random_history(500, n_assets)
    assets = list(history.asset.values)
    calibration = plain_text(calibrate(history, assets))
    calibration.to_zarr(folder / "calibration.zarr", mode="w", consolidated=False)
    book = large_book(n_positions, n_assets, n_books, steps=steps)
    if n_contracts:
        book = add_options(book, assets[:10], n_contracts, 10 * n_contracts)
    impact = None
    if cascade:
        volume = np.full(n_assets, 500.0 * n_positions)
        impact = square_root_impact(np.full(n_assets, 0.04), volume, coefficient=0.5, cascade=True)
    begun = time.thread_time()
    ladders = build_ladders(book, assets, ("asset", "book"), impact=impact)
    seconds = time.thread_time() - begun
    ladders.save(folder / "ladders")
    return seconds


@lru_cache(maxsize=1)
def _inputs(workspace: str) -> tuple[xr.Dataset, Ladders]:
    folder = Path(workspace)
    return read_dataset(folder / "calibration.zarr"), load_ladders(folder / "ladders")


def draw(workspace: str, block: Block) -> xr.Dataset:
    """The driver record of a block."""
    calibration, ladders = _inputs(workspace)
    recorded = np.unique(ladders.options.contracts.asset).tolist()
    whole = draw_block(
        calibration, seed=1, set_code=2, block=block.number, n=BLOCK, steps=STEPS, horizon_days=1,
        recorded=recorded,
    )  # fmt: skip
    return slice_drivers(whole, 0, block.stop - block.start)


def work(workspace: str, block: Block) -> dict[str, str]:
    """A block from draw to arrays; its receipt says how long each part took."""
    ladders = _inputs(workspace)[1]
    stamps, cpu = [time.perf_counter()], [time.thread_time()]
    drivers = draw(workspace, block)
    cpu.append(time.thread_time())
    walk(ladders, drivers, variables=FOUR)
    cpu.append(time.thread_time())
    stamps.append(time.perf_counter())
    return {
        "draw": str(cpu[1] - cpu[0]),
        "walk": str(cpu[2] - cpu[1]),
        "begun": str(stamps[0]),
        "ended": str(stamps[1]),
        "peak": str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2),
    }


def never_done(workspace: str, block: Block, sums: object) -> bool:
    """Every run starts from nothing."""
    return False


def measure(folder: Path, n_paths: int, workers: int) -> dict[str, float]:
    """Wall seconds from the first block to the last, CPU seconds by part, peak GB of a worker.

    Without workers the blocks run in this process, whose peak is then that of all it did before.
    """
    for old in (folder / "blocks").glob("*.json"):
        old.unlink()
    _inputs.cache_clear()
    blocks = plan_blocks({"monte_carlo": n_paths}, BLOCK)
    executor = "dask" if workers else "plain"
    run_blocks(work, never_done, str(folder), blocks, workers=workers, executor=executor)
    receipts = [json.loads(path.read_text()) for path in (folder / "blocks").glob("*.json")]
    column = {name: [float(one[name]) for one in receipts] for name in receipts[0]}
    return {
        "draw": sum(column["draw"]),
        "walk": sum(column["walk"]),
        "wall": max(column["ended"]) - min(column["begun"]),
        "peak": max(column["peak"]),
    }


def whole_rows(
    folder: Path, n_positions: int, n_paths: int, n_assets: int, n_books: int, workers: int
) -> list[Row]:
    """The row of the design: one book, all paths, one worker and two."""
    built = prepare(folder, n_positions, n_assets, n_books)
    measure(folder, BLOCK, workers // 2)  # compiles
    one, two = (measure(folder, n_paths, n) for n in (workers // 2, workers))
    size = f"{n_positions:,} positions x {n_paths:,} paths x {STEPS} steps x {n_assets} assets"
    total, speed = one["draw"] + one["walk"], n_positions * n_paths / two["wall"]
    least = draw_seconds(n_paths, STEPS, n_assets)
    return [
        (f"{size}, {n_assets * n_books:,} cells: s, two workers", f"{two['wall']:.1f}", "<= 15"),
        ("  1e9 position-scenarios per second", f"{speed / 1e9:.1f}", ""),
        ("  build the ladders: s per 1e7 positions", f"{built / n_positions * 1e7:.1f}", "<= 10"),
        ("  draw, correlate, bridge: CPU s", f"{one['draw']:.1f}", ""),
        ("  walk, four outputs: CPU s", f"{one['walk']:.1f}", ""),
        ("  all against the draws", f"{total / one['draw']:.2f}", "<= 1.6"),
        ("  all against NumPy's normals, correlated, alone", f"{total / least:.2f}", ""),
        ("  two workers against one", f"{one['wall'] / two['wall']:.2f}", ">= 1.8"),
        ("  peak memory of a worker: GB", f"{two['peak']:.2f}", "<= 2"),
    ]


def feature_rows(
    folder: Path, n_positions: int, n_paths: int, n_assets: int, n_books: int, workers: int
) -> list[Row]:
    """What each optional feature costs, in CPU seconds beside the book without it."""
    rows, base = [], 0.0
    for name, settings in FEATURES.items():
        built = prepare(folder, n_positions, n_assets, n_books, **settings)
        measure(folder, BLOCK, workers)  # compiles
        found = measure(folder, n_paths, workers)
        base = base or found["walk"]
        rows += [
            (f"with {name}, {n_paths:,} paths: s, two workers", f"{found['wall']:.1f}", ""),
            ("  walk: CPU s", f"{found['walk']:.1f}", ""),
            ("  walk against that of nothing more", f"{found['walk'] / base:.2f}", ""),
            ("  all against the draws", f"{1 + found['walk'] / found['draw']:.2f}", ""),
            ("  build the ladders: s per 1e7 positions", f"{built / n_positions * 1e7:.1f}", ""),
            ("  peak memory of a worker: GB", f"{found['peak']:.2f}", ""),
        ]
    return rows


def growth_rows(
    folder: Path, n_positions: int, n_paths: int, n_assets: int, n_books: int, workers: int,
    more: int,
) -> list[Row]:  # fmt: skip
    """Walk and memory as scenarios and positions grow; each figure from fresh workers."""
    rows = []
    prepare(folder, n_positions, n_assets, n_books)
    one, four = (measure(folder, n, workers) for n in (n_paths, 4 * n_paths))
    rows += [
        (f"peak memory, {n_positions:,} positions, {n_paths:,} paths: GB",
         f"{one['peak']:.2f}", ""),
        ("  four times the paths: GB", f"{four['peak']:.2f}", f"<= {1.05 * one['peak']:.2f}"),
    ]  # fmt: skip
    prepare(folder, more * n_positions, n_assets, n_books)
    large = measure(folder, n_paths, workers)
    bytes_each = (large["peak"] - one["peak"]) * 1024**3 / ((more - 1) * n_positions)
    return [
        *rows,
        (f"  {more} times the positions: GB", f"{large['peak']:.2f}", ""),
        ("  mapped bytes per position beyond the first", f"{bytes_each:.0f}", "<= 250"),
        (f"walk, {more} times the positions: times as long",
         f"{large['walk'] / one['walk']:.2f}", "<= 2" if more == 10 else ""),
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print the table."""
    large = "--large" in arguments
    positions, paths, few, assets, books, workers = 1_000_000, 100_000, 8 * BLOCK, 100, 10, 2
    if "--toy" in arguments:
        positions, paths, few, assets, books, workers = 2_000, 600, 300, 4, 2, 0
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as name:
        folder, least = Path(name), min(2 * BLOCK, few)
        show(whole_rows(folder, positions, paths, assets, books, workers))
        show(feature_rows(folder, positions, paths if large else few, assets, books, workers))
        base = positions if large else positions // 10
        show(growth_rows(folder, base, least, assets, books, workers, 10))


if __name__ == "__main__":
    main(sys.argv[1:])
