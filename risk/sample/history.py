"""Reads a real price history and real tier brackets; nothing after the as-of reaches the book."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from risk.errors import ConfigError, DataError
from risk.sample.prices import ENTRY_DAYS, Prices
from risk.schema import HISTORY, conform

#: A younger asset has too short a past to be calibrated on.
MIN_DAYS = 60

_TIER_COLUMNS = (
    "as_of",
    "symbol",
    "tier",
    "min_notional",
    "max_notional",
    "maintenance_margin_rate",
    "maintenance_amount",
    "max_leverage",
)


@dataclass(frozen=True)
class Brackets:
    """Published tiers of one date: per symbol the columns of `risk.schema.TIERS` by name."""

    published: date
    by_symbol: Mapping[str, Mapping[str, np.ndarray]]


def read_parquet(path: Path, columns: tuple[str, ...] | list[str]) -> pa.Table:
    """Read the named columns of a Parquet file.

    Raises
    ------
    DataError
        If the file is missing or damaged, or lacks a column.
    """
    try:
        present = pq.read_schema(path).names
        missing = [name for name in columns if name not in present]
        if missing:
            raise DataError(f"{path}: missing column {', '.join(missing)}; it has {present}")
        return pq.read_table(path, columns=list(columns), partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error})") from error


def real_prices(path: Path, as_of: date | None) -> tuple[Prices, date]:
    """Read daily bars of any assets; keep those alive on the as-of.

    Parameters
    ----------
    path : Path
        Parquet file with the columns of `risk.schema.HISTORY`; others are ignored.
    as_of : date or None
        None takes the last day of the file.

    Returns
    -------
    Prices, date
        Assets with a close on the as-of and `MIN_DAYS` days up to it, by name; and the as-of.

    Raises
    ------
    ConfigError
        If the as-of lies after the last day, or no asset is alive then.
    DataError
        If the file is damaged, not daily, or holds a duplicate or a price that is not positive.
    """
    table = conform(read_parquet(path, HISTORY.names), HISTORY, str(path))
    table = table.sort_by([("ts", "ascending"), ("asset", "ascending")])
    if table.num_rows == 0:
        raise DataError(f"{path}: no rows")
    named = table["asset"].combine_chunks().dictionary_encode()
    names, code = named.dictionary.to_pylist(), named.indices.to_numpy()
    day = table["ts"].to_numpy().astype("datetime64[D]")
    repeated = np.flatnonzero((day[1:] == day[:-1]) & (code[1:] == code[:-1])) + 1
    if len(repeated):
        row = repeated[0]
        raise DataError(
            f"{path}: more than one bar of {names[code[row]]} on {day[row]}; "
            "the sample takes daily bars, one row per day and asset"
        )
    last = day[-1].astype(date)
    as_of = as_of or last
    if as_of > last:
        raise ConfigError(f"as_of {as_of} is after the last day of {path}, {last}")
    today = np.datetime64(as_of, "D")
    n_days = np.bincount(code[day <= today], minlength=len(names))
    trading = set(code[day == today].tolist())
    alive = sorted((i for i in trading if n_days[i] >= MIN_DAYS), key=lambda i: names[i])
    if not alive:
        raise ConfigError(
            f"{path}: no asset has a close on {as_of} and {MIN_DAYS} days of history up to it"
        )
    recent = np.flatnonzero((day >= today - ENTRY_DAYS) & (day <= today))
    ago = (today - day[recent]).astype(int)
    bars = {}
    for name in ("high", "low", "close", "volume"):
        bar = np.full((ENTRY_DAYS + 1, len(names)), np.nan)
        bar[ENTRY_DAYS - ago, code[recent]] = table[name].to_numpy()[recent]
        # A missing day takes the bar that follows it, so that no entry falls into a hole.
        for i in range(ENTRY_DAYS - 1, -1, -1):
            bar[i] = np.where(np.isnan(bar[i]), bar[i + 1], bar[i])
        bars[name] = bar[:, alive]
    high, low, close, volume = bars.values()
    is_sound = (low > 0) & (low <= close) & (close <= high) & np.isfinite(high) & (volume >= 0)
    if not is_sound.all():
        i, column = np.argwhere(~is_sound)[0]
        raise DataError(
            f"{path}: {names[alive[column]]} has a bar around {today - ENTRY_DAYS + i} without "
            "0 < low <= close <= high and volume >= 0"
        )
    prices = Prices(
        assets=tuple(names[i] for i in alive),
        close=close[-1],
        high=high,
        low=low,
        daily_volume_usd=np.maximum((close * volume).mean(axis=0), 1.0),
        table=table,
        is_synthetic=False,
        source=f"real daily bars of {path.name}",
    )
    return prices, as_of


def read_brackets(path: Path, as_of: date) -> Brackets:
    """Read the bracket table in force on `as_of`: the latest until then, else the first after.

    Raises
    ------
    DataError
        If the file is missing, damaged, empty or lacks a column.
    """
    table = read_parquet(path, _TIER_COLUMNS)
    if table.num_rows == 0:
        raise DataError(f"{path}: no rows")
    holed = [name for name in _TIER_COLUMNS if table[name].null_count]
    if holed:
        raise DataError(f"{path}: null in column {', '.join(holed)}")
    try:
        day = table["as_of"].cast(pa.timestamp("ms", tz="UTC")).cast(pa.date32())
        floats = {name: table[name].cast(pa.float64()) for name in _TIER_COLUMNS[3:]}
        tier = table["tier"].cast(pa.int64())
    except pa.ArrowException as error:
        raise DataError(f"{path}: {error}") from error
    dates = sorted(set(day.to_pylist()))
    until = [published for published in dates if published <= as_of]
    published = until[-1] if until else dates[0]
    symbols = table["symbol"].to_numpy()
    rows = np.flatnonzero(pc.equal(day, pa.scalar(published)).to_numpy())
    rows = rows[np.lexsort((tier.to_numpy()[rows], symbols[rows]))]
    names, first = np.unique(symbols[rows], return_index=True)
    columns = {"tier": tier.to_numpy(), **{name: floats[name].to_numpy() for name in floats}}
    return Brackets(
        published,
        {
            str(symbol): {name: column[part] for name, column in columns.items()}
            for symbol, part in zip(names, np.split(rows, first[1:]), strict=True)
        },
    )
