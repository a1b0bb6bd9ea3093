"""Beside others, on the same book and the same paths, where they are installed (extra ``bench``).

The two engines without ladders are written out here, as a reader would write them first: NumPy in
chunks that fit the cache, and one compiled loop over positions and scenarios. Both price closes at
the trigger only, so the paths have no jumps.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import pyarrow as pa
import xarray as xr

from benchmarks.books import large_book, quiet_day
from benchmarks.floor import fastest
from benchmarks.table import Row, show
from risk.liquidation import build_ladders, walk
from risk.liquidation.terms import close_lines, close_out_terms
from risk.measures import expected_shortfall_contributions

FOUR = ("pnl", "deficit", "liquidations", "liquidated_notional")


class Plain:
    """A book as arrays by position: what a close at the trigger leaves, costs and closes."""

    def __init__(self, book: pa.Table, assets: list[str]) -> None:
        terms = close_out_terms(book, assets).terms
        alpha, beta, _, fee = close_lines(terms)
        x = np.abs(terms.first)
        value = alpha + beta * x
        holder = np.where(terms.to_holder, np.maximum(value - fee * x, 0.0), 0.0)
        self.is_forced = terms.first == terms.margin
        held = np.where(self.is_forced, holder, np.maximum(value, 0.0))
        self.left = held - terms.equity
        self.short = np.maximum(-value, 0.0)
        self.closed = np.where(self.is_forced, terms.notional * x, 0.0)
        self.first, self.exposure = terms.first, terms.exposure
        self.asset, self.is_long = terms.asset.astype("i8"), terms.direction > 0


def price_by_numpy(plain: Plain, drivers: xr.Dataset, positions: int = 4096, scenarios: int = 16):
    """Four totals per scenario: a plain array engine, in chunks of two megabytes."""
    extreme = np.stack([drivers.high.values, -drivers.low.values])
    last = drivers["last"].values - 1.0
    n = len(last)
    totals = np.zeros((4, n))
    side = plain.is_long.astype("i8")
    for p in range(0, len(plain.first), positions):
        some = slice(p, p + positions)
        asset, forced = plain.asset[some], plain.is_forced[some]
        for start in range(0, n, scenarios):
            rows = slice(start, start + scenarios)
            hit = plain.first[some] <= extreme[side[some], rows, asset].T
            open_pnl = plain.exposure[some] * last[rows, asset]
            totals[0, rows] += np.where(hit, plain.left[some], open_pnl).sum(axis=1)
            totals[1, rows] += hit @ plain.short[some]
            totals[2, rows] += hit @ forced.astype("f8")
            totals[3, rows] += hit @ plain.closed[some]
    return totals


@numba.njit(nogil=True)
def _loop(first, exposure, left, short, closed, forced, row, extreme, last, totals):
    for i in range(totals.shape[1]):
        pnl, deficit, count, notional = 0.0, 0.0, 0.0, 0.0
        for p in range(len(first)):
            if first[p] <= extreme[i, row[p]]:
                pnl += left[p]
                deficit += short[p]
                count += forced[p]
                notional += closed[p]
            else:
                pnl += exposure[p] * last[i, row[p] >> 1]
        totals[0, i], totals[1, i], totals[2, i], totals[3, i] = pnl, deficit, count, notional


def price_by_loop(plain: Plain, drivers: xr.Dataset) -> np.ndarray:
    """The same totals by one compiled loop over scenarios and positions."""
    both = np.stack([-drivers.low.values, drivers.high.values], axis=2)
    extreme = np.ascontiguousarray(both.reshape(len(both), -1))
    last = np.ascontiguousarray(drivers["last"].values - 1.0)
    totals = np.empty((4, len(last)))
    row = 2 * plain.asset + np.where(plain.is_long, 0, 1)
    _loop(
        plain.first, plain.exposure, plain.left, plain.short, plain.closed,
        plain.is_forced.astype("f8"), row, extreme, last, totals,
    )  # fmt: skip
    return totals


def engine_rows(n_positions: int, n_scenarios: int) -> list[Row]:
    """Ours and the two engines without ladders, on one book; they must agree."""
    n_assets, n_plain = 20, min(n_scenarios, 64)
    assets = [f"asset{i:07d}" for i in range(n_assets)]
    book = large_book(n_positions, n_assets, 10, inverse=0.0)
    day = quiet_day(n_scenarios, n_assets)
    few = day.isel(scenario=slice(0, n_plain))
    ladders, plain = build_ladders(book, assets, ("asset", "book")), Plain(book, assets)
    ours = walk(ladders, few, variables=FOUR)
    found = np.stack([ours[name].sum("cell").values for name in FOUR])
    seconds = fastest(lambda: walk(ladders, day, variables=FOUR), 3)
    mine = n_positions * n_scenarios / seconds
    rows = [
        (f"ladders, {n_positions:,} positions: 1e9 position-scenarios/s", f"{mine / 1e9:.1f}", "")
    ]
    for name, price in (("NumPy", price_by_numpy), ("numba", price_by_loop)):
        theirs = price(plain, few)
        gross = np.abs(plain.left).sum()
        if np.abs(theirs[:2] - found[:2]).max() > 1e-9 * gross or (theirs[2] != found[2]).any():
            sys.exit(f"{name} and the ladders differ")
        speed = n_positions * n_plain / fastest(lambda price=price: price(plain, few), 2)
        rows += [
            (f"  {name}, every position in every scenario", f"{speed / 1e9:.3f}", ""),
            (f"  ladders against {name}", f"{mine / speed:.0f}", ""),
        ]
    return rows


def _peer(name: str) -> ModuleType | None:
    """Import a peer, quietly, where it is installed."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module(name)
    except ImportError:
        return None


