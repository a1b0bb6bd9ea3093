"""What the sample's venues list: perpetuals, dated futures and a few options, with their marks.

The asset prices are given; everything else about a contract (basis, funding, turnover, volatility)
is made up within the range such figures usually have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from risk.sample.prices import Prices, price_decimals
from risk.schema import CONTRACTS


class Venue(NamedTuple):
    """How many of the most traded assets a venue lists in each form, and its contract sizes.

    `positions` is the venue's share of the accounts, `depth` the size of its synthetic tiers
    beside the largest venue's, `face` the USD of one inverse contract (of BTC, of the others).
    `lot_usd` is the rough value of one linear contract; None counts in base units.
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
    face: tuple[float, float]
    lot_usd: float | None


VENUES = (
    Venue("binance", 0.40, 1.0, 125.0, 25, 5, 8, 2, 2, 0, (100.0, 10.0), None),
    Venue("bybit", 0.19, 0.7, 100.0, 25, 3, 4, 2, 1, 0, (1.0, 1.0), None),
    Venue("okx", 0.17, 0.6, 100.0, 25, 2, 5, 2, 2, 2, (100.0, 10.0), 100.0),
    Venue("gate", 0.08, 0.25, 100.0, 18, 0, 1, 0, 0, 0, (1.0, 1.0), 10.0),
    Venue("kucoin", 0.07, 0.25, 100.0, 18, 0, 2, 0, 0, 0, (1.0, 1.0), 50.0),
    Venue("bitmex", 0.03, 0.4, 100.0, 4, 0, 2, 0, 1, 0, (1.0, 1.0), 10.0),
    Venue("deribit", 0.06, 0.5, 50.0, 0, 6, 2, 0, 2, 2, (10.0, 1.0), None),
)

KINDS = ("linear_perpetual", "inverse_perpetual", "linear_future", "inverse_future", "option")
#: How often a position is in a contract of this kind, beside a linear perpetual in the same asset.
_APPEAL = {
    "linear_perpetual": 1.0,
    "inverse_perpetual": 0.30,
    "linear_future": 0.09,
    "inverse_future": 0.13,
    "option": 0.0012,
}
_USDC_APPEAL = 0.18
_MAJORS_SHARE = 0.52
_ON_INVERSE_VENUES = frozenset({"bitmex", "deribit"})
_N_EXPIRIES, _MIN_DAYS_TO_EXPIRY, _EXPIRY_HOUR = 2, 7, 8
_STRIKES = (0.85, 1.0, 1.15)
#: One thinly traded asset on the smaller venues: its marks stopped before the close.
_STALE_VENUES, _STALE_RANK = frozenset({"gate", "kucoin"}), 15


@dataclass(frozen=True)
class Listing:
    """Every contract, as the table that is written and as arrays the book is drawn with.

    `asset` and `venue` index the assets of `Prices` and `VENUES`, `kind` indexes `KINDS`.
    """

    table: pa.Table
    asset: np.ndarray
    venue: np.ndarray
    kind: np.ndarray
    is_inverse: np.ndarray
    contract_size: np.ndarray
    mark_price: np.ndarray
    decimals: np.ndarray
    lot: np.ndarray
    appeal: np.ndarray


def list_contracts(prices: Prices, as_of: date, generator: np.random.Generator) -> Listing:
    """List the contracts of every venue on the given asset prices.

    Parameters
    ----------
    prices : Prices
        Assets, their closes and turnover.
    as_of : date
        The marks are those of its close.
    generator : Generator
        Draws basis, funding and volatility.

    Returns
    -------
    Listing
        One row per (venue, symbol), options last.
    """
    share = asset_shares(prices)
    ranked = np.argsort(-share, kind="stable")
    expiries = quarterly_expiries(as_of)
    # One basis per asset and expiry: venues do not differ by more than noise.
    carry = generator.uniform(0.03, 0.09, len(prices.assets))
    volatility = generator.uniform(0.38, 0.62, len(prices.assets))
    close = datetime.combine(as_of, time(23, 59, 59), UTC)
    rows, marks = [], []
    for number, venue in enumerate(VENUES):
        for asset, terms in _forms(venue, ranked, expiries, prices):
            kind = str(terms["kind"])
            years = _years_to(terms.get("expiry"), close)
            basis = generator.normal(1e-4, 2e-4) if prices.is_synthetic else 0.0
            drawn = generator.standard_normal(3)
            spot = float(prices.close[asset])
            mark = spot * (1.0 + basis) if years == 0 else spot * np.exp(carry[asset] * years)
            if years > 0:
                mark *= 1.0 + 2e-4 * drawn[0]
            is_stale = (
                venue.name in _STALE_VENUES
                and asset == ranked[min(_STALE_RANK, len(ranked) - 1)]
                and kind == "linear_perpetual"
            )
            lag = timedelta(milliseconds=int(abs(drawn[1]) * 200))
            is_swap = kind.endswith("perpetual")
            row: dict[str, Any] = {
                **{name: terms.get(name) for name in CONTRACTS.names},
                "venue": venue.name,
                "base": prices.assets[asset],
                "linear": kind.startswith("linear"),
                "mark_timestamp": close - (timedelta(hours=5) if is_stale else lag),
                "index_price": spot,
                "funding_rate": _funding(drawn[2], carry[asset]) if is_swap else None,
                "funding_interval_hours": 8.0 if is_swap else None,
            }
            decimals = price_decimals(mark)
            mark = round(mark, decimals)
            if kind == "option":
                iv = float(round(volatility[asset] + 0.02 * abs(drawn[0]), 4))
                row["mark_iv"] = iv
                mark = max(round(_option_mark(row, spot, years, iv), 4), 0.0001)
                decimals = 4
            turnover = float(prices.daily_volume_usd[asset]) * venue.positions
            appeal = _appeal(venue, kind, terms["settle"]) * share[asset] ** 0.55
            row["mark_price"] = mark
            row["volume_24h_usd"] = float(
                round(turnover * min(appeal / share[asset] ** 0.55, 1.0) * np.exp(0.3 * drawn[0]))
            )
            rows.append(row)
            lot = _lot(row, kind, venue)
            marks.append((asset, number, KINDS.index(kind), mark, decimals, lot, appeal))
    columns = [np.array(column) for column in zip(*marks, strict=True)]
    asset_row, venue_row, kind_row, mark_price, decimals_row, lots, appeals = columns
    return Listing(
        table=pa.Table.from_pylist(rows, schema=CONTRACTS),
        asset=asset_row,
        venue=venue_row,
        kind=kind_row,
        is_inverse=np.isin(kind_row, [1, 3]),
        contract_size=np.array([row["contract_size"] for row in rows]),
        mark_price=mark_price,
        decimals=decimals_row,
        lot=lots,
        appeal=appeals,
    )


