"""Synthetic price history: fat tails, volatility clusters, common crashes, whole OHLC bars.

Log prices follow two common factors (the market and the altcoins) and one of their own per asset.
Each of these is a GARCH(1, 1) with Student-t days, cut into 24 intraday steps, so a day's high and
low come from the same path as its close. A few crashes and rallies hit every asset within hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from risk.schema import HISTORY

N_DAYS = 2_000
STEPS_PER_DAY = 24
#: Days of bars before the as-of that entries are drawn from; the as-of itself comes on top.
ENTRY_DAYS = 30

_DAYS_PER_YEAR = 365.0
_SHOCK_WEIGHT, _MEMORY = 0.14, 0.84
_DEGREES_OF_FREEDOM = 4.0
_MARKET_VOLATILITY, _ALTCOIN_VOLATILITY = 0.48, 0.42
#: A day is at most this many of its standard deviations, and volatility this many of its mean:
#: without a bound, fat-tailed innovations send a GARCH variance to absurd levels now and then.
_MAX_INNOVATION, _MAX_VOLATILITY_RATIO = 7.0, 4.0
_N_CRASHES, _N_RALLIES, _CALM_DAYS = 6, 3, 45
_YEARLY_LOG_DRIFT, _DRIFT_SPREAD = 0.12, 0.10


class Asset(NamedTuple):
    """One asset of the synthetic market; prices and turnover are rounded figures of mid-2025."""

    name: str
    price: float
    daily_volume_usd: float
    market_beta: float
    altcoin_beta: float
    own_volatility: float
    n_days: int = N_DAYS


ASSETS = (
    Asset("BTC", 108_000.0, 14_000e6, 1.00, 0.00, 0.18),
    Asset("ETH", 2_500.0, 9_500e6, 1.25, 0.35, 0.25),
    Asset("SOL", 150.0, 3_600e6, 1.45, 0.60, 0.45),
    Asset("XRP", 2.20, 2_000e6, 1.15, 0.70, 0.50),
    Asset("BNB", 650.0, 900e6, 0.95, 0.35, 0.30),
    Asset("DOGE", 0.165, 1_300e6, 1.40, 0.80, 0.55),
    Asset("ADA", 0.56, 650e6, 1.30, 0.90, 0.42),
    Asset("TRX", 0.275, 260e6, 0.70, 0.30, 0.38),
    Asset("AVAX", 18.0, 420e6, 1.40, 0.95, 0.45),
    Asset("LINK", 13.4, 480e6, 1.35, 0.90, 0.42),
    Asset("DOT", 3.4, 300e6, 1.30, 0.95, 0.40),
    Asset("LTC", 86.0, 380e6, 1.15, 0.70, 0.38),
    Asset("BCH", 500.0, 340e6, 1.15, 0.65, 0.45),
    Asset("UNI", 7.2, 330e6, 1.40, 0.90, 0.55),
    Asset("ATOM", 4.1, 150e6, 1.30, 0.95, 0.45),
    Asset("ETC", 16.6, 160e6, 1.25, 0.85, 0.42),
    Asset("XLM", 0.235, 180e6, 1.10, 0.80, 0.50),
    Asset("FIL", 2.3, 190e6, 1.35, 1.00, 0.50),
    Asset("NEAR", 2.15, 240e6, 1.45, 1.00, 0.50),
    Asset("HBAR", 0.15, 190e6, 1.25, 0.90, 0.60),
    Asset("APT", 4.8, 200e6, 1.40, 1.00, 0.50, 980),
    Asset("ARB", 0.33, 260e6, 1.45, 1.05, 0.50, 820),
    Asset("OP", 0.55, 180e6, 1.50, 1.05, 0.50, 1_120),
    Asset("SUI", 2.75, 850e6, 1.50, 0.95, 0.60, 780),
    Asset("WIF", 0.84, 300e6, 1.60, 1.10, 0.85, 470),
)


@dataclass(frozen=True)
class Prices:
    """What the book is built from, and the history file written beside it.

    `high` and `low` are (day, asset) in USD: `ENTRY_DAYS` days and the as-of, which comes last.
    Only `table` may hold days after the as-of.
    """

    assets: tuple[str, ...]
    close: np.ndarray
    high: np.ndarray
    low: np.ndarray
    daily_volume_usd: np.ndarray
    table: pa.Table
    is_synthetic: bool
    source: str


def synthetic_prices(as_of: date, generator: np.random.Generator) -> Prices:
    """Simulate `N_DAYS` days of bars that end on `as_of` at the prices of `ASSETS`.

    Parameters
    ----------
    as_of : date
        Last day of the history.
    generator : Generator
        The only source of randomness.

    Returns
    -------
    Prices
        Assets in the order of `ASSETS`; the younger ones start later.
    """
    steps = _hourly_log_returns(generator)
    path = np.cumsum(steps, axis=0)
    path -= path[-1]
    level = np.array([asset.price for asset in ASSETS])
    decimals = np.array([price_decimals(price) for price in level])
    # Points of one day: the close before it, then its steps; so open is the last close.
    points = np.concatenate([np.zeros((1, len(ASSETS))) + path[0] - steps[0], path])
    days = np.stack([points[i : i + N_DAYS * STEPS_PER_DAY : STEPS_PER_DAY] for i in range(25)])
    bars = {
        "open": days[0],
        "high": days.max(axis=0),
        "low": days.min(axis=0),
        "close": days[-1],
    }
    scale = 10.0**decimals
    bars = {name: np.rint(level * np.exp(bar) * scale) / scale for name, bar in bars.items()}
    usual = np.array([asset.daily_volume_usd for asset in ASSETS]) / level
    move = np.abs(np.diff(path[STEPS_PER_DAY - 1 :: STEPS_PER_DAY], axis=0, prepend=0.0))
    busy = np.minimum(8.0 * move, 1.5) + 0.35 * generator.standard_normal((N_DAYS, len(ASSETS)))
    bars["volume"] = np.round(usual * np.exp(busy - 0.3), 2)
    window = slice(N_DAYS - ENTRY_DAYS - 1, N_DAYS)
    return Prices(
        assets=tuple(asset.name for asset in ASSETS),
        close=bars["close"][-1],
        high=bars["high"][window],
        low=bars["low"][window],
        daily_volume_usd=(bars["close"] * bars["volume"])[window].mean(axis=0),
        table=_long_table(as_of, bars),
        is_synthetic=True,
        source="SYNTHETIC prices (two factors, GARCH, Student-t, common crashes)",
    )


def price_decimals(price: float) -> int:
    """Decimals that a venue would quote: six to seven significant digits.

    Examples
    --------
    >>> price_decimals(108_000.0), price_decimals(0.165)
    (1, 7)
    """
    return max(0, 6 - int(np.floor(np.log10(price))))


def _hourly_log_returns(generator: np.random.Generator) -> np.ndarray:
    """(step, asset) log returns over all days, drift included."""
    n_assets = len(ASSETS)
    mean_volatility = np.array(
        [_MARKET_VOLATILITY, _ALTCOIN_VOLATILITY, *(asset.own_volatility for asset in ASSETS)]
    ) / np.sqrt(_DAYS_PER_YEAR)
    normal = generator.standard_normal((N_DAYS, STEPS_PER_DAY, n_assets + 2))
    normal /= np.sqrt(STEPS_PER_DAY)
    chi_square = generator.chisquare(_DEGREES_OF_FREEDOM, (N_DAYS, n_assets + 2))
    mix = np.sqrt((_DEGREES_OF_FREEDOM - 2.0) / chi_square)
    innovation = mix * normal.sum(axis=1)
    mix *= np.minimum(1.0, _MAX_INNOVATION / np.maximum(np.abs(innovation), 1e-12))
    innovation = np.clip(innovation, -_MAX_INNOVATION, _MAX_INNOVATION)
    jumps = _common_jumps(generator)
    volatility = _garch(innovation, jumps.sum(axis=1), mean_volatility)
    factors = (normal * (mix * volatility)[:, None, :]).reshape(-1, n_assets + 2)
    market = np.array([asset.market_beta for asset in ASSETS])
    altcoin = np.array([asset.altcoin_beta for asset in ASSETS])
    steps = factors[:, :1] * market + factors[:, 1:2] * altcoin + factors[:, 2:]
    # In a crash everything falls together, altcoins somewhat further than their beta.
    response = (market + 0.25 * altcoin) * (1.0 + 0.1 * generator.standard_normal(n_assets))
    steps += jumps.reshape(-1, 1) * response
    # The sample's own mean is replaced: over years its luck would move prices by powers of ten.
    drift = _YEARLY_LOG_DRIFT + _DRIFT_SPREAD * generator.standard_normal(n_assets)
    per_step = drift / _DAYS_PER_YEAR / STEPS_PER_DAY
    return steps - steps.mean(axis=0) + per_step


def _garch(innovation: np.ndarray, jump: np.ndarray, mean_volatility: np.ndarray) -> np.ndarray:
    """(day, series) volatility; the market's (series 0) also reacts to the common jumps."""
    mean_variance = mean_volatility**2
    highest = mean_variance * _MAX_VOLATILITY_RATIO**2
    variance = np.empty_like(innovation)
    current = mean_variance
    for day in range(len(innovation)):
        variance[day] = current
        move = innovation[day] * np.sqrt(current)
        move[:2] += 0.5 * jump[day]
        current = (
            (1.0 - _SHOCK_WEIGHT - _MEMORY) * mean_variance
            + _SHOCK_WEIGHT * move**2
            + _MEMORY * current
        )
        current = np.minimum(current, highest)
    return np.sqrt(variance)


