"""Read a price history: daily bars per asset, checked, wick-filtered, never filled.

A missing day stays a hole (NaN) and a day built from fewer hours than it has is flagged: a return
across a hole is not a return.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.errors import ConfigError, DataError
from risk.market.wicks import clip_wicks

#: Bars that make a full UTC day.
BARS_PER_DAY = {"1d": 1, "1h": 24, "5m": 288}

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
) -> xr.Dataset:
    """Daily bars up to and including `as_of`.

    Finer bars are aggregated to UTC days. For one asset and day a complete day beats an incomplete
    one, then `mark` beats `last` beats `index`, then the coarser bar beats the finer. Bars of last
    trades pass `risk.market.wicks.clip_wicks`.

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
    path = Path(path)
    file = path / "prices.parquet" if path.is_dir() else path
    table = _read(file)
    _check(table, file.name)
    if not table.num_rows:
        raise DataError(f"{file.name} has no rows; give it one bar per asset and day")
    days = table["ts"].to_numpy().astype("M8[D]")
    cut = np.datetime64(as_of, "D")
    if not days.min() <= cut <= days.max():
        raise ConfigError(
            f"as_of {as_of} lies outside the history in {file.name}, "
            f"which runs from {days.min()} to {days.max()}; choose a day inside it"
        )
    table = table.filter(pa.array(days <= cut))
    bars = clip_wicks(_to_grid(_daily(table), cut), apply=wick_filter)
    known = [str(name) for name in bars["asset"].values]
    wanted = known if assets is None else sorted(set(assets))
    if missing := sorted(set(wanted) - set(known)):
        raise ConfigError(
            f"{file.name} has no prices for {', '.join(missing)} up to {as_of}; "
            "add them or leave the asset out"
        )
    bars = bars.sel(asset=wanted).drop_vars("is_last")
    closed = bars["close"].notnull()
    lifetime = closed.cumsum("day").astype(bool) & closed[::-1].cumsum("day")[::-1].astype(bool)
    metadata = table.schema.metadata or {}
    return bars.assign_coords(
        n_holes=(lifetime & ~closed).sum("day"),
        n_incomplete=bars.incomplete.sum("day"),
        n_bad_prints=bars.bad_print.sum("day"),
    ).assign_attrs(
        is_synthetic=int(metadata.get(b"bulkhead.synthetic") == b"true"),
        source=metadata.get(b"bulkhead.source", file.name.encode()).decode(),
        wick_filter=int(wick_filter),
    )


def universe(history: xr.Dataset, as_of: date) -> list[str]:
    """Assets with a close on `as_of`, sorted."""
    closed = history["close"].sel(day=np.datetime64(as_of, "ns")).notnull()
    return sorted(str(name) for name in history.asset.values[closed.values])


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
    for column, allowed in (("interval", list(BARS_PER_DAY)), ("price_kind", list(PRICE_KINDS))):
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


def _daily(table: pa.Table) -> pa.Table:
    """One row per (asset, day): finer bars aggregated, the preferred kind of price kept."""
    day = table["ts"].to_numpy().astype("M8[D]").astype("i8")
    ordered = table.append_column("day", pa.array(day)).sort_by(
        [(key, "ascending") for key in ("asset", "day", "price_kind", "interval", "ts")]
    )
    # Aggregates without threads keep row order, which `first` and `last` need.
    grouped = ordered.group_by(["asset", "day", "price_kind", "interval"], use_threads=False)
    daily = grouped.aggregate(
        [
            ("open", "first"),
            ("high", "max"),
            ("low", "min"),
            ("close", "last"),
            ("volume", "sum"),
            ("close", "count"),
        ]
    )
    wanted = pa.array([BARS_PER_DAY[name] for name in daily["interval"].to_pylist()])
    incomplete = pc.less(daily["close_count"], wanted)
    rank = {kind: place for place, kind in enumerate(PRICE_KINDS)}
    preference = pa.array([rank[kind] for kind in daily["price_kind"].to_pylist()])
    daily = daily.append_column("incomplete", incomplete).append_column("rank", preference)
    daily = daily.append_column("bars", wanted).sort_by(
        [(key, "ascending") for key in ("asset", "day", "incomplete", "rank", "bars")]
    )
    asset = daily["asset"].to_numpy()
    stamp = daily["day"].to_numpy()
    first = np.ones(len(daily), bool)
    first[1:] = (asset[1:] != asset[:-1]) | (stamp[1:] != stamp[:-1])
    return daily.filter(pa.array(first))


def _to_grid(daily: pa.Table, last_day: np.datetime64) -> xr.Dataset:
    """Lay the rows on every calendar day from the first to `last_day`; no row, no number."""
    assets, column = np.unique(daily["asset"].to_numpy().astype(object), return_inverse=True)
    stamp = daily["day"].to_numpy()
    row = stamp - stamp.min()
    shape = (int(last_day.astype("i8") - stamp.min()) + 1, len(assets))

    def grid(values: np.ndarray, empty: float | int | bool) -> tuple[tuple[str, str], np.ndarray]:
        out = np.full(shape, empty, np.asarray(values).dtype)
        out[row, column] = values
        return ("day", "asset"), out

    source = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    data: dict[str, tuple] = {
        name: (*grid(daily[f"{name}_{how}"].to_numpy(), np.nan), {"units": unit})
        for (name, how), unit in zip(source.items(), ["USD"] * 4 + ["base"], strict=True)
    }
    data["incomplete"] = grid(daily["incomplete"].to_numpy(), False)
    data["is_last"] = grid(daily["price_kind"].to_numpy() == "last", False)
    kinds = np.full(len(assets), "mixed", object)
    for place in range(len(assets)):
        found = set(daily["price_kind"].to_numpy()[column == place])
        if len(found) == 1:
            kinds[place] = found.pop()
    days = stamp.min().astype("M8[D]") + np.arange(shape[0])
    return xr.Dataset(
        data,
        coords={
            "day": days.astype("M8[ns]"),
            "asset": assets,
            "price_kind": ("asset", kinds),
        },
    )
