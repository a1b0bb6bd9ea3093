"""Commands on a book: write a sample, check a snapshot, margin its positions."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from risk.snapshot import Snapshot

VENUES = Path("configs/venues")


def sample(
    *,
    out: Path,
    positions: int = 20_000,
    seed: int = 1,
    as_of: dt.date | None = None,
    history: Path | None = None,
    tiers: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a realistic sample snapshot, marked SYNTHETIC in every output.

    Several venues, more than twenty assets, linear and inverse perpetuals and dated futures, and a
    price history with fat tails and common crashes. With a real history and real tiers the book is
    built on the prices and brackets of that day instead.

    Parameters
    ----------
    out : Path
        Folder that gets the snapshot (as_of=...) and its price history (history/).
    positions : int
        Number of positions.
    seed : int
        The same seed gives the same bytes.
    as_of : date, optional
        Day of the snapshot; the last day of the history by default.
    history : Path, optional
        Parquet file of real daily bars.
    tiers : Path, optional
        Parquet file of published brackets.
    progress : callable, optional
        Called with one line before each step.

    Returns
    -------
    Path
        The ``as_of=...`` folder.
    """
    from risk.sample import write_sample

    return write_sample(
        out,
        positions=positions,
        seed=seed,
        as_of=as_of,
        history=history,
        tiers=tiers,
        progress=progress,
    )


def check(
    snapshot: Path, *, as_of: dt.date | None = None, out: Path | None = None, venues: Path = VENUES
) -> Snapshot:
    """Validate a snapshot; say what was quarantined and why.

    Parameters
    ----------
    snapshot : Path
        Folder of a snapshot (as_of=...), or the folder above it.
    as_of : date, optional
        Which snapshot of the folder; the latest by default.
    out : Path, optional
        Folder that gets quarantine.parquet: file, row, position id and reason.
    venues : Path
        Folder of margin rules; rules inside the snapshot come first.

    Returns
    -------
    Snapshot
        The rows that keep every rule, and the quarantine.
    """
    from risk.snapshot import load_snapshot

    checked = load_snapshot(snapshot, as_of=as_of, venue_folders=[venues])
    if out is not None:
        _write_table(checked.quarantine, out / "quarantine.parquet")
    return checked


def margin(
    snapshot: Path, *, out: Path, as_of: dt.date | None = None, venues: Path = VENUES
) -> pa.Table:
    """Write the margin table: one row per position.

    Equity, requirement, liquidation and bankruptcy price, distance, margin call. Quarantined rows
    are not in it; they go to quarantine.parquet beside it.

    Parameters
    ----------
    snapshot : Path
        Folder of a snapshot (as_of=...), or the folder above it.
    out : Path
        Parquet file to write.
    as_of : date, optional
        Which snapshot of the folder; the latest by default.
    venues : Path
        Folder of margin rules; rules inside the snapshot come first.

    Returns
    -------
    Table (position,)
        Schema `risk.schema.MARGIN`.
    """
    from risk.margin.book import build_book, margin_table

    checked = check(snapshot, as_of=as_of, venues=venues)
    book = build_book(
        checked.positions,
        checked.contracts,
        checked.tiers,
        checked.venues,
        as_of=checked.as_of,
        accounts=checked.accounts,
    )
    table = margin_table(book)
    _write_table(checked.quarantine, out.with_name("quarantine.parquet"))
    _write_table(table, out)
    return table


def _write_table(table: pa.Table, path: Path) -> None:
    """Write aside and rename, so that no half-written table is ever visible."""
    import pyarrow.parquet as pq

    from risk.errors import RunError

    aside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, aside, compression="zstd")
        os.replace(aside, path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from None
