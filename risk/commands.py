"""What the command line does, as functions: each is the command of the same name.

They return what they made, print nothing and read no clock. Everything heavy is imported inside,
so that `bulkhead --help` answers at once.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

    from risk.snapshot import Snapshot
    from risk.store import Comparison, Run

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
        checked.positions, checked.contracts, checked.tiers, checked.venues, as_of=checked.as_of
    )
    table = margin_table(book)
    _write_table(checked.quarantine, out.with_name("quarantine.parquet"))
    _write_table(table, out)
    return table


def run(
    config: Path,
    *,
    snapshot: Path | None = None,
    as_of: dt.date | None = None,
    out: Path | None = None,
    workers: int | None = None,
    executor: Literal["plain", "dask"] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Run the night: snapshot in; cube, measures and reports out.

    The same inputs, config and code give the same run: one that was killed is resumed, one that is
    finished is recognised. Workers and executor change how fast it is, never a byte of it.

    Parameters
    ----------
    config : Path
        YAML file, such as configs/demo.yaml.
    snapshot : Path, optional
        Folder of the snapshot, or the folder above it, instead of the config's.
    as_of : date, optional
        Day of the snapshot instead of the config's.
    out : Path, optional
        Folder of runs instead of the config's.
    workers : int, optional
        Worker processes instead of the config's.
    executor : {"plain", "dask"}, optional
        In this process or on dask, instead of the config's.
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        For the timings in the manifest.

    Returns
    -------
    Run
        The finished run.
    """
    from risk import pipeline
    from risk.config import load_config

    night = load_config(
        config,
        snapshot=snapshot,
        as_of=as_of,
        out=out,
        execution__workers=workers,
        execution__executor=executor,
    )
    return pipeline.run(night, progress=progress, clock=clock)


def backtest(
    config: Path,
    *,
    from_: dt.date,
    to: dt.date,
    snapshot: Path | None = None,
    out: Path | None = None,
    marks: Path | None = None,
    workers: int | None = None,
    executor: Literal["plain", "dask"] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Replay past nights on the real history of a static book; exceedances, causes and tests.

    Every night forecasts the day after from what was known then. The book is kept in terms of
    ratios: exposures, collateral and triggers as of its snapshot, re-marked to each close. A
    backtest that was killed goes on where it was.

    Parameters
    ----------
    config : Path
        YAML file, such as configs/demo.yaml; its historical and Monte Carlo sets are tested.
    from_ : date
        First night.
    to : date
        Last night; the history must hold the day after it.
    snapshot : Path, optional
        Folder of the snapshot, or the folder above it, instead of the config's.
    out : Path, optional
        Folder of runs instead of the config's; the backtest goes to its backtest/.
    marks : Path, optional
        History of mark prices to count liquidations on, instead of the config's history.
    workers : int, optional
        Worker processes instead of the config's.
    executor : {"plain", "dask"}, optional
        In this process or on dask, instead of the config's.
    progress : callable (stage, done, total), optional
    clock : callable () -> seconds, optional
        For the timings in the manifest.

    Returns
    -------
    Run
        The finished backtest.
    """
    from risk import replay
    from risk.config import load_config

    nights = load_config(
        config,
        snapshot=snapshot,
        out=out,
        execution__workers=workers,
        execution__executor=executor,
    )
    return replay.backtest(nights, from_, to, marks=marks, progress=progress, clock=clock)


def runs(
    out: Path = Path("runs"), *, compare: tuple[Path, Path] | None = None, verify: bool = False
) -> tuple[Run, ...] | Comparison:
    """List finished runs, or compare two.

    Parameters
    ----------
    out : Path
        Folder of runs.
    compare : tuple of Path, optional
        Two runs: what went in differently, and every figure that moved.
    verify : bool
        Check every file of every run against the checksum in its manifest.

    Returns
    -------
    tuple of Run, or Comparison
        By as-of date and then in the order they finished.
    """
    from risk import store

    if compare is not None:
        return store.compare_runs(*(store.open_run(path) for path in compare))
    finished = store.list_runs(out)
    if verify:
        for run in finished:
            store.verify(run)
    return finished


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
