"""What a reader must know of the venues' funds and of the market data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.config import Config
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


def window_notes(
    bars: xr.Dataset, assets: list[str], shares: xr.Dataset | None, config: Config
) -> dict[str, Any]:
    """What the bars behind the historical windows are made of, and where jumps were measured.

    Parameters
    ----------
    bars : Dataset (day, asset) or (hour, asset)
        What the windows are cut from.
    assets : list of str
        The universe; the price kind of an asset without such bars is ``none``.
    shares : Dataset (episode), optional
        From `risk.market.gaps.gap_shares`.
    config : Config

    Returns
    -------
    dict
        JSON values: `gap_rule` (``calibrated``, ``config`` or None), `bars` (``1d``, ``1h``),
        `by_asset` (price kind, holes, incomplete bars and bad prints of every asset) and
        `gap_episodes` (per asset and length of bar the wild day with the largest share).
    """
    wanted = config.scenarios.historical
    known = set(bars.asset.values)
    counts = ("n_holes", "n_incomplete", "n_bad_prints")
    by_asset: dict[str, dict[str, Any]] = {}
    for name in assets:
        by_asset[name] = {"price_kind": "none", **dict.fromkeys(counts, 0)}
        if name in known:
            mine = bars.sel(asset=name)
            by_asset[name] = {"price_kind": str(mine.price_kind.item())} | {
                count: int(mine[count]) for count in counts
            }
    notes: dict[str, Any] = {
        "gap_rule": None,
        "bars": wanted.interval if wanted else "1d",
        "by_asset": by_asset,
        "gap_episodes": [],
    }
    if wanted is not None:
        notes["gap_rule"] = "calibrated" if wanted.gap == "calibrated" else "config"
    if shares is not None:
        notes["gap_episodes"] = _largest_shares(shares)
    return notes


def _largest_shares(shares: xr.Dataset) -> list[dict[str, Any]]:
    """The wild day with the largest share of every asset and length of bar, and how many it has."""
    keys = list(zip(shares["interval"].values, shares["asset"].values, strict=True))
    rows = []
    for key in sorted(set(keys)):
        at = np.flatnonzero([one == key for one in keys])
        worst = int(at[np.argmax(shares["share"].values[at])])
        rows.append(
            {
                "interval": str(key[0]),
                "asset": str(key[1]),
                "price_kind": str(shares["price_kind"].values[worst]),
                "day": str(shares["day"].values[worst].astype("M8[D]")),
                "side": int(shares["side"].values[worst]),
                "excursion": float(shares["excursion"].values[worst]),
                "worst_bar": float(shares["worst_bar"].values[worst]),
                "share": float(shares["share"].values[worst]),
                "median_share": float(np.median(shares["share"].values[at])),
                "n_days": len(at),
            }
        )
    return rows
