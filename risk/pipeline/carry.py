"""The instruments of a night's book, and what they earn or pay in its scenarios."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from risk.config import Config
from risk.instruments import (
    Instrument,
    add_instruments,
    instrument_name,
    instruments_as_assets,
    is_instrument,
)
from risk.market.funding import window_funding
from risk.pipeline.files import read_json, write_json
from risk.pipeline.night import Night
from risk.scenarios.carry import Carry, ride_bars
from risk.scenarios.moves import Ratios, gap_rule

_FILE = "instruments.json"
_DAY = 86_400.0


def book_instruments(book: pa.Table, contracts: pa.Table, as_of: dt.date) -> tuple[Instrument, ...]:
    """Instruments of the priced positions, each from every contract of its name, sorted by name.

    Venues of one instrument share a path: its rate is their mean by volume, its basis their median.
    """
    priced = book.filter(pc.equal(book["status"], "ok"))
    labels = ("asset", "settle", "kind", "symbol")
    plain = pa.table({label: priced[label].cast(pa.string()) for label in labels})
    held = {
        instrument_name(*row.values())
        for row in plain.group_by(list(labels), use_threads=False).aggregate([]).to_pylist()
    }
    close = dt.datetime.combine(as_of, dt.time(), dt.UTC) + dt.timedelta(days=1)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in contracts.to_pylist():
        if row["type"] == "option":
            continue
        kind = "_perpetual" if row["type"] == "swap" else "_future"
        name = instrument_name(row["base"], row["settle"], kind, row["symbol"])
        is_alive = row["expiry"] is None or row["expiry"] > close
        if is_instrument(name) and name in held and is_alive:
            found[name].append(row)
    return tuple(
        _instrument(name, rows, close)
        for name, rows in sorted(found.items())
        if is_instrument(name)
    )


def _instrument(name: str, rows: list[dict[str, Any]], close: dt.datetime) -> Instrument:
    rates, weights = [], []
    for row in rows:
        if row["funding_rate"] is not None and np.isfinite(row["funding_rate"]):
            rates.append(row["funding_rate"] * 8.0 / (row["funding_interval_hours"] or 8.0))
            weights.append(row["volume_24h_usd"] or 0.0)
    total = sum(weights)
    basis = [
        row["mark_price"] / row["index_price"] - 1.0
        for row in rows
        if row["mark_price"] and row["index_price"] and row["expiry"] is not None
    ]
    expiry = min((row["expiry"] for row in rows if row["expiry"] is not None), default=None)
    rate = None
    if rates and expiry is None:
        rate = float(np.average(rates, weights=weights if total > 0 else None))
    return Instrument(
        name=name,
        asset=rows[0]["base"],
        settle=rows[0]["settle"],
        is_inverse=not rows[0]["linear"],
        funding_rate=rate,
        basis=float(np.median(basis)) if basis else 0.0,
        expiry_days=None if expiry is None else (expiry - close).total_seconds() / _DAY,
    )


def write_instruments(night: Night, book: pa.Table, contracts: pa.Table) -> None:
    """Write `instruments.json`, where the config wants contracts to move apart."""
    if night.config.scenarios.carry is None:
        return
    found = book_instruments(book, contracts, night.as_of)
    write_json(night.folder / _FILE, [one.to_dict() for one in found])


def read_carry(night: Night) -> Carry | None:
    """How the instruments of the night ride; None where they do not."""
    wanted = night.config.scenarios.carry
    if wanted is None:
        return None
    found = tuple(Instrument(**one) for one in read_json(night.folder / _FILE))
    is_chain = night.config.liquidation.cascade is not None
    if is_chain:
        assets = read_json(night.folder / "market.json")["assets"]
        found = tuple(_speaker(asset, found) for asset in assets)
    return Carry(
        instruments=found,
        funding=wanted.funding,
        basis_volatility=wanted.basis_volatility,
        pegs={name: (peg.probability, peg.price) for name, peg in wanted.pegs.items()},
        as_assets=is_chain,
    )


def _speaker(asset: str, instruments: tuple[Instrument, ...]) -> Instrument:
    """Who stands for an asset in a cascade: a linear perpetual, else one that pays nothing."""
    mine = [one for one in instruments if one.asset == asset and one.is_perpetual]
    linear = [one for one in mine if not one.is_inverse]
    if linear or mine:
        return (linear or mine)[0]
    name = instrument_name(asset, "USD", "_perpetual", "")
    return Instrument(name, asset, "USD", False, 0.0, 0.0, None)


def driver_names(night: Night, assets: list[str]) -> list[str]:
    """The drivers of the night: the assets, then the instruments behind them."""
    carry = read_carry(night)
    return [*assets, *(carry.names if carry and not carry.as_assets else ())]


def ride_windows(
    record: xr.Dataset,
    carry: Carry | None,
    funding: xr.DataArray | None,
    levels: dict[str, float],
    config: Config,
) -> tuple[xr.Dataset, float | None]:
    """A historical record with the instruments, and what their windows paid.

    A window pays its own rates; where they are not known, the rate of tonight. The number is the
    share of the settlements that were not known; None where nothing is paid.
    """
    if carry is None:
        return record, None
    assets = [str(name) for name in record["asset"].values]
    ends = _instants(record["label"].values)
    days = config.horizon_days
    starts = ends - np.timedelta64(24 * days, "h")
    paid, missing = window_funding(funding, assets, starts, ends)
    place = np.array([assets.index(one.asset) for one in carry.instruments], "i8")
    now = np.array([_rate_now(one, levels) for one in carry.instruments], "f8")
    pays = np.array([one.is_perpetual and carry.funding for one in carry.instruments], bool)
    owed = (paid[:, place] + missing[:, place] * now) * pays
    moves = Ratios(record["low"].values, record["high"].values, record["last"].values)
    ridden = ride_bars(moves, assets, carry.instruments, owed, horizon_days=days)
    gaps = gap_rule(ridden, float(record.attrs["gap"]))
    record = add_instruments(record, carry.names, *ridden, gaps)
    unknown = missing[:, place][:, pays]
    share = float(unknown.mean()) / (3 * days) if unknown.size else None
    return (instruments_as_assets(record, len(assets)) if carry.as_assets else record), share


def funding_levels(calibration: xr.Dataset) -> dict[str, float]:
    """Long-run rate per 8 hours of every asset that has one."""
    if "funding_level" not in calibration:
        return {}
    levels = calibration["funding_level"].values
    return {
        str(name): float(v) for name, v in zip(calibration["asset"].values, levels, strict=True)
    }


def _instants(labels: np.ndarray) -> np.ndarray:
    """When a window ends: at the end of its day, or at the instant an hourly window is named by."""
    stamps = np.array([str(label).rstrip("Z") for label in labels], "M8[m]")
    by_day = np.array(["T" not in str(label) for label in labels])
    return (stamps + np.where(by_day, np.timedelta64(24 * 60, "m"), np.timedelta64(0, "m"))).astype(
        "M8[ns]"
    )


def _rate_now(instrument: Instrument, levels: dict[str, float]) -> float:
    if instrument.funding_rate is not None:
        return instrument.funding_rate
    return levels.get(instrument.asset, 0.0) if instrument.is_perpetual else 0.0
