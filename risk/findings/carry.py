"""The report's section on funding, basis and pegs: what moves contracts apart from their asset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from risk.book import read_book
from risk.config import Config
from risk.cube import open_drivers, read_dataset
from risk.drivers import PEG
from risk.instruments import Instrument, asset_places, is_instrument, settle_of
from risk.liquidation.terms import driver_places
from risk.margin.pooling import rows_apart
from risk.margin.slopes import requirement_slopes
from risk.reports import Fact, Section
from risk.reports.view import slug

#: Instruments listed, by name.
_N_LISTED = 60

#: Columns: calibration variable, factor, unit, decimals.
_COLUMNS = (
    ("level", 100.0, "%", 4),
    ("level_se", 100.0, "%", 4),
    ("persistence", 1.0, "1", 2),
    ("persistence_se", 1.0, "1", 2),
    ("explained", 100.0, "%", 0),
    ("price_correlation", 1.0, "1", 2),
    ("ticks", 1.0, "1", 0),
)


def carry_section(folder: Path, config: Config) -> Section | None:
    """Rates, their model and its fit, bases, and how far folding funding into prices is off."""
    path = folder / "instruments.json"
    if config.scenarios.carry is None or not path.exists():
        return None
    listed = [Instrument(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
    if not listed:
        return None
    found = read_dataset(folder / "calibration.zarr")
    assets = [str(name) for name in found["asset"].values]
    has_fit = "funding_level" in found
    facts = []
    swaps, futures = [], []
    for one in listed[:_N_LISTED]:
        key = f"carry.{slug(one.name)}"
        if not one.is_perpetual:
            futures.append((one.name, key))
            facts += [
                Fact(f"{key}.basis", 100.0 * one.basis, "%", f"{one.name}, mark over index", 2),
                Fact(f"{key}.expiry", one.expiry_days, "days", f"{one.name}, to its expiry", 1),
            ]
            continue
        rate = None if one.funding_rate is None else 100.0 * one.funding_rate
        facts.append(Fact(f"{key}.rate", rate, "%", f"{one.name}, tonight, per 8 hours", 4))
        source = str(found["funding_source"].values[assets.index(one.asset)]) if has_fit else ""
        swaps.append((one.name, key, source if source != one.asset else ""))
        for column, factor, unit, decimals in _COLUMNS if has_fit else ():
            value = factor * float(found[f"funding_{column}"].values[assets.index(one.asset)])
            facts.append(Fact(f"{key}.{column}", value, unit, f"{one.name}, {column}", decimals))
    facts += _exactness(folder, config)
    return Section(
        name="carry",
        title="Funding and basis",
        nav="Funding",
        facts=tuple(facts),
        context={
            "swaps": swaps,
            "futures": futures,
            "has_fit": has_fit,
            "is_on": has_funding(config),
        },
    )


def has_funding(config: Config) -> bool:
    """Whether perpetuals pay funding in the sampled sets."""
    return config.scenarios.carry is not None and config.scenarios.carry.funding


def _exactness(folder: Path, config: Config) -> list[Fact]:
    """The most that was paid in a sampled scenario, and what that makes of a trigger."""
    kept = folder / "carry.json"
    notes = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    missing = notes.get("missing_share")
    facts = [
        Fact(
            "carry.missing",
            None if missing is None else 100.0 * missing,
            "%",
            "settlements of the historical windows whose rate is not known",
            1,
        )
    ]
    book = _folded_swaps(folder)
    slope = requirement_slopes(book)
    paid, off = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    drivers = open_drivers(folder, instruments=True)
    for name in config.scenarios.names:
        record, is_designed = drivers[name].to_dataset(), name == "stress"
        names = [str(one) for one in record["asset"].values]
        most = _most_paid(record, names)
        paid[is_designed] = max(paid[is_designed], float(most.max(initial=0.0)))
        error = slope * most[driver_places(book, names)] / (1.0 - slope)
        off[is_designed] = max(off[is_designed], float(error.max(initial=0.0)))
    chosen = folder / "folding.json"
    counts = json.loads(chosen.read_text(encoding="utf-8")) if chosen.exists() else {}
    above, apart = counts.get("above", 0), counts.get("apart", 0)
    rate = float(slope.max(initial=0.0))
    return [
        *facts,
        Fact("carry.paid_most", 100.0 * paid[False], "%", "of the price, any sampled scenario", 3),
        Fact("carry.rate_most", 100.0 * rate, "%", "largest rate on the mark of one folded", 2),
        Fact("carry.apart", float(apart), "1", "positions whose funding is not folded", 0),
        Fact(
            "carry.above_in_steps",
            float(above - apart),
            "1",
            "folded above the rule, cut in steps",
            0,
        ),
        Fact("carry.trigger_off", 100.0 * off[False], "%", "of the price, at most", 4),
        Fact("carry.trigger_off_stress", 100.0 * off[True], "%", "of the price, in a stress", 4),
    ]


def _folded_swaps(folder: Path) -> pa.Table:
    """The isolated perpetuals whose funding is folded into their price."""
    book = read_book(folder)
    kept = pc.and_(pc.equal(book["status"], "ok"), book["pool_holdings"].is_null())
    kept = pc.and_(kept, pc.match_substring(book["kind"].cast(pa.string()), "perpetual"))
    rows = np.flatnonzero(kept.to_numpy(zero_copy_only=False))
    return book.take(pa.array(np.setdiff1d(rows, rows_apart(book))))


def _most_paid(record: xr.Dataset, names: list[str]) -> np.ndarray:
    """The most that each driver has paid at the end of any scenario, share of the price."""
    last = record["last"].values
    place = asset_places(names)
    most = np.zeros(len(names))
    for i, name in enumerate(names):
        if not (is_instrument(name) and "perpetual" in name):
            continue
        peg = np.ones(1)
        if PEG in record and settle_of(name) in record["settle"].values:
            peg = record[PEG].sel(settle=settle_of(name)).values
        most[i] = np.abs(last[:, i] - last[:, place[i]] / peg).max()
    return most