def asset_shares(prices: Prices) -> np.ndarray:
    """Share of each asset in the book's notional (asset,), from the turnover of recent weeks.

    Bitcoin and ether together get about half, as they do of open interest: turnover alone swings
    between a third and nine tenths with fee promotions.
    """
    weight = prices.daily_volume_usd**0.7
    is_major = np.isin(prices.assets, ["BTC", "ETH"])
    if not is_major.any() or is_major.all():
        return weight / weight.sum()
    majors = _MAJORS_SHARE * is_major.sum() / 2.0
    share = np.where(is_major, np.sqrt(weight), weight)
    share[is_major] *= majors / share[is_major].sum()
    share[~is_major] *= (1.0 - majors) / share[~is_major].sum()
    return share


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


def _forms(
    venue: Venue, ranked: np.ndarray, expiries: Sequence[datetime], prices: Prices
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
    for asset in ranked[: venue.options].tolist():
        for multiple in _STRIKES:
            for letter, option_type in (("C", "call"), ("P", "put")):
                yield (
                    asset,
                    _option(venue, prices, asset, expiries[0], multiple, letter, option_type),
                )


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


def _option(
    venue: Venue,
    prices: Prices,
    asset: int,
    expiry: datetime,
    multiple: float,
    letter: str,
    option_type: str,
) -> dict[str, Any]:
    name, spot = prices.assets[asset], float(prices.close[asset])
    step = 10.0 ** max(np.floor(np.log10(spot)) - 1, -4)
    strike = float(f"{np.round(spot * multiple / step) * step:.6g}")
    return {
        "kind": "option",
        "symbol": f"{name}/USD:{name}{_suffix(expiry)}-{strike:g}-{letter}",
        "quote": "USD",
        "settle": name,
        "type": "option",
        "contract_size": 0.01 if venue.name == "okx" else 1.0,
        "expiry": expiry,
        "strike": strike,
        "option_type": option_type,
    }


def _suffix(expiry: datetime | None) -> str:
    return f"-{expiry:%y%m%d}" if expiry else ""


def _years_to(expiry: datetime | None, close: datetime) -> float:
    return (expiry - close).total_seconds() / (365.0 * 86_400.0) if expiry else 0.0


def _funding(drawn: float, carry: float) -> float:
    """Rate of 8 hours around the carry, with the usual bounds of 0.75 %."""
    return float(np.round(np.clip(carry / 1095.0 + 1e-4 * drawn, -0.0075, 0.0075), 6))


def _option_mark(row: dict[str, Any], spot: float, years: float, volatility: float) -> float:
    """Undiscounted Black price in coin, as venues of coin-settled options quote it."""
    deviation = volatility * np.sqrt(years)
    d1 = np.log(spot / row["strike"]) / deviation + deviation / 2.0
    call = spot * ndtr(d1) - row["strike"] * ndtr(d1 - deviation)
    value = call if row["option_type"] == "call" else call - spot + row["strike"]
    return float(value / spot)


def _appeal(venue: Venue, kind: str, settle: str) -> float:
    appeal = _APPEAL[kind]
    if venue.name in _ON_INVERSE_VENUES:
        return {"option": 0.02, "linear_perpetual": 0.35}.get(kind, 3.0 * appeal)
    return appeal * (_USDC_APPEAL if settle == "USDC" else 1.0)


def _lot(row: dict[str, Any], kind: str, venue: Venue) -> float:
    """Smallest step of the number of contracts."""
    if kind == "option":
        return 1.0 if venue.name == "okx" else 0.1
    if kind.startswith("linear") and row["contract_size"] == 1.0:
        return float(10.0 ** np.round(np.log10(5.0 / row["index_price"])))
    return 1.0
