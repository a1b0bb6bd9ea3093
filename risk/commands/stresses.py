"""The stress command: one named stress, now, on one book."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from risk.commands.books import VENUES, check

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr

    from risk.scenarios.stress import Stress
    from risk.snapshot import Snapshot


@dataclass(frozen=True)
class StressResult:
    """What one stress does to one book.

    Attributes
    ----------
    stress : Stress
        The stress, as its file says.
    snapshot : Snapshot
        The book it was done to.
    cells : Table (cell,)
        `venue`, `asset`, and in USD `loss` (the holders', a gain is negative), `deficit`,
        `liquidated_notional`; `liquidations` is a count.
    coverage : Table
        Schema `risk.schema.COVERAGE`.
    ignored : tuple of str
        Assets the stress moves that have no price on this day.
    """

    stress: Stress
    snapshot: Snapshot
    cells: pa.Table
    coverage: pa.Table
    ignored: tuple[str, ...]


def stress(
    file: Path,
    *,
    snapshot: Path = Path("data"),
    history: Path = Path("data/history"),
    as_of: dt.date | None = None,
    venues: Path = VENUES,
) -> StressResult:
    """One stress, now, on one book: loss, deficit and liquidations by asset and venue.

    The figures are those the night finds for the same stress and book.

    Parameters
    ----------
    file : Path
        Stress file, such as configs/stresses/uniform-fall-50.yaml.
    snapshot : Path
        Folder of a snapshot (as_of=...), or the folder above it.
    history : Path
        Daily bars, for the universe and the betas of assets the stress does not name.
    as_of : date, optional
        Which snapshot of the folder; the latest by default.
    venues : Path
        Folder of margin rules; rules inside the snapshot come first.

    Returns
    -------
    StressResult
    """
    from risk.coverage import coverage, gross_notional, mark_unpriced
    from risk.liquidation import build_ladders, walk
    from risk.margin.book import build_book
    from risk.market.calibration import calibrate
    from risk.market.history import load_history, universe
    from risk.pipeline.carry import book_instruments
    from risk.scenarios.stress import load_stress, stress_drivers

    wanted = load_stress(file)
    checked = check(snapshot, as_of=as_of, venues=venues)
    bars = load_history(history, checked.as_of)
    assets = universe(bars, checked.as_of)
    book = build_book(
        checked.positions,
        checked.contracts,
        checked.tiers,
        checked.venues,
        as_of=checked.as_of,
        accounts=checked.accounts,
    )
    book = mark_unpriced(book, assets).append_column(
        "gross_notional_usd", gross_notional(checked.positions, checked.contracts)
    )
    calibration = calibrate(bars, assets)
    drivers = stress_drivers(
        [wanted],
        assets,
        calibration["beta"],
        calibration["volatility"],
        book_instruments(book, checked.contracts, checked.as_of),
    )
    labels = ("venue", "asset", "settle")
    names = [str(name) for name in drivers["asset"].values]
    ladders = build_ladders(book, names, labels, max_cells=max(len(book), 1))
    return StressResult(
        stress=wanted,
        snapshot=checked,
        cells=_cells(walk(ladders, drivers), ladders.cells),
        coverage=coverage(book, checked.quarantine, checked.n_rows),
        ignored=tuple(name.rpartition(": ")[2] for name in drivers.attrs["ignored"]),
    )


def _cells(outcome: xr.Dataset, labels: pa.Table) -> pa.Table:
    import pyarrow as pa

    (loss,) = -outcome.pnl.values
    (deficit,) = outcome.deficit.values
    (count,) = outcome.liquidations.values
    (notional,) = outcome.liquidated_notional.values
    found = pa.table(
        {
            "venue": labels["venue"].cast(pa.string()),
            "asset": labels["asset"].cast(pa.string()),
            "loss": loss,
            "deficit": deficit,
            "liquidations": pa.array(count).cast(pa.int64()),
            "liquidated_notional": notional,
        }
    )
    # Settle currencies have their own cells, because each may lose its peg.
    amounts = found.column_names[2:]
    cells = found.group_by(["venue", "asset"], use_threads=False)
    totals = cells.aggregate([(name, "sum") for name in amounts]).sort_by(
        [("venue", "ascending"), ("asset", "ascending")]
    )
    return totals.rename_columns(found.column_names)
