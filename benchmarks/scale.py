"""The coefficients of the cost model in ``docs/scale.md``: what one unit of work costs.

CPU seconds of one thread, the least of several tries. Run ``python -m benchmarks.scale``.
"""

from __future__ import annotations

import sys
import time

from benchmarks.books import large_book, quiet_day
from benchmarks.engine import FOUR, random_history
from benchmarks.floor import fastest
from benchmarks.table import Row, show
from risk.liquidation import build_ladders, walk
from risk.market.calibration import calibrate
from risk.scenarios.monte_carlo import draw_block

STEPS, PATHS, SCENARIOS, BOOKS = 24, 1024, 4096, 10


def draw_rows(assets: tuple[int, ...]) -> list[Row]:
    """Drawing a path: some of it grows with the assets, some with their square."""
    rows = []
    for n_assets in assets:
        history = random_history(500, n_assets)
        calibration = calibrate(history, list(history.asset.values))

        def draw(calibration=calibration):
            return draw_block(
                calibration, seed=1, set_code=2, block=0, n=PATHS, steps=STEPS, horizon_days=1
            )

        unit = fastest(draw) / (PATHS * STEPS * n_assets)
        rows.append(
            (f"draw, {n_assets} assets: ns per (path, step, asset)", f"{unit * 1e9:.1f}", "")
        )
    return rows


def walk_rows(sizes: tuple[int, ...]) -> list[Row]:
    """Walking the ladders, by rungs per ladder; and building them."""
    rows, n_assets = [], 20
    names = [f"asset{i:07d}" for i in range(n_assets)]
    build_ladders(large_book(1000, n_assets, 1), names, ("asset", "book"))  # compiles
    for n_positions in sizes:
        book = large_book(n_positions, n_assets, BOOKS, inverse=0.0)
        begun = time.thread_time()
        ladders = build_ladders(book, names, ("asset", "book"))
        built = time.thread_time() - begun
        calm = quiet_day(SCENARIOS, n_assets)
        unit = fastest(lambda ladders=ladders, calm=calm: walk(ladders, calm, variables=FOUR))
        unit /= ladders.n_ladders * SCENARIOS
        length = ladders.n_rungs / ladders.n_ladders
        each = f"{length:,.0f} rungs a ladder"
        total = f"{n_positions:,} positions"
        rows += [
            (f"walk, {each}: ns per (ladder, scenario)", f"{unit * 1e9:.1f}", ""),
            (f"build, {total}: s per 1e7", f"{built / n_positions * 1e7:.1f}", "<= 10"),
            ("  bytes per rung", f"{ladders.nbytes / ladders.n_rungs:.0f}", "<= 250"),
        ]
    return rows


def memory_rows() -> list[Row]:
    """Memory is that of a block: it does not grow with the scenarios of a run."""
    size = 4 * 8 * SCENARIOS / 1e6
    return [("arrays of a block, four outputs: MB per cell", f"{size:.2f}", "")]


def main(arguments: list[str]) -> None:
    """Print the table."""
    toy = "--toy" in arguments
    assets, sizes = ((5,), (2_000,)) if toy else ((25, 100), (20_000, 200_000, 2_000_000))
    show(draw_rows(assets) + walk_rows(sizes) + memory_rows())


if __name__ == "__main__":
    main(sys.argv[1:])
