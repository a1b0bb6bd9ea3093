"""The ladder walk and build against their budgets, and against NumPy in chunks.

Times are CPU seconds of the one thread that works, so a busy machine does not change them much.
Run ``python -m benchmarks.kernel``; ``--large`` also builds ten million rungs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import xarray as xr

from benchmarks.books import jumpy_day, large_book, quiet_day
from risk.liquidation import Impact, Ladders, build_ladders, square_root_impact, walk
from risk.liquidation.kernel import walk_cells
from risk.liquidation.terms import close_lines, close_out_terms
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


def fastest(call: Callable[[], object], repeats: int = 5) -> float:
    """Least CPU seconds of a call, compiled and warm."""
    call()
    best = np.inf
    for _ in range(repeats):
        begun = time.thread_time()
        call()
        best = min(best, time.thread_time() - begun)
    return best


def price_in_chunks(book, drivers: xr.Dataset, n_scenarios: int, chunk: int = 64) -> float:
    """P&L, deficit, liquidations and notional by NumPy: a plain array engine, without ladders."""
    terms = close_out_terms(book, list(drivers.asset.values)).terms
    alpha, beta, _, fee = close_lines(terms)
    x = np.abs(terms.first)
    value = alpha + beta * x
    left = np.where(terms.to_holder, np.maximum(value - fee * x, 0.0), 0.0) - terms.equity
    short, closed = np.maximum(-value, 0.0), terms.notional * x
    is_long, liquidated = terms.direction > 0, terms.first == terms.margin
    low, high, last = (drivers[name].values for name in ("low", "high", "last"))
    total = 0.0
    for start in range(0, n_scenarios, chunk):
        rows = slice(start, start + chunk)
        extreme = np.where(is_long, -low[rows][:, terms.asset], high[rows][:, terms.asset])
        hit = terms.first <= extreme
        open_pnl = terms.exposure * (last[rows][:, terms.asset] - 1.0)
        total += np.where(hit, left, open_pnl).sum(axis=1).sum()
        forced = hit & liquidated
        total += (forced @ short).sum() + (forced @ closed).sum() + forced.sum()
    return total


def kernel_rows() -> list[tuple[str, str, str]]:
    """Name, figure and budget of the walk at three sizes of ladder."""
    rows = []
    calm = quiet_day(N_SCENARIOS, N_KERNEL_ASSETS)
    gaps = group_gaps(calm)
    for n_rungs in (50, 500, 5000):
        n_positions = n_rungs * 2 * N_KERNEL_ASSETS * N_BOOKS
        book = large_book(n_positions, N_KERNEL_ASSETS, N_BOOKS, inverse=0.0)
        ladders = build_ladders(book, names(N_KERNEL_ASSETS), LABELS)
        cells = ladders.n_ladders * N_SCENARIOS
        paths = sort_paths(calm, ladders.steps.events, n_rungs)
        out = [np.zeros((ladders.n_cells, N_SCENARIOS), v.dtype) for v in CUBE.values()]
        for name, is_wide in (("four", False), ("seven", True)):

            def kernel(ladders=ladders, paths=paths, is_wide=is_wide, out=tuple(out)):
                return walk_cells(
                    ladders.walk_order, ladders.plain, ladders.steps, paths, gaps, 32, is_wide, out
                )

            seconds = fastest(kernel)
            budget = "<= 4" if name == "four" else ""
            rows.append(
                (f"kernel, {name} outputs, {n_rungs} rungs: ns per (ladder, scenario)",
                 f"{seconds / cells * 1e9:.2f}", budget)
            )  # fmt: skip
            if name == "four":
                speed = n_rungs * cells / seconds
                least = {500: ">= 100", 5000: ">= 1000"}.get(n_rungs, "")
                rows.append(
                    (f"  1e9 position-scenarios per second, {n_rungs} rungs",
                     f"{speed / 1e9:.0f}", least)
                )  # fmt: skip
                sample = min(64 * 20_000_000 // (64 * book.num_rows) + 1, 2) * 64
                slow = fastest(lambda book=book, n=sample: price_in_chunks(book, calm, n), 1)
                ratio = slow / (sample * book.num_rows) * speed
                least = ">= 500" if n_rungs >= 500 else ""
                rows.append((f"  times as fast as NumPy, {n_rungs} rungs", f"{ratio:.0f}", least))
    return rows


def walk_rows(ladders: Ladders, what: str = "") -> list[tuple[str, str, str]]:
    """The whole of `walk`, with sorting, gaps and fresh output pages."""
    cells = ladders.n_ladders * N_SCENARIOS
    rows = []
    for day, record in (
        ("no jump", quiet_day(N_SCENARIOS, N_ASSETS)),
        ("0.05 jumps per asset", jumpy_day(N_SCENARIOS, N_ASSETS)),
    ):
        for name, variables in (("four", FOUR), ("seven", tuple(CUBE))):
            seconds = fastest(lambda d=record, v=variables: walk(ladders, d, variables=v))
            rows.append(
                (f"walk{what}, {day}, {name} outputs: ns per (ladder, scenario)",
                 f"{seconds / cells * 1e9:.2f}", "")
            )  # fmt: skip
    return rows


def build_rows(
    n_rungs: int, what: str = "", steps: float = 0.0, impact: Impact | None = None
) -> tuple[list[tuple[str, str, str]], Ladders]:
    """Seconds and bytes of a book's ladders."""
    book = large_book(n_rungs, N_ASSETS, 11, steps=steps)
    begun = time.thread_time()
    ladders = build_ladders(book, names(N_ASSETS), LABELS, impact=impact)
    seconds = time.thread_time() - begun
    return [
        (f"build{what}, {ladders.n_rungs:.2e} rungs, {ladders.n_ladders} ladders: s per 1e7",
         f"{seconds / ladders.n_rungs * 1e7:.1f}", "<= 10"),
        ("  bytes per rung", f"{ladders.nbytes / ladders.n_rungs:.0f}", "<= 250"),
    ], ladders  # fmt: skip


def feature_rows() -> list[tuple[str, str, str]]:
    """What partial liquidation and the cascade cost on a million positions."""
    crowd = square_root_impact(
        np.full(N_ASSETS, 0.04), np.full(N_ASSETS, 5e8), coefficient=0.5, cascade=True
    )
    rows = []
    for what, steps, impact in (
        ("", 0.0, None), (", cascade", 0.0, crowd), (", a fifth in steps", 0.2, None),
        (", both", 0.2, crowd),
    ):  # fmt: skip
        built, ladders = build_rows(1_000_000, what, steps, impact)
        rows += built + walk_rows(ladders, what)
    return rows


def main(arguments: list[str]) -> None:
    """Print the table."""
    tiny = square_root_impact(
        np.ones(N_ASSETS), np.full(N_ASSETS, 1e12), coefficient=1, cascade=True
    )
    for impact in (None, tiny):  # compiles
        book = large_book(1000, N_ASSETS, 1, steps=0.5)
        build_ladders(book, names(N_ASSETS), LABELS, impact=impact)
    rows = kernel_rows() + feature_rows()
    if "--large" in arguments:
        rows += build_rows(10_000_000)[0]
    width = max(len(name) for name, _, _ in rows)
    print(f"{'':{width}}  {'figure':>8}  budget")
    for name, figure, budget in rows:
        print(f"{name:{width}}  {figure:>8}  {budget}")


if __name__ == "__main__":
    main(sys.argv[1:])
