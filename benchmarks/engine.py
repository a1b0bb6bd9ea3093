"""Blocks from the first draw to the last array, beside the cost of the draws alone.

Nothing is written but receipts: the cube on disk is part of `benchmarks.night`.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks.books import large_book
from benchmarks.table import Row, show
from risk.drivers import slice_drivers
from risk.engine import Block, plan_blocks, run_blocks
from risk.liquidation import Ladders, build_ladders, load_ladders, walk
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


def prepare(folder: Path, n_positions: int, n_assets: int, n_books: int) -> float:
    """Save ladders and calibration where workers find them; seconds to build the ladders."""
    history = random_history(500, n_assets)
    calibrate(history, list(history.asset.values)).to_netcdf(folder / "calibration.nc")
    book = large_book(n_positions, n_assets, n_books)
    begun = time.perf_counter()
    ladders = build_ladders(book, list(history.asset.values), ("asset", "book"))
    seconds = time.perf_counter() - begun
    ladders.save(folder / "ladders")
    return seconds


@lru_cache(maxsize=1)
def _inputs(workspace: str) -> tuple[xr.Dataset, Ladders]:
    folder = Path(workspace)
    return xr.load_dataset(folder / "calibration.nc"), load_ladders(folder / "ladders")


def draw(workspace: str, block: Block) -> xr.Dataset:
    """The driver record of a block."""
    whole = draw_block(
        _inputs(workspace)[0],
        seed=1,
        set_code=2,
        block=block.number,
        n=BLOCK,
        steps=STEPS,
        horizon_days=1,
    )
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
    """Wall seconds from the first block to the last, CPU seconds by part, peak GB of a worker."""
    blocks = plan_blocks({"monte_carlo": n_paths}, BLOCK)
    run_blocks(work, never_done, str(folder), blocks, workers=workers)
    receipts = [json.loads(path.read_text()) for path in (folder / "blocks").glob("*.json")]
    column = {name: [float(one[name]) for one in receipts] for name in receipts[0]}
    return {
        "draw": sum(column["draw"]),
        "walk": sum(column["walk"]),
        "wall": max(column["ended"]) - min(column["begun"]),
        "peak": max(column["peak"]),
    }


def rows(n_positions: int, n_paths: int, n_assets: int, n_books: int, limit: str) -> list[Row]:
    """One book against one set of paths."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as name:
        folder = Path(name)
        built = prepare(folder, n_positions, n_assets, n_books)
        measure(folder, BLOCK, 1)  # compiles
        one, two = (measure(folder, n_paths, workers) for workers in (1, 2))
    speedup = f"{one['wall'] / two['wall']:.2f}"
    size = f"{n_positions:,} positions x {n_paths:,} paths x {STEPS} steps x {n_assets} assets"
    total, speed = one["draw"] + one["walk"], n_positions * n_paths / two["wall"]
    return [
        (f"{size}, {n_assets * n_books:,} cells: s, two workers",
         f"{two['wall']:.1f}", limit),
        ("  1e9 position-scenarios per second", f"{speed / 1e9:.1f}", ""),
        ("  build the ladders: s", f"{built:.2f}", ""),
        ("  draw, correlate, bridge: CPU s", f"{one['draw']:.1f}", ""),
        ("  walk, four outputs: CPU s", f"{one['walk']:.1f}", ""),
        ("  all against the draws", f"{total / one['draw']:.2f}", "<= 1.6"),
        *([("  two workers against one", speedup, ">= 1.8")] if n_paths > 8 * BLOCK else []),
        ("  peak memory of a worker: GB", f"{two['peak']:.2f}", "<= 2"),
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print the table."""
    show(rows(100_000, 10_000, 20, 10, "<= 10"))
    show(rows(1_000_000, 100_000, 100, 10, "<= 15"))


if __name__ == "__main__":
    main(sys.argv[1:])
