"""The sample's venues and the terms of what they list: form, symbol, settlement, size, expiry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

import numpy as np

from risk.sample.options import option_forms
from risk.sample.prices import Prices

_N_EXPIRIES, _MIN_DAYS_TO_EXPIRY, _EXPIRY_HOUR = 2, 7, 8


class Venue(NamedTuple):
    """How many of the most traded assets a venue lists in each form, and its contract sizes.

    `positions` is the venue's share of the accounts, `depth` the size of its synthetic tiers
    beside the largest venue's, `face` the USD of one inverse contract (of BTC, of the others).
    `lot_usd` is the rough value of one linear contract; None counts in base units. `options` counts
    the assets with coin-settled options, `usdc_options` those behind them with linear ones.
    """

    name: str
    positions: float
    depth: float
    max_leverage: float
    usdt: int
    usdc: int
    inverse: int
    dated_linear: int
    dated_inverse: int
    options: int
    usdc_options: int
    face: tuple[float, float]
    lot_usd: float | None


VENUES = (
    Venue("binance", 0.40, 1.0, 125.0, 25, 5, 8, 2, 2, 0, 0, (100.0, 10.0), None),
    Venue("bybit", 0.19, 0.7, 100.0, 25, 3, 4, 2, 1, 0, 0, (1.0, 1.0), None),
    Venue("okx", 0.17, 0.6, 100.0, 25, 2, 5, 2, 2, 2, 0, (100.0, 10.0), 100.0),
    Venue("gate", 0.08, 0.25, 100.0, 18, 0, 1, 0, 0, 0, 0, (1.0, 1.0), 10.0),
    Venue("kucoin", 0.07, 0.25, 100.0, 18, 0, 2, 0, 0, 0, 0, (1.0, 1.0), 50.0),
    Venue("bitmex", 0.03, 0.4, 100.0, 4, 0, 2, 0, 1, 0, 0, (1.0, 1.0), 10.0),
    Venue("deribit", 0.06, 0.5, 50.0, 0, 6, 2, 0, 2, 2, 2, (10.0, 1.0), None),
)


def quarterly_expiries(as_of: date) -> list[datetime]:
    """The next two last Fridays of a quarter, 08:00 UTC, at least a week away.

    Examples
    --------
    >>> [f"{expiry:%Y-%m-%d %H:%M}" for expiry in quarterly_expiries(date(2025, 6, 29))]
    ['2025-09-26 08:00', '2025-12-26 08:00']
    """
    expiries: list[datetime] = []
    year, month = as_of.year, 3 * ((as_of.month - 1) // 3 + 1)
    while len(expiries) < _N_EXPIRIES:
        first_after = date(year + month // 12, month % 12 + 1, 1)
        last_friday = first_after - timedelta(days=(first_after.weekday() - 4 - 1) % 7 + 1)
        if last_friday >= as_of + timedelta(days=_MIN_DAYS_TO_EXPIRY):
            expiries.append(datetime.combine(last_friday, time(_EXPIRY_HOUR), UTC))
        year, month = (year, month + 3) if month < 12 else (year + 1, 3)
    return expiries


def forms(
    venue: Venue,
    ranked: np.ndarray,
    expiries: Sequence[datetime],
    option_dates: Sequence[datetime],
    prices: Prices,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The contracts of one venue: asset and the terms that do not depend on drawn numbers."""
    for asset in ranked[: venue.usdt].tolist():
        yield asset, _linear(venue, prices, asset, "USDT")
    for asset in ranked[: venue.usdc].tolist():
        yield asset, _linear(venue, prices, asset, "USDC")
    for asset in ranked[: venue.dated_linear].tolist():
        for expiry in expiries:
            yield asset, _linear(venue, prices, asset, "USDT", expiry)
    for asset in ranked[: venue.inverse].tolist():
        yield asset, _inverse(venue, prices, asset)
    for asset in ranked[: venue.dated_inverse].tolist():
        for expiry in expiries:
            yield asset, _inverse(venue, prices, asset, expiry)
    size = 0.01 if venue.name == "okx" else 1.0
    for asset in ranked[: venue.options].tolist():
        for terms in option_forms(prices, asset, option_dates, None, size):
            yield asset, terms
    for asset in ranked[venue.options : venue.options + venue.usdc_options].tolist():
        lot = 10.0 ** float(max(np.round(np.log10(1_000.0 / prices.close[asset])), 0.0))
        for terms in option_forms(prices, asset, option_dates[:2], "USDC", lot):
            yield asset, terms


def _linear(
    venue: Venue, prices: Prices, asset: int, settle: str, expiry: datetime | None = None
) -> dict[str, Any]:
    name = prices.assets[asset]
    size = 1.0
    if venue.lot_usd is not None:
        size = 10.0 ** float(np.round(np.log10(venue.lot_usd / prices.close[asset])))
    return {
        "kind": "linear_future" if expiry else "linear_perpetual",
        "symbol": f"{name}/{settle}:{settle}{_suffix(expiry)}",
        "quote": settle,
        "settle": settle,
        "type": "future" if expiry else "swap",
        "contract_size": size,
        "expiry": expiry,
    }


def _inverse(
    venue: Venue, prices: Prices, asset: int, expiry: datetime | None = None
) -> dict[str, Any]:
    name = prices.assets[asset]
    return {
        "kind": "inverse_future" if expiry else "inverse_perpetual",
        "symbol": f"{name}/USD:{name}{_suffix(expiry)}",
        "quote": "USD",
        "settle": name,
        "type": "future" if expiry else "swap",
        "contract_size": venue.face[0 if name == "BTC" else 1],
        "expiry": expiry,
    }


def _suffix(expiry: datetime | None) -> str:
    return f"-{expiry:%y%m%d}" if expiry else ""
