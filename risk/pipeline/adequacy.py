"""Margin adequacy, where the config asks for it: what is required of whom, and what it costs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.book import write_positions
from risk.config import Margin
from risk.cube import open_drivers
from risk.drivers import scale_moves
from risk.instruments import asset_places
from risk.liquidation.tails import BookTerms, margins_with, position_tails, required_margins
from risk.liquidation.terms import label_codes
from risk.margin.pooling import folded
from risk.market.history import load_history
from risk.market.stressed import volatility_multiples
from risk.measures.adequacy import adequacy_table, jump_allowance, tool_margins
from risk.pipeline.files import load_calibration
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night

#: What the night has measured of every position already.
_MEASURED = (
    "required_margin",
    "liquidation_required_margin",
    "liquidation_probability",
    "expected_deficit",
)

#: Targets of the two coverages every margin model is asked for.
_COVERAGES = {"required_99": 0.01, "required_995": 0.005}


def adequacy(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Write the required margins by asset and leverage, by position, and the suggested tiers."""
    wanted, folder, book = night.config.margin, night.folder, folded(book)
    sets = [name for name in wanted.adequacy if name in night.config.scenarios.names]
    if not sets:
        return
    calibration = load_calibration(folder)
    history = load_history(night.config.history, night.as_of)
    multiples = volatility_multiples(history, assets, calibration["volatility"])
    columns = ["scenario_set", *_MEASURED]
    everyone = pq.read_table(folder / "positions.parquet", columns=columns)
    stored = open_drivers(folder, instruments=True, labels=False)
    impact, terms = read_impact(night), None
    tables: list[pa.Table] = []
    positions: list[pa.Table] = []
    tiers: list[dict[str, Any]] = []
    for name in sets:
        drivers = stored[name].to_dataset().load()
        if terms is None:
            terms = BookTerms(book, list(drivers.asset.values), impact)
        measured = everyone.filter(pc.equal(everyone["scenario_set"], name))
        found = _solve(terms, drivers, measured, multiples, wanted)
        for rows, parts in ((found.table, tables), (found.positions, positions)):
            label = pa.repeat(name, rows.num_rows)
            parts.append(rows.add_column(0, "scenario_set", label))
        tiers += _suggest_tiers(name, book, drivers, wanted, calibration, history)
    pq.write_table(pa.concat_tables(tables), folder / "margin_adequacy.parquet")
    write_positions(pa.concat_tables(positions), folder / "margin_positions.parquet")
    pq.write_table(pa.Table.from_pylist(tiers, schema=_TIERS), folder / "margin_tiers.parquet")


@dataclass(frozen=True)
class _Found:
    table: pa.Table
    positions: pa.Table


def _solve(
    terms: BookTerms,
    drivers: xr.Dataset,
    measured: pa.Table,
    multiples: xr.Dataset,
    wanted: Margin,
) -> _Found:
    """Requirements of every position of one set, and their totals."""
    book = terms.book

    def needs(record: xr.Dataset) -> xr.Dataset:
        return required_margins(
            book,
            record,
            deficit_probability=wanted.target_deficit_probability,
            liquidation_probability=wanted.target_liquidation_probability,
            terms=terms,
        )

    behind = asset_places([str(name) for name in drivers["asset"].values])
    stressed = needs(scale_moves(drivers, multiples["stressed"].values[behind]))
    calm = scale_moves(drivers, multiples["long_run"].values[behind])
    long_run = needs(calm)["required_margin"].values
    columns = {
        "required": measured["required_margin"].to_numpy(zero_copy_only=False),
        "required_stressed": stressed["required_margin"].values,
        "liquidation": measured["liquidation_required_margin"].to_numpy(zero_copy_only=False),
        "liquidation_stressed": stressed["liquidation_required_margin"].values,
    }
    kept = np.flatnonzero(np.isfinite(columns["required"]))
    for name, target in _COVERAGES.items():
        if target == wanted.target_deficit_probability:
            columns[name] = columns["required"]
            continue
        one = required_margins(book, drivers, deficit_probability=target, terms=terms)
        columns[name] = one["required_margin"].values
    columns |= tool_margins(
        columns["required"],
        columns["required_stressed"],
        long_run,
        buffer=wanted.buffer,
        stressed_weight=wanted.stressed_weight,
    )
    columns |= _one_more_unit(terms, drivers, measured, wanted.unit)
    for name in ("notional", "equity"):
        columns[name] = book[f"{name}_usd"].to_numpy(zero_copy_only=False)
    columns = {name: values[kept] for name, values in columns.items()}
    names, asset = label_codes(book["asset"])
    shown = {name: pa.array(values) for name, values in columns.items()}
    ids = {"position_id": book["position_id"].take(kept)}
    return _Found(adequacy_table(names, asset[kept], columns), pa.table(ids | shown))


