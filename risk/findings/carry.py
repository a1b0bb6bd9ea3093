"""The report's section on funding, basis and pegs: what moves contracts apart from their asset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from risk.config import Config
from risk.cube import open_drivers, read_dataset
from risk.instruments import Instrument, asset_places, is_instrument
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
    most = 0.0
    drivers = open_drivers(folder, instruments=True)
    for name in config.scenarios.names:
        if name == "stress":
            continue
        record = drivers[name].to_dataset()
        names = [str(one) for one in record["asset"].values]
        mine = [i for i, one in enumerate(names) if is_instrument(one) and "perpetual" in one]
        if mine:
            last = record["last"].values
            most = max(
                most, float(np.abs(last[:, mine] - last[:, asset_places(names)[mine]]).max())
            )
    book = pq.read_table(
        folder / "book.parquet", columns=["status", "kind", "notional", "maintenance_margin"]
    )
    swaps = book.filter(
        pc.and_(
            pc.equal(book["status"], "ok"),
            pc.match_substring(book["kind"].cast(pa.string()), "perpetual"),
        )
    )
    held = swaps["maintenance_margin"].to_numpy() / swaps["notional"].to_numpy()
    rate = float(held.max()) if len(held) else 0.0
    return [
        *facts,
        Fact("carry.paid_most", 100.0 * most, "%", "of the price at the snapshot, any scenario", 3),
        Fact("carry.rate_most", 100.0 * rate, "%", "largest maintenance rate of a perpetual", 2),
        Fact(
            "carry.trigger_off", 100.0 * most * rate / (1 - rate), "%", "of the price, at most", 4
        ),
    ]
