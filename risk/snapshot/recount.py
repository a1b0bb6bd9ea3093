"""Count and value a snapshot's files once more, apart from the code that loads them.

Shares nothing with the load but the file format: it is what the totals of a run are reconciled to.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from risk.schema import USD_EQUIVALENTS


class Recount(NamedTuple):
    """What the files of a snapshot hold.

    Attributes
    ----------
    n_rows : int
        Position rows, by the footers of the files.
    notional_usd : float
        Of the rows that are not quarantined and can be valued, USD at the mark.
    quarantined_usd : float
        Of the quarantined rows that can be valued all the same.
    n_quarantined_valued : int
        How many of these there are.
    """

    n_rows: int
    notional_usd: float
    quarantined_usd: float
    n_quarantined_valued: int


def recount(path: Path, quarantine: pa.Table) -> Recount:
    """Count and value every position row of a snapshot's files.

    Parameters
    ----------
    path : Path
        Folder of the snapshot.
    quarantine : Table
        `risk.schema.QUARANTINE`: which rows were left out.

    Returns
    -------
    Recount
        A row is worth its contracts times their size, times the mark if linear, the index for an
        option; only a contract quoted in a currency worth one dollar can be valued.
    """
    worth = _worth(path)
    left_out: dict[str, list[int]] = {}
    rows = zip(quarantine["file"].to_pylist(), quarantine["row"].to_pylist(), strict=True)
    for file, row in rows:
        left_out.setdefault(file, []).append(row)
    n_rows, good, bad, n_bad = 0, [0.0], [0.0], 0
    for file in _files(path, "positions"):
        n_rows += pq.read_metadata(file).num_rows
        table = pq.read_table(file, columns=["venue", "symbol", "contracts"], partitioning=None)
        value = _values(table, worth)
        is_bad = np.zeros(len(value), bool)
        is_bad[left_out.get(file.relative_to(path).as_posix(), [])] = True
        known = np.isfinite(value) & (value > 0.0)
        good.append(math.fsum(value[known & ~is_bad]))
        bad.append(math.fsum(value[known & is_bad]))
        n_bad += int((known & is_bad).sum())
    return Recount(n_rows, math.fsum(good), math.fsum(bad), n_bad)


def _files(path: Path, name: str) -> list[Path]:
    single = path / f"{name}.parquet"
    return [single] if single.is_file() else sorted((path / name).glob("*.parquet"))


def _worth(path: Path) -> dict[str, dict[str, float]]:
    """USD per contract, by venue and symbol."""
    wanted = [
        "venue", "symbol", "type", "linear", "quote", "contract_size", "mark_price", "index_price",
    ]  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    for file in _files(path, "contracts"):
        for row in pq.read_table(file, columns=wanted, partitioning=None).to_pylist():
            if row["quote"] not in USD_EQUIVALENTS:
                continue
            is_option = row["type"] == "option"
            price = row["index_price"] if is_option else row["mark_price"] if row["linear"] else 1.0
            size = row["contract_size"]
            if price is not None and size is not None:
                found.setdefault(row["venue"], {})[row["symbol"]] = float(size) * float(price)
    return found


def _values(table: pa.Table, worth: dict[str, dict[str, float]]) -> np.ndarray:
    """USD of every row (row,), NaN where it cannot be told."""
    codes, names = [], []
    for column in ("venue", "symbol"):
        array = table[column].combine_chunks()
        if not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        names.append(array.dictionary.to_pylist())
        codes.append(array.indices.fill_null(-1).to_numpy(zero_copy_only=False))
    # One column more, of NaN, for a row without a venue or a symbol.
    per_contract = np.full((len(names[0]) + 1, len(names[1]) + 1), np.nan)
    for i, venue in enumerate(names[0]):
        listed = worth.get(venue, {})
        for k, symbol in enumerate(names[1]):
            per_contract[i, k] = listed.get(symbol, np.nan)
    contracts = table["contracts"].to_numpy(zero_copy_only=False).astype("f8")
    return contracts * per_contract[codes[0], codes[1]]
