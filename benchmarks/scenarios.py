"""Scenarios beyond the night's own: calibration, grids of moves and reverse stress.

The book is the sample's, options and all, so that the searches walk what a night walks.
"""

from __future__ import annotations

import datetime as dt
import resource
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from benchmarks.engine import random_history
from benchmarks.table import Row, show
from risk.config import Grid, Reverse
from risk.explore import price_grids, reverse_stresses
from risk.findings import insurance_funds
from risk.margin.book import build_book
from risk.market.calibration import calibrate
from risk.market.history import load_history, universe
from risk.market.implied import calibrate_implied
from risk.sample import write_sample
from risk.snapshot import load_snapshot

AS_OF = dt.date(2025, 6, 29)
LABELS = ("venue", "settle", "asset", "kind", "side", "book")
RULES = Path(__file__).parents[1] / "configs/venues"


def calibration_rows() -> list[Row]:
    """Thirty assets over five years, by the volatility model and the copula."""
    rows = []
    history = random_history(5 * 365, 30)
    assets = list(history.asset.values)
    for volatility, copula in (("ewma", False), ("garch", True)):
        begun = time.perf_counter()
        calibrate(history, assets, volatility=volatility, copula=copula)
        seconds = time.perf_counter() - begun
        law = "t copula" if copula else "Student-t"
        name = f"calibrating 30 assets x 5 years, {volatility}, {law}: s"
        rows.append((name, f"{seconds:.1f}", "<= 10"))
    return rows


def sample_book(positions: int, seed: int = 1) -> tuple[pa.Table, list[str], xr.Dataset, dict]:
    """The sample's book, universe, calibration and funds (USD by venue)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample(folder, positions=positions, seed=seed, venue_rules=RULES)
        snapshot = load_snapshot(folder, as_of=AS_OF, venue_folders=[RULES])
        history = load_history(folder / "history", AS_OF)
    assets = universe(history, AS_OF)
    book = build_book(
        snapshot.positions, snapshot.contracts, snapshot.tiers, snapshot.venues, as_of=AS_OF
    )
    calibration = calibrate(history, assets)
    implied = calibrate_implied(history, None, assets, calibration.attrs["market"])
    funds = insurance_funds(snapshot.venues, history).to_pylist()
    return (
        book,
        assets,
        calibration.merge(implied, combine_attrs="no_conflicts"),
        {fund["venue"]: fund["balance_usd"] or 0.0 for fund in funds},
    )


def ask(
    book: pa.Table, assets: list[str], calibration: xr.Dataset, funds: dict[str, float]
) -> tuple[xr.Dataset, float, float]:
    """What reverse stress finds, and the seconds of the grids and of the search."""
    begun = time.perf_counter()
    price_grids(book, assets, calibration, Grid(), labels=LABELS, max_cells=10_000, horizon_days=1)
    gridded = time.perf_counter()
    # Beside the venues' funds a limit that a large move does breach.
    wanted = Reverse(deficit_limit=0.01 * pc.sum(book["notional_usd"]).as_py())
    found = reverse_stresses(book, assets, calibration, funds, wanted, seed=1, horizon_days=1)
    return found, gridded - begun, time.perf_counter() - gridded


def search_rows(positions: int) -> list[Row]:
    """Grids and reverse stress on one book, after a first try on a small one has compiled."""
    ask(*sample_book(500))
    book, assets, calibration, funds = sample_book(positions)
    found, gridded, searched = ask(book, assets, calibration, funds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    n_options = int(pc.sum(pc.is_valid(book["option_terms"])).as_py())
    title = f"{len(book):,} positions ({n_options:,} options), {len(assets)} assets"
    answers = f"{int(found['found'].sum())} of {found['found'].size} searches find a move"
    return [
        (f"{title}: grid 15 x 7 and every asset alone, s", f"{gridded:.1f}", "<= 10"),
        (
            f"  reverse stress, {found.sizes['target']} targets ({answers}), s",
            f"{searched:.1f}",
            "<= 30",
        ),
        ("  peak memory: GB", f"{peak:.1f}", ""),
    ]


def main(arguments: list[str]) -> None:
    """Print the table; ``--large`` adds a book of a million positions."""
    rows = calibration_rows() + search_rows(20_000)
    show(rows + (search_rows(1_000_000) if "--large" in arguments else []))


if __name__ == "__main__":
    main(sys.argv[1:])