def contribution_rows(n_scenarios: int, n_assets: int) -> list[Row]:
    """What each asset adds to the expected shortfall: ours and skfolio's."""
    rng = np.random.default_rng(4)
    returns = rng.standard_t(4, (n_scenarios, 1)) * 0.01
    returns = returns + rng.standard_t(4, (n_scenarios, n_assets)) * 0.01
    labelled = xr.DataArray(returns / n_assets, dims=("scenario", "cell"))

    def ours() -> xr.DataArray:
        return expected_shortfall_contributions(labelled, 0.95)

    mine = fastest(ours, 3)
    title = f"contributions to ES, {n_scenarios:,} scenarios x {n_assets} assets"
    rows = [(f"{title}: ms", f"{mine * 1e3:.1f}", "")]
    portfolio = _peer("skfolio.portfolio")
    if portfolio is None:
        return [*rows, ("  skfolio is not installed", "n/a", "")]
    skfolio = importlib.import_module("skfolio")
    weights = np.full(n_assets, 1 / n_assets)
    other = portfolio.Portfolio(X=returns, weights=weights)
    measure = skfolio.RiskMeasure.CVAR
    begun = time.thread_time()
    theirs = other.contribution(measure=measure)
    seconds = time.thread_time() - begun
    total = float(ours().sum())
    away = np.abs(np.asarray(theirs) - ours().values).max() / total
    return [
        *rows,
        ("  skfolio, finite differences: ms", f"{seconds * 1e3:.1f}", ""),
        ("  times as fast as skfolio", f"{seconds / mine:.0f}", ""),
        ("  largest difference, share of the total", f"{away:.1e}", ""),
    ]


#: Prints the processor seconds of one run; in a process of its own, because ORE reads and writes
#: beside where it is started.
_ORE_RUN = """
import time, ORE
settings = ORE.Parameters()
settings.fromFile("Input/ore_histsimvar.xml")
app = ORE.OREApp(settings, False)
begun = time.process_time()
app.run()
print(time.process_time() - begun)
"""


def full_revaluation_rows() -> list[Row]:
    """Historical VaR by ORE, each trade priced again in each scenario, on its own example.

    Its trades are currency swaps, ours perpetuals: what is beside each other is the way of working.
    """
    examples = os.environ.get("ORE_EXAMPLES", "")
    if _peer("ORE") is None:
        return [("ORE is not installed", "n/a", "")]
    if not examples:
        return [("ORE: ORE_EXAMPLES does not name its folder Examples/MarketRisk", "n/a", "")]
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as name:
        folder = Path(name)
        shutil.copytree(Path(examples) / "Input", folder / "Input")
        (folder / "Output/HistSimVar").mkdir(parents=True)
        done = subprocess.run(
            [sys.executable, "-c", _ORE_RUN], cwd=folder, capture_output=True, text=True, check=True
        )
        seconds = float(done.stdout.split()[-1])
        history = (folder / "Output/HistSimVar/historical_PnL.csv").read_text().splitlines()
        trades = (folder / "Input/HistSimVar/portfolio.xml").read_text().count("<Trade ")
    scenarios = sum(line.startswith("All,All,All,") for line in history)
    return [
        (f"ORE historical VaR, {trades} trades x {scenarios} scenarios: CPU s",
         f"{seconds:.1f}", ""),
        ("  per trade and scenario: us", f"{seconds / (trades * scenarios) * 1e6:.0f}", ""),
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print the table."""
    toy = "--toy" in arguments
    rows = engine_rows(2_000 if toy else 200_000, 256 if toy else 4096)
    rows += contribution_rows(500 if toy else 10_000, 5 if toy else 50)
    show(rows + full_revaluation_rows())


if __name__ == "__main__":
    main(sys.argv[1:])
