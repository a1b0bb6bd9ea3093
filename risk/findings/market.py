"""What a reader must know of the venues' funds and of the market data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import xarray as xr

from risk.errors import ConfigError
from risk.margin.venues import VenueRules
from risk.schema import USD_EQUIVALENTS


def insurance_funds(venues: Mapping[str, VenueRules], history: xr.Dataset) -> pa.Table:
    """Balance of every venue's insurance fund, in its currency and in USD (null: no price)."""
    rows = []
    for name, rules in sorted(venues.items()):
        fund = rules.insurance_fund
        if fund.currency in USD_EQUIVALENTS:
            price = 1.0
        elif fund.currency in history.asset.values:
            price = float(history["close"].sel(asset=fund.currency).values[-1])
        else:
            raise ConfigError(
                f"venue {name}: insurance_fund is in {fund.currency}, which is no dollar and has "
                "no price in the history; mend the currency"
            )
        usd = fund.balance * price
        rows.append(
            {
                "venue": name,
                "currency": fund.currency,
                "balance": fund.balance,
                "balance_usd": usd if math.isfinite(usd) else None,
            }
        )
    schema = pa.schema(
        [("venue", "string"), ("currency", "string"), ("balance", "f8"), ("balance_usd", "f8")]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def market_notes(
    history: xr.Dataset,
    assets: list[str],
    calibration: xr.Dataset,
    records: Mapping[str, xr.Dataset],
) -> dict[str, Any]:
    """What a reader must know of the market data, as JSON values."""
    mine = history.sel(asset=assets)
    notes: dict[str, Any] = {
        "assets": list(assets),
        "is_synthetic": bool(history.attrs.get("is_synthetic", False)),
        "source": str(history.attrs.get("source", "")),
        "price_kinds": sorted({str(kind) for kind in mine.price_kind.values}),
        "first_day": str(mine.day.values[0].astype("M8[D]")),
        "n_days": int(mine.sizes["day"]),
        "n_holes": int(mine.n_holes.sum()),
        "n_incomplete": int(mine.n_incomplete.sum()),
        "n_bad_prints": int(mine.n_bad_prints.sum()),
        "degrees_of_freedom": float(calibration.degrees_of_freedom),
        "pit_statistic": float(calibration.pit_statistic_pooled),
        "short_history": [str(a) for a in assets if bool(calibration.proxied.sel(asset=a))],
        "proxied": [],
        "proxied_share": {},
        "n_windows": 0,
        "n_stress_assets_ignored": 0,
    }
    if "historical" in records:
        record = records["historical"]
        share = {str(a): float(s) for a, s in zip(assets, record.proxied_share.values, strict=True)}
        notes["proxied_share"] = {asset: part for asset, part in share.items() if part > 0}
        notes["n_windows"] = int(record.attrs["n_windows"])
        notes["gap"] = float(record.attrs["gap"])
    if "stress" in records:
        notes["n_stress_assets_ignored"] = len(records["stress"].attrs["ignored"])
    notes["proxied"] = sorted({*notes["proxied_share"], *notes["short_history"]})
    return notes
