"""Writes what the options of the book do when prices and volatilities move a little."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from risk.margin.greeks import book_greeks
from risk.pipeline.night import Night


def write_greeks(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write `greeks.parquet`; nothing where the book holds no option that is priced."""
    found = book_greeks(book)
    if found.num_rows:
        pq.write_table(found, night.folder / "greeks.parquet")
