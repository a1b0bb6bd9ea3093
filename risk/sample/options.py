"""The sample's options: expiries, strikes, a smile, marks, and what writers have posted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.contracts.options import option_value
from risk.sample.prices import Prices

_FRIDAY, _EXPIRY_HOUR = 4, 8
#: Days to go at least: of the weekly and of the monthly expiry.
_WEEKLY, _MONTHLY = 2, 25
#: Strikes as multiples of the spot price, wider where there is more time.
_STRIKES = ((0.9, 0.95, 1.0, 1.05, 1.1), (0.8, 0.9, 1.0, 1.1, 1.2), (0.7, 0.85, 1.0, 1.15, 1.3))
#: Skew and curvature of the smile per standard deviation from the forward.
_SKEW, _CURVATURE = -0.06, 0.04
#: Backing of a writer beyond the premium, in units of the underlying: about the initial margin of
#: its venues, and often more.
_LEAST_BACKING, _MEAN_EXTRA = 0.11, 0.09

#: Assets with an index of implied volatility, and how it follows the realised one: decays of the
#: two averages it mixes, their premium, and the size and memory of what it has of its own.
_INDICES = ("BTC", "ETH")
_DECAYS, _PREMIUM = (0.97, 0.995), 1.1
_OWN_MOVE, _OWN_MEMORY = 0.03, 0.95


def option_expiries(as_of: date, quarterly: datetime) -> list[datetime]:
    """A weekly, a monthly and the given quarterly expiry: Fridays at 08:00 UTC.

    Examples
    --------
    >>> quarterly = datetime(2025, 9, 26, 8, tzinfo=UTC)
    >>> [f"{expiry:%m-%d}" for expiry in option_expiries(date(2025, 6, 29), quarterly)]
    ['07-04', '07-25', '09-26']
    """
    found = []
    for least in (_WEEKLY, _MONTHLY):
        first = as_of + timedelta(days=least)
        friday = first + timedelta(days=(_FRIDAY - first.weekday()) % 7)
        found.append(datetime.combine(friday, time(_EXPIRY_HOUR), UTC))
    return sorted({*found, quarterly})


def option_forms(
    prices: Prices, asset: int, expiries: Sequence[datetime], settle: str | None, size: float
) -> Iterator[dict[str, Any]]:
    """Terms of one asset's options; settled in the asset itself without a `settle`."""
    name, spot = prices.assets[asset], float(prices.close[asset])
    step = 10.0 ** max(np.floor(np.log10(spot)) - 2, -6) * 5
    for expiry, multiples in zip(expiries, _STRIKES, strict=False):
        strikes = dict.fromkeys(
            float(f"{max(np.round(spot * multiple / step), 1.0) * step:.6g}")
            for multiple in multiples
        )
        for strike in strikes:
            for letter, option_type in (("C", "call"), ("P", "put")):
                quote = settle or "USD"
                series = f"{expiry:%y%m%d}-{strike:g}-{letter}"
                yield {
                    "kind": "option",
                    "symbol": f"{name}/{quote}:{settle or name}-{series}",
                    "quote": quote,
                    "settle": settle or name,
                    "type": "option",
                    "linear": settle is not None,
                    "contract_size": size,
                    "expiry": expiry,
                    "strike": strike,
                    "option_type": option_type,
                }


def option_marks(
    terms: dict[str, Any], spot: float, forward: float, years: float, volatility: float
) -> tuple[float, float, int]:
    """Implied volatility on the smile, the mark it gives, and the decimals it is quoted with."""
    away = np.log(terms["strike"] / forward) / (volatility * np.sqrt(years))
    away = float(np.clip(away, -3.0, 3.0))
    smile = round(volatility * (1.0 + _SKEW * away + _CURVATURE * away**2), 4)
    is_call, is_inverse = terms["option_type"] == "call", not terms["linear"]
    value = float(option_value(forward, terms["strike"], years, smile, is_call, is_inverse))
    decimals = 4 if is_inverse else max(0, 4 - int(np.floor(np.log10(spot))))
    return smile, max(round(value, decimals), 10.0**-decimals), decimals


def implied_history(prices: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Daily closes of the implied-volatility indices that go with simulated prices.

    Parameters
    ----------
    prices : Table
        Schema HISTORY, sorted by day.
    rng : Generator
        The only source of randomness.

    Returns
    -------
    Table
        `ts`, `asset`, `close` (fraction per year), sorted by day and asset.
    """
    parts = []
    for name in _INDICES:
        bars = prices.filter(pc.equal(prices["asset"], name))
        move = np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan)
        move[0] = 0.0
        variance = np.zeros(len(move))
        for decay in _DECAYS:
            mean, squares = float(np.mean(move**2)), move**2
            for day, square in enumerate(squares):
                mean = decay * mean + (1.0 - decay) * square
                variance[day] += mean / len(_DECAYS)
        own, noise = 0.0, np.empty(len(move))
        for day, normal in enumerate(rng.standard_normal(len(move))):
            own = _OWN_MEMORY * own + _OWN_MOVE * normal
            noise[day] = own
        close = _PREMIUM * np.sqrt(365.0 * variance) * np.exp(noise)
        parts.append(
            pa.table(
                {
                    "ts": bars["ts"],
                    "asset": pa.array([name] * len(move), pa.string()),
                    "close": np.round(close, 4),
                }
            )
        )
    return pa.concat_tables(parts).sort_by([("ts", "ascending"), ("asset", "ascending")])


def option_collateral(
    direction: np.ndarray,
    size: np.ndarray,
    entry: np.ndarray,
    mark: np.ndarray,
    underlying: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """None for a bought option; for a written one the premium received and a margin.

    The larger of premium and mark, which a writer under water has topped up, and 11 % of the
    underlying and more (exponential, 9 % on average); `underlying` is one unit in settle currency.
    """
    backing = _LEAST_BACKING + rng.exponential(_MEAN_EXTRA, len(size))
    posted = size * (np.maximum(entry, mark) * 1.05 + backing * underlying)
    return np.where(direction > 0, 0.0, posted)