def _one_more_unit(
    terms: BookTerms, drivers: xr.Dataset, before: pa.Table, unit: float
) -> dict[str, np.ndarray]:
    """What posting `unit` of the notional more changes, position by position."""
    book = terms.book
    extra = unit * book["notional_usd"].to_numpy(zero_copy_only=False)
    richer = margins_with(
        book,
        book["equity_usd"].to_numpy(zero_copy_only=False) + extra,
        terms.assets,
        terms=terms,
    )
    # Options and pools have no required margin, so nobody asks what more would change for them.
    after = position_tails(richer, drivers, impact=terms.impact, others=False)
    trigger = [table["trigger"].to_numpy(zero_copy_only=False) for table in (book, richer)]
    distance = np.abs(trigger[1] - trigger[0])
    return {
        "unit": extra,
        # A position that nothing liquidates any more has moved to a price of zero or to none.
        "price_moved": np.where(np.isnan(distance), 0.0, distance),
        **{
            moved: after[name].values - before[name].to_numpy(zero_copy_only=False)
            for moved, name in (
                ("probability_moved", "liquidation_probability"),
                ("deficit_moved", "expected_deficit"),
            )
        },
    }


_TIERS = pa.schema(
    [
        ("scenario_set", "string"),
        ("asset", "string"),
        ("venue", "string"),
        ("symbol", "string"),
        ("tier", "i8"),
        ("floor", "f8"),
        ("cap", "f8"),
        ("rate", "f8"),
        ("suggested_rate", "f8"),
        ("jump_part", "f8"),
        ("cost_part", "f8"),
        ("notional_usd", "f8"),
    ]
)


def _suggest_tiers(
    scenario_set: str,
    book: pa.Table,
    drivers: xr.Dataset,
    wanted: Margin,
    calibration: xr.Dataset,
    history: xr.Dataset,
) -> list[dict[str, Any]]:
    """Maintenance tiers for the contract of every asset that most of its notional is in."""
    allowance = _jump_allowances(drivers, wanted.target_deficit_probability)
    rows: list[dict[str, Any]] = []
    for contract in _largest_contracts(book):
        asset = contract["asset"]
        sigma = float(calibration["volatility"].sel(asset=asset))
        volume = history["volume"].sel(asset=asset).values[-30:]
        close = history["close"].sel(asset=asset).values[-30:]
        daily = float(np.nanmean(volume * close)) if np.isfinite(volume * close).any() else np.nan
        rule = json.loads(contract["requirement"])
        unit = contract["unit"]
        floors = [*rule["floor"], None]
        for tier, rate in enumerate(rule["rate"]):
            cap = floors[tier + 1]
            # The last tier has no end; the position size it is meant for is its floor.
            size = (floors[tier] if cap is None else cap) * unit
            impact = wanted.tier_impact * sigma * np.sqrt(size / daily) if daily > 0 else 0.0
            cost = contract["closing_fee_rate"] + impact
            rows.append(
                {
                    "scenario_set": scenario_set,
                    "asset": asset,
                    "venue": contract["venue"],
                    "symbol": contract["symbol"],
                    "tier": tier + 1,
                    "floor": floors[tier],
                    "cap": cap,
                    "rate": rate,
                    "suggested_rate": min(allowance[asset] + cost, 1.0),
                    "jump_part": allowance[asset],
                    "cost_part": cost,
                    "notional_usd": contract["notional_usd"],
                }
            )
    return rows


def _jump_allowances(drivers: xr.Dataset, target: float) -> dict[str, float]:
    """Share of the price that jumps may take beyond a trigger, the worse of falls and rises."""
    weight = drivers.weight.values
    length = np.abs(np.log(drivers.gap_landing.values / drivers.gap_before.values))
    found: dict[str, float] = {}
    for place, name in enumerate(drivers.asset.values):
        sides = []
        for direction, extreme in ((-1, drivers.low), (1, drivers.high)):
            at = (drivers.gap_asset.values == place) & (drivers.gap_direction.values == direction)
            swept = float(weight @ np.abs(np.log(extreme.values[:, place])))
            one = jump_allowance(length[at], weight[drivers.gap_scenario.values[at]], swept, target)
            sides.append(-np.expm1(-one) if direction < 0 else np.expm1(one))
        found[str(name)] = float(max(sides))
    return found


def _largest_contracts(book: pa.Table) -> list[dict[str, Any]]:
    """Of every asset the contract with most notional, with its rule and the USD of one unit."""
    kept = pc.and_(pc.equal(book["status"], "ok"), pc.is_valid(book["requirement"]))
    names = ["asset", "venue", "symbol", "requirement"]
    amounts = ["notional_usd", "notional", "closing_fee_rate"]
    # Grouped by the codes of the labels: a million rows of text would cost a hundred times more.
    totals = (
        book.select(names + amounts)
        .filter(kept)
        .unify_dictionaries()
        .group_by(names, use_threads=False)
        .aggregate([("notional_usd", "sum"), ("notional", "sum"), ("closing_fee_rate", "max")])
    )
    for name in names:
        at = totals.schema.get_field_index(name)
        totals = totals.set_column(at, name, totals[name].cast(pa.string()))
    ordered = totals.sort_by(
        [("notional_usd_sum", "descending"), ("venue", "ascending"), ("symbol", "ascending")]
    )
    best: dict[str, dict[str, Any]] = {}
    for row in ordered.to_pylist():
        best.setdefault(
            row["asset"],
            {name: row[name] for name in names}
            | {
                "notional_usd": row["notional_usd_sum"],
                "unit": row["notional_usd_sum"] / row["notional_sum"],
                "closing_fee_rate": row["closing_fee_rate_max"],
            },
        )
    return [best[name] for name in sorted(best)]
