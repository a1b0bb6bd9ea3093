"""Read a price history: daily bars per asset, checked, wick-filtered, never filled.

A missing day stays a hole (NaN) and a day built from fewer hours than it has is flagged: a return
across a hole is not a return.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.errors import ConfigError, DataError
from risk.market.wicks import clip_wicks

#: Length of each bar.
BARS = {
    "1d": np.timedelta64(1, "D"),
    "1h": np.timedelta64(1, "h"),
    "5m": np.timedelta64(5, "m"),
}

#: Most trusted first: positions are liquidated at the mark price.
PRICE_KINDS = ("mark", "last", "index")

PRICES = ("open", "high", "low", "close")
COLUMNS = ("ts", "asset", *PRICES, "volume")


def load_history(
    path: Path | str,
    as_of: date,
    *,
    assets: Iterable[str] | None = None,
    wick_filter: bool = True,
    interval: Literal["1d", "1h"] = "1d",
) -> xr.Dataset:
    """Daily (or hourly) bars up to and including `as_of`.

    Finer bars are aggregated to UTC days. For one asset and day a complete day beats an incomplete
    one, then `mark` beats `last` beats `index`, then the coarser bar beats the finer. Bars of last
    trades pass `risk.market.wicks.clip_wicks`. Hourly bars follow the same rules, hour by hour;
    daily rows of the file say nothing about them.

    Parameters
    ----------
    path : Path
        A folder with ``prices.parquet``, or a Parquet file with its columns.
    as_of : date
        Last UTC day read.
    assets : iterable of str, optional
        Assets wanted; all when absent.
    wick_filter : bool
        Whether bad prints of last trades are clipped; they are counted either way.
    interval : {"1d", "1h"}
        Length of the bars; the dimension is then `day` or `hour`.

    Returns
    -------
    Dataset (day, asset)
        `open`, `high`, `low`, `close` in USD and `volume` in base units, NaN where there is no bar;
        `incomplete` (bars of the day are missing) and `bad_print` (a wick was found). `asset`
        carries `price_kind` (mark, last, index or mixed), `n_holes` (days without a bar between its
        first and last), `n_incomplete` and `n_bad_prints`.

    Raises
    ------
    DataError
        If the file is missing, damaged or ill-typed, a price is not above zero, a bar's high and
        low do not enclose it, or an (asset, ts) is there twice.
    ConfigError
        If `as_of` lies outside the history, or a wanted asset is not in it.
    """
    table, file = read_bars(path)
    days = table["ts"].to_numpy().astype("M8[D]")
    cut = np.datetime64(as_of, "D")
    if not days.min() <= cut <= days.max():
        raise ConfigError(
            f"as_of {as_of} lies outside the history in {file.name}, "
            f"which runs from {days.min()} to {days.max()}; choose a day inside it"
        )
    dim = "day" if interval == "1d" else "hour"
    usable = [name for name, length in BARS.items() if length <= BARS[interval]]
    fits = pc.is_in(table["interval"], pa.array(usable))
    table = table.filter(pc.and_(pa.array(days <= cut), fits))
    if not table.num_rows:
        raise ConfigError(f"{file.name} has no bars of an hour or less; set interval: 1d")
    bars = clip_wicks(_to_grid(_aggregate(table, interval), interval, cut, dim), apply=wick_filter)
    known = [str(name) for name in bars["asset"].values]
    wanted = known if assets is None else sorted(set(assets))
    if missing := sorted(set(wanted) - set(known)):
        raise ConfigError(
            f"{file.name} has no prices for {', '.join(missing)} up to {as_of}; "
            "add them or leave the asset out"
        )
    bars = bars.sel(asset=wanted).drop_vars("is_last")
    closed = bars["close"].notnull()
    lifetime = closed.cumsum(dim).astype(bool) & closed[::-1].cumsum(dim)[::-1].astype(bool)
    metadata = table.schema.metadata or {}
    return bars.assign_coords(
        n_holes=(lifetime & ~closed).sum(dim),
        n_incomplete=bars.incomplete.sum(dim),
        n_bad_prints=bars.bad_print.sum(dim),
    ).assign_attrs(
        is_synthetic=int(metadata.get(b"bulkhead.synthetic") == b"true"),
        source=metadata.get(b"bulkhead.source", file.name.encode()).decode(),
        wick_filter=int(wick_filter),
    )


def universe(history: xr.Dataset, as_of: date) -> list[str]:
    """Assets with a close on `as_of`, sorted."""
    closed = history["close"].sel(day=np.datetime64(as_of, "ns")).notnull()
    return sorted(str(name) for name in history.asset.values[closed.values])


def read_bars(path: Path | str) -> tuple[pa.Table, Path]:
    """Every bar of a history as it stands in its file, checked, and the file.

    Raises
    ------
    DataError
        As `load_history`.
    """
    path = Path(path)
    file = path / "prices.parquet" if path.is_dir() else path
    table = _read(file)
    _check(table, file.name)
    if not table.num_rows:
        raise DataError(f"{file.name} has no rows; give it one bar per asset and day")
    return table, file


def _read(file: Path) -> pa.Table:
    """The history's columns in their schema's types; text where numbers belong is refused."""
    try:
        table = pq.read_table(file, partitioning=None)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; give a Parquet file of prices") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name} is not a readable Parquet file: {error}") from error
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise DataError(f"{file.name}: missing column {', '.join(missing)}")
    stamp = table.schema.field("ts").type
    if not (pa.types.is_timestamp(stamp) and stamp.tz in ("UTC", "Etc/UTC", "+00:00")):
        raise DataError(f"{file.name}: column ts is {stamp}; make it a timestamp with UTC zone")
    columns = {"ts": table["ts"].cast(pa.timestamp("ms", tz="UTC"), safe=False)}
    for name in COLUMNS[2:]:
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise DataError(f"{file.name}: column {name} is {kind}; make it float64")
        columns[name] = table[name].cast(pa.float64())
    defaults = {"asset": None, "interval": "1d", "price_kind": "last"}
    for name, default in defaults.items():
        if name in table.column_names:
            text = table[name].cast(pa.string())
            columns[name] = text if default is None else pc.fill_null(text, default)
        else:
            columns[name] = pa.chunked_array([pa.array([default] * len(table), pa.string())])
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def _check(table: pa.Table, name: str) -> None:
    """Raise `DataError` at the first bad row; rows count from 0."""

    def refuse(bad: np.ndarray, what: str, fix: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            asset, stamp = table["asset"][row].as_py(), table["ts"][row].as_py()
            raise DataError(
                f"{name} row {row} ({asset}, {stamp}): {what} ({int(bad.sum())} such rows); {fix}"
            )

    for column in ("ts", "asset"):
        refuse(table[column].is_null().to_numpy(), f"no {column}", "fill it in or drop the row")
    for column, allowed in (("interval", list(BARS)), ("price_kind", list(PRICE_KINDS))):
        known = pc.is_in(table[column], pa.array(allowed)).to_numpy()
        refuse(~known, f"unknown {column}", f"use one of {', '.join(allowed)}")
    prices = {column: table[column].to_numpy() for column in PRICES}
    for column, price in prices.items():
        good = np.isfinite(price) & (price > 0)
        refuse(~good, f"{column} is not a number above zero", "correct it or drop the row")
    body = np.stack([prices["open"], prices["close"]])
    outside = (prices["low"] > body.min(axis=0)) | (prices["high"] < body.max(axis=0))
    refuse(outside, "open or close lies outside low and high", "correct the bar")
    keys = ["asset", "ts", "interval", "price_kind"]
    coded = [table[key].combine_chunks() for key in keys]
    codes = [np.unique(c.to_numpy(zero_copy_only=False), return_inverse=True)[1] for c in coded]
    order = np.lexsort(codes[::-1])
    same = np.all([code[order][1:] == code[order][:-1] for code in codes], axis=0)
    twice = np.zeros(len(table), bool)
    twice[order[1:][same]] = True
    refuse(twice, "this bar is there twice", "keep one of them")


def _aggregate(table: pa.Table, interval: str) -> pa.Table:
    """One row per (asset, slot): finer bars aggregated, the preferred kind of price kept."""
    slot = (table["ts"].to_numpy() - np.datetime64(0, "ms")) // BARS[interval]
    ordered = table.append_column("slot", pa.array(slot.astype("i8"))).sort_by(
        [(key, "ascending") for key in ("asset", "slot", "price_kind", "interval", "ts")]
    )
    # Aggregates without threads keep row order, which `first` and `last` need.
    grouped = ordered.group_by(["asset", "slot", "price_kind", "interval"], use_threads=False)
    merged = grouped.aggregate(
        [
            ("open", "first"),
            ("high", "max"),
            ("low", "min"),
            ("close", "last"),
            ("volume", "sum"),
            ("close", "count"),
        ]
    )
    per_slot = {name: int(BARS[interval] // length) for name, length in BARS.items()}
    wanted = pa.array([per_slot[name] for name in merged["interval"].to_pylist()])
    incomplete = pc.less(merged["close_count"], wanted)
    rank = {kind: place for place, kind in enumerate(PRICE_KINDS)}
    preference = pa.array([rank[kind] for kind in merged["price_kind"].to_pylist()])
    merged = merged.append_column("incomplete", incomplete).append_column("rank", preference)
    merged = merged.append_column("bars", wanted).sort_by(
        [(key, "ascending") for key in ("asset", "slot", "incomplete", "rank", "bars")]
    )
    asset = merged["asset"].to_numpy()
    slot = merged["slot"].to_numpy()
    first = np.ones(len(merged), bool)
    first[1:] = (asset[1:] != asset[:-1]) | (slot[1:] != slot[:-1])
    return merged.filter(pa.array(first))


def _to_grid(merged: pa.Table, interval: str, last_day: np.datetime64, dim: str) -> xr.Dataset:
    """Lay the rows on every slot from the first to the end of `last_day`; no row, no number."""
    assets, column = np.unique(merged["asset"].to_numpy().astype(object), return_inverse=True)
    slot = merged["slot"].to_numpy()
    row = slot - slot.min()
    end = (last_day + np.timedelta64(1, "D") - np.datetime64(0, "D")) // BARS[interval]
    shape = (int(end) - int(slot.min()), len(assets))

    def grid(values: np.ndarray, empty: float | int | bool) -> tuple[tuple[str, str], np.ndarray]:
        out = np.full(shape, empty, np.asarray(values).dtype)
        out[row, column] = values
        return (dim, "asset"), out

    source = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    data: dict[str, tuple] = {
        name: (*grid(merged[f"{name}_{how}"].to_numpy(), np.nan), {"units": unit})
        for (name, how), unit in zip(source.items(), ["USD"] * 4 + ["base"], strict=True)
    }
    data["incomplete"] = grid(merged["incomplete"].to_numpy(), False)
    data["is_last"] = grid(merged["price_kind"].to_numpy() == "last", False)
    kinds = np.full(len(assets), "mixed", object)
    for place in range(len(assets)):
        found = set(merged["price_kind"].to_numpy()[column == place])
        if len(found) == 1:
            kinds[place] = found.pop()
    slots = (slot.min() + np.arange(shape[0])) * BARS[interval] + np.datetime64(0, "ns")
    return xr.Dataset(
        data,
        coords={
            dim: slots.astype("M8[ns]"),
            "asset": assets,
            "price_kind": ("asset", kinds),
        },
    )
