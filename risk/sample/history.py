"""Reads a real price history and real tier brackets; nothing after the as-of reaches the book."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
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
    frame = table.to_pandas()
    frame["day"] = frame["ts"].dt.tz_localize(None).to_numpy().astype("datetime64[D]")
    frame["day"] = frame["day"].astype("datetime64[s]")
    repeated = frame.duplicated(["day", "asset"])
    if repeated.any():
        row = frame[repeated].iloc[0]
        raise DataError(
            f"{path}: more than one bar of {row['asset']} on {row['day']:%Y-%m-%d}; "
            "the sample takes daily bars, one row per day and asset"
        )
    last = frame["day"].iloc[-1].date()
    as_of = as_of or last
    if as_of > last:
        raise ConfigError(f"as_of {as_of} is after the last day of {path}, {last}")
    past = frame[frame["day"] <= pd.Timestamp(as_of)]
    n_days = past.groupby("asset").size()
    today = past.loc[past["day"] == pd.Timestamp(as_of), "asset"]
    alive = sorted(asset for asset in today if n_days[asset] >= MIN_DAYS)
    if not alive:
        raise ConfigError(
            f"{path}: no asset has a close on {as_of} and {MIN_DAYS} days of history up to it"
        )
    days = pd.date_range(as_of - timedelta(days=ENTRY_DAYS), as_of)
    recent = past[(past["day"] >= days[0]) & past["asset"].isin(alive)]
    # A missing day takes the bar that follows it, so that no entry falls into a hole.
    wide = recent.pivot(index="day", columns="asset", values=["high", "low", "close", "volume"])
    wide = wide.reindex(days).bfill()
    high, low, close, volume = (
        wide[name][alive].to_numpy() for name in ("high", "low", "close", "volume")
    )
    if not (np.isfinite(high) & (low > 0) & (close > 0) & (high >= low)).all():
        bad = alive[int(np.argwhere(~((low > 0) & (close > 0) & (high >= low)))[0][1])]
        raise DataError(f"{path}: {bad} has a price that is not positive, or high below low")
    prices = Prices(
        assets=tuple(alive),
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
    try:
        day = table["as_of"].cast(pa.timestamp("ms", tz="UTC")).cast(pa.date32())
        floats = {name: table[name].cast(pa.float64()) for name in _TIER_COLUMNS[3:]}
        tier = table["tier"].cast(pa.int64())
    except pa.ArrowException as error:
        raise DataError(f"{path}: {error}") from error
    dates = sorted(set(day.to_pylist()))
    until = [published for published in dates if published <= as_of]
    published = until[-1] if until else dates[0]
    columns = {"symbol": table["symbol"].cast(pa.string()), "tier": tier, **floats}
    rows = pa.table(columns).filter(pc.equal(day, pa.scalar(published)))
    frame = rows.to_pandas().sort_values(["symbol", "tier"])
    by_symbol = {
        str(symbol): {name: group[name].to_numpy() for name in _TIER_COLUMNS[2:]}
        for symbol, group in frame.groupby("symbol")
    }
    return Brackets(published, by_symbol)