def _common_jumps(generator: np.random.Generator) -> np.ndarray:
    """(day, step) log jumps of the market: a slide over a few steps, then a partial rebound.

    The last weeks are left calm, or the book would be one that has just been through a crash.
    """
    jumps = np.zeros(N_DAYS * STEPS_PER_DAY)
    n = _N_CRASHES + _N_RALLIES
    days = generator.choice(np.arange(60, N_DAYS - _CALM_DAYS), size=n, replace=False)
    for i, day in enumerate(days):
        low, high = (0.14, 0.32) if i < _N_CRASHES else (0.06, 0.14)
        size = generator.uniform(low, high) * (-1.0 if i < _N_CRASHES else 1.0)
        start = day * STEPS_PER_DAY + int(generator.integers(0, 18))
        slide, rebound = int(generator.integers(1, 4)), int(generator.integers(2, 6))
        jumps[start : start + slide] += size / slide
        back = -size * generator.uniform(0.15, 0.45)
        jumps[start + slide : start + slide + rebound] += back / rebound
    return jumps.reshape(N_DAYS, STEPS_PER_DAY)


def _long_table(as_of: date, bars: dict[str, np.ndarray]) -> pa.Table:
    """The bars in long form, sorted by day and asset, each asset from its first day on."""
    names = np.array([asset.name for asset in ASSETS])
    order = np.argsort(names)
    first = N_DAYS - np.array([asset.n_days for asset in ASSETS])
    day, column = np.nonzero(np.arange(N_DAYS)[:, None] >= first[order])
    column = order[column]
    last = np.datetime64(as_of, "D")
    ts = (last - (N_DAYS - 1) + day).astype("datetime64[ms]")
    columns = [
        pa.array(ts).cast(HISTORY.field("ts").type),
        pa.array(names).take(pa.array(column)),
        *(pa.array(bars[name][day, column]) for name in HISTORY.names[2:]),
    ]
    return pa.table(columns, schema=HISTORY)
