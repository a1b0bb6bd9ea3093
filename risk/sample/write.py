"""Writes a sample snapshot: `as_of=<date>/` with its tables and venue rules, and `history/`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.errors import ConfigError, DataError
from risk.sample.book import draw_positions
from risk.sample.contracts import list_contracts
from risk.sample.history import read_brackets, real_prices
from risk.sample.options import implied_history
from risk.sample.prices import Prices, synthetic_prices
from risk.sample.tiers import tier_table

#: Date of a synthetic sample that is given none; its prices are about those of that day.
DEFAULT_AS_OF = date(2025, 6, 29)

_BOOK_SOURCE = "SYNTHETIC sample book"


def write_sample(
    out: Path,
    *,
    positions: int,
    seed: int,
    as_of: date | None = None,
    history: Path | None = None,
    tiers: Path | None = None,
    venue_rules: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a sample snapshot and the price history that goes with it.

    Parameters
    ----------
    out : Path
        Folder that gets `as_of=<date>/` and `history/prices.parquet`, beside it simulated indices
        of implied volatility where the prices are simulated; made if missing.
    positions : int
        Number of positions, at least 1.
    seed : int
        Not negative. The same arguments and input files give the same bytes.
    as_of : date, optional
        Day of the snapshot. Without it the last day of `history`, or `DEFAULT_AS_OF`.
    history : Path, optional
        Parquet file of real daily bars; synthetic prices are simulated without it.
    tiers : Path, optional
        Parquet file of published brackets at one or more dates; synthetic tiers without it.
    venue_rules : Path, optional
        Folder of `<venue>.yaml`; those of the venues in the sample are copied into the snapshot.
    progress : callable, optional
        Called with one line before each step.

    Returns
    -------
    Path
        The `as_of=<date>` folder.

    Raises
    ------
    ConfigError
        If a number is out of range, the as-of lies outside the history, a venue has no rules, or
        writing would damage what `out` already holds.
    DataError
        If an input file is missing, damaged or lacks a column.
    """
    say = progress or (lambda line: None)
    if positions < 1:
        raise ConfigError(f"positions is {positions}; a sample needs at least 1")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it must not be negative")
    # Prices do not depend on the book: each part has a stream of its own.
    price_stream, contract_stream, book_stream, implied_stream = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)
    )
    if history is None:
        as_of = as_of or DEFAULT_AS_OF
        say(f"simulating prices up to {as_of}")
        prices = synthetic_prices(as_of, price_stream)
    else:
        say(f"reading prices from {history}")
        prices, as_of = real_prices(history, as_of)
    brackets = read_brackets(tiers, as_of) if tiers else None
    listing = list_contracts(prices, as_of, contract_stream)
    tier_rows, tier_source = tier_table(prices, listing, brackets)
    say(f"drawing {positions:,} positions on {len(prices.assets)} assets")
    book, balances = draw_positions(positions, prices, listing, tier_rows, book_stream)

    folder = out / f"as_of={as_of}"
    tables = {
        "positions": (book, _BOOK_SOURCE),
        "contracts": (listing.table, f"SYNTHETIC contract list on {prices.source}"),
        "tiers": (tier_rows, tier_source),
        "accounts": (balances, _BOOK_SOURCE),
    }
    rules = _venue_files(venue_rules, listing.table)
    _refuse_overwriting(folder)
    say(f"writing {folder}")
    # History first: a snapshot is never there without its prices.
    _write_history(out, folder, prices)
    if prices.is_synthetic:
        implied = implied_history(prices.table, implied_stream)
        _write_table(
            out / "history" / "implied_volatility.parquet",
            _marked(implied, True, "SYNTHETIC indices of implied volatility"),
        )
    for source in rules:
        target = folder / "venues" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for name, (table, text) in reversed(tables.items()):
        _write_table(folder / f"{name}.parquet", _marked(table, True, text))
    if balances.num_rows == 0:
        (folder / "accounts.parquet").unlink()
    return folder


def _write_history(out: Path, folder: Path, prices: Prices) -> None:
    """Write the price file, unless another snapshot of `out` stands on a different one."""
    n = prices.table.num_rows
    # Simulated bars are of the mark itself; published ones are traded prices.
    kind = "mark" if prices.is_synthetic else "last"
    table = prices.table.append_column("interval", pa.array(["1d"] * n))
    table = table.append_column("price_kind", pa.array([kind] * n))
    table = _marked(table, prices.is_synthetic, prices.source)
    path = out / "history" / "prices.parquet"
    others = [other.name for other in out.glob("as_of=*") if other != folder]
    if others and path.exists():
        try:
            is_same = pq.read_table(path).equals(table)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as Parquet ({error})") from error
        if not is_same:
            raise ConfigError(
                f"{path} holds another price history, which {others[0]} stands on: "
                "choose another folder for this sample"
            )
    _write_table(path, table)


def _refuse_overwriting(folder: Path) -> None:
    path = folder / "positions.parquet"
    if folder.exists() and (folder / "positions").exists():
        raise ConfigError(f"{folder} holds a snapshot that is no sample: choose another folder")
    if path.exists():
        try:
            metadata = pq.read_schema(path).metadata or {}
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as Parquet ({error})") from error
        if metadata.get(b"bulkhead.synthetic") != b"true":
            raise ConfigError(f"{folder} holds a snapshot that is no sample: choose another folder")


def _venue_files(folder: Path | None, contracts: pa.Table) -> list[Path]:
    if folder is None:
        return []
    files = [folder / f"{venue}.yaml" for venue in contracts["venue"].unique().to_pylist()]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ConfigError(f"{folder}: no margin rules {', '.join(missing)} for the sample's venues")
    return files


def _marked(table: pa.Table, is_synthetic: bool, source: str) -> pa.Table:
    flag = b"true" if is_synthetic else b"false"
    return table.replace_schema_metadata(
        {b"bulkhead.synthetic": flag, b"bulkhead.source": source.encode()}
    )


def _write_table(path: Path, table: pa.Table) -> None:
    """Write aside and rename, so that no half-written file is ever visible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    pq.write_table(table, part, compression="zstd")
    os.replace(part, path)
