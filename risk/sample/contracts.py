"""What the sample's venues list: perpetuals, dated futures and a few options, with their marks.

The asset prices are given; everything else about a contract (basis, funding, turnover, volatility)
is made up within the range such figures usually have.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from risk.sample.options import option_expiries, option_marks
from risk.sample.prices import Prices, price_decimals
from risk.sample.venues import VENUES, Venue, forms, quarterly_expiries
from risk.schema import CONTRACTS

KINDS = ("linear_perpetual", "inverse_perpetual", "linear_future", "inverse_future", "option")
#: How often a position is in a contract of this kind, beside a linear perpetual in the same asset.
_APPEAL = {
    "linear_perpetual": 1.0,
    "inverse_perpetual": 0.30,
    "linear_future": 0.09,
    "inverse_future": 0.13,
    "option": 0.004,
}
_USDC_APPEAL = 0.18
_MAJORS = {"BTC": 0.29, "ETH": 0.18}
_ON_INVERSE_VENUES = frozenset({"bitmex", "deribit"})
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
    option_dates = option_expiries(as_of, expiries[0])
    # One basis per asset and expiry: venues do not differ by more than noise.
    carry = generator.uniform(0.03, 0.09, len(prices.assets))
    volatility = generator.uniform(0.38, 0.62, len(prices.assets))
    close = datetime.combine(as_of, time(23, 59, 59), UTC)
    rows, marks = [], []
    for number, venue in enumerate(VENUES):
        for asset, terms in forms(venue, ranked, expiries, option_dates, prices):
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
                "linear": terms.get("linear", kind.startswith("linear")),
                "mark_timestamp": close - (timedelta(hours=5) if is_stale else lag),
                "index_price": spot,
                "funding_rate": _funding(drawn[2], carry[asset]) if is_swap else None,
                "funding_interval_hours": 8.0 if is_swap else None,
            }
            decimals = price_decimals(mark)
            mark = round(mark, decimals)
            if kind == "option":
                forward = spot * float(np.exp(carry[asset] * years))
                row["mark_iv"], mark, decimals = option_marks(
                    row, spot, forward, years, float(volatility[asset])
                )
            turnover = float(prices.daily_volume_usd[asset]) * venue.positions
            form = _appeal(venue, kind, terms["settle"])
            row["mark_price"] = mark
            row["volume_24h_usd"] = float(round(turnover * min(form, 1.0) * np.exp(0.3 * drawn[0])))
            rows.append(row)
            lot = _lot(row, kind, venue)
            # Positions are spread over the assets more evenly than notional is.
            appeal = form * share[asset] ** 0.55
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

    Bitcoin and ether have fixed shares, about those of open interest: their turnover swings
    between a third and nine tenths of the market's with fee promotions.
    """
    share = prices.daily_volume_usd**0.7
    majors = {i: _MAJORS[name] for i, name in enumerate(prices.assets) if name in _MAJORS}
    others = [i for i in range(len(share)) if i not in majors]
    if not others:
        return share / share.sum()
    share[others] *= (1.0 - sum(majors.values())) / share[others].sum()
    share[list(majors)] = list(majors.values())
    return share


def _years_to(expiry: datetime | None, close: datetime) -> float:
    return (expiry - close).total_seconds() / (365.0 * 86_400.0) if expiry else 0.0


def _funding(drawn: float, carry: float) -> float:
    """Rate of 8 hours around the carry, with the usual bounds of 0.75 %."""
    return float(np.round(np.clip(carry / 1095.0 + 1e-4 * drawn, -0.0075, 0.0075), 6))


def _appeal(venue: Venue, kind: str, settle: str) -> float:
    appeal = _APPEAL[kind]
    if venue.name in _ON_INVERSE_VENUES:
        return {"option": 0.03, "linear_perpetual": 0.35}.get(kind, 3.0 * appeal)
    return appeal * (_USDC_APPEAL if settle == "USDC" else 1.0)


def _lot(row: dict[str, Any], kind: str, venue: Venue) -> float:
    """Smallest step of the number of contracts."""
    if kind == "option":
        return 1.0 if venue.name == "okx" else 0.1
    if kind.startswith("linear") and row["contract_size"] == 1.0:
        return float(10.0 ** np.round(np.log10(5.0 / row["index_price"])))
    return 1.0
