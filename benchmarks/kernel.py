"""The ladder walk and build against their budgets, against NumPy, and against the machine.

Times are CPU seconds of the one thread that works, so a busy machine does not change them much.
Run ``python -m benchmarks.kernel``; ``--large`` also builds ten million rungs.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import numpy as np

from benchmarks.books import jumpy_day, large_book, quiet_day
from benchmarks.floor import bandwidth, fastest
from benchmarks.peers import Plain, price_by_numpy
from benchmarks.table import Row, show
from risk.liquidation import Impact, Ladders, build_ladders, square_root_impact, walk
from risk.liquidation.kernel import walk_cells
from risk.liquidation.walk import group_gaps, sort_paths
from risk.schema import CUBE

FOUR = ("pnl", "deficit", "liquidations", "liquidated_notional")
LABELS = ("asset", "book")
N_SCENARIOS, N_ASSETS = 4096, 100
#: The kernel alone is timed on fewer assets, each with ten cells, as in a nightly book.
N_KERNEL_ASSETS, N_BOOKS = 20, 10


def names(n_assets: int) -> list[str]:
    """The assets of `large_book`."""
    return [f"asset{i:07d}" for i in range(n_assets)]


def least_seconds(ladders: Ladders, outputs: list[np.ndarray], speed: tuple[float, float]) -> float:
    """Seconds to read the rows of the ladders once and to write the outputs, and nothing else."""
    sums = ladders.plain.sums
    read, written = speed
    return (sums.first.nbytes + sums.hot.nbytes) / read + sum(o.nbytes for o in outputs) / written


def kernel_rows(sizes: tuple[int, ...], n_assets: int = N_KERNEL_ASSETS) -> list[Row]:
    """The walk at some sizes of ladder: per unit, against this machine and against NumPy."""
    rows = []
    calm, speed = quiet_day(N_SCENARIOS, n_assets), bandwidth()
    few, gaps = calm.isel(scenario=slice(0, 16)), group_gaps(calm)
    for n_rungs in sizes:
        book = large_book(n_rungs * 2 * n_assets * N_BOOKS, n_assets, N_BOOKS, inverse=0.0)
        ladders = build_ladders(book, names(n_assets), LABELS)
        cells = ladders.n_ladders * N_SCENARIOS
        paths = sort_paths(calm, ladders.steps.events, n_rungs)
        out = {k: np.zeros((ladders.n_cells, N_SCENARIOS), v.dtype) for k, v in CUBE.items()}
        for name, is_wide in (("four", False), ("seven", True)):
            walked = (ladders.plain, ladders.steps, paths, gaps, 32, is_wide, tuple(out.values()))
            seconds = fastest(partial(walk_cells, ladders.walk_order, *walked))
            budget = "" if is_wide else "<= 4"
            rows.append(
                (f"kernel, {name} outputs, {n_rungs} rungs: ns per (ladder, scenario)",
                 f"{seconds / cells * 1e9:.2f}", budget)
            )  # fmt: skip
            if is_wide:
                continue
            floor = least_seconds(ladders, [out[each] for each in FOUR], speed)
            rate = n_rungs * cells / seconds
            slow = fastest(partial(price_by_numpy, Plain(book, names(n_assets)), few), 1)
            ratio = rate * slow / (few.sizes["scenario"] * book.num_rows)
            rows += [
                ("  times the reading and writing of its bytes", f"{seconds / floor:.1f}", ""),
                ("  1e9 position-scenarios per second", f"{rate / 1e9:.0f}",
                 {500: ">= 100", 5000: ">= 1,000"}.get(n_rungs, "")),
                ("  times as fast as NumPy", f"{ratio:.0f}", ">= 500" if n_rungs >= 500 else ""),
            ]  # fmt: skip
    read, written = (f"{each / 1e9:.1f}" for each in speed)
    return [*rows, ("this machine, one thread: GB/s read", read, ""), ("  written", written, "")]


def walk_rows(ladders: Ladders, what: str, n_scenarios: int) -> list[Row]:
    """The whole of `walk`, with sorting, gaps and fresh output pages."""
    cells, n_assets = ladders.n_ladders * n_scenarios, len(ladders.assets)
    rows = []
    for day, record in (
        ("no jump", quiet_day(n_scenarios, n_assets)),
        ("0.05 jumps per asset", jumpy_day(n_scenarios, n_assets)),
    ):
        for name, variables in (("four", FOUR), ("seven", tuple(CUBE))):
            seconds = fastest(lambda d=record, v=variables: walk(ladders, d, variables=v))
            rows.append(
                (f"walk{what}, {day}, {name} outputs: ns per (ladder, scenario)",
                 f"{seconds / cells * 1e9:.2f}", "")
            )  # fmt: skip
    return rows


def build_rows(
    n_rungs: int, n_assets: int, what: str = "", steps: float = 0.0, impact: Impact | None = None
) -> tuple[list[Row], Ladders]:
    """Seconds and bytes of a book's ladders."""
    book = large_book(n_rungs, n_assets, 11, steps=steps)
    begun = time.thread_time()
    ladders = build_ladders(book, names(n_assets), LABELS, impact=impact)
    seconds = time.thread_time() - begun
    return [
        (f"build{what}, {ladders.n_rungs:.2e} rungs, {ladders.n_ladders} ladders: s per 1e7",
         f"{seconds / ladders.n_rungs * 1e7:.1f}", "<= 10"),
        ("  bytes per rung", f"{ladders.nbytes / ladders.n_rungs:.0f}", "<= 250"),
    ], ladders  # fmt: skip


def feature_rows(n_positions: int, n_assets: int, n_scenarios: int) -> list[Row]:
    """What partial liquidation and the cascade cost."""
    crowd = square_root_impact(
        np.full(n_assets, 0.04), np.full(n_assets, 5e8), coefficient=0.5, cascade=True
    )
    rows = []
    for what, steps, impact in (
        ("", 0.0, None), (", cascade", 0.0, crowd), (", a fifth in steps", 0.2, None),
        (", both", 0.2, crowd),
    ):  # fmt: skip
        build_rows(1000, n_assets, what, steps, impact)  # compiles
        built, ladders = build_rows(n_positions, n_assets, what, steps, impact)
        rows += built + walk_rows(ladders, what, n_scenarios)
    return rows


def main(arguments: list[str]) -> None:
    """Print the table."""
    if "--toy" in arguments:
        show(kernel_rows((20,), 2) + feature_rows(2_000, 5, 64))
        return
    rows = kernel_rows((50, 500, 5000)) + feature_rows(1_000_000, N_ASSETS, N_SCENARIOS)
    if "--large" in arguments:
        rows += build_rows(10_000_000, N_ASSETS)[0]
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
