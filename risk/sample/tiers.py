"""Tier tables of the sample: published brackets where they are given, synthetic ones elsewhere.

The synthetic ladder has the shape exchanges publish: leverage falls as notional grows, the
maintenance rate is about half of the smallest initial margin, and the largest notional follows the
asset's turnover. Inverse tables are always synthetic and in coin.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from risk.sample.contracts import Listing
from risk.sample.history import Brackets
from risk.sample.prices import Prices
from risk.sample.venues import VENUES
from risk.schema import TIERS

#: Largest leverage, maintenance rate, upper bound as a share of the asset's largest notional.
_LADDER = np.array(
    [
        (125.0, 0.004, 3e-5),
        (100.0, 0.005, 3e-4),
        (75.0, 0.0065, 1e-3),
        (50.0, 0.01, 4e-3),
        (40.0, 0.0125, 6e-3),
        (25.0, 0.02, 2e-2),
        (20.0, 0.025, 3e-2),
        (10.0, 0.05, 0.1),
        (5.0, 0.10, 0.2),
        (4.0, 0.125, 0.35),
        (3.0, 0.15, 0.45),
        (2.0, 0.25, 0.65),
        (1.0, 0.50, 1.0),
    ]
)
#: Largest leverage by rank of turnover: the first two assets, the next ones, and so on.
_BY_RANK = ((2, 125.0), (5, 100.0), (16, 75.0), (22, 50.0))
_TAIL_LEVERAGE = 25.0
_LARGEST_NOTIONAL_USD, _SMALLEST_NOTIONAL_USD = 1.5e9, 4e6


def tier_table(prices: Prices, listing: Listing, brackets: Brackets | None) -> tuple[pa.Table, str]:
    """Tier tables of every contract but options.

    Parameters
    ----------
    prices : Prices
        Assets and their turnover, which sets the synthetic limits.
    listing : Listing
        Contracts.
    brackets : Brackets or None
        Published tables; a linear contract on any venue takes that of ``<asset>/USDT:USDT``.

    Returns
    -------
    Table, str
        The tiers, and where they come from, in words.
    """
    rank = np.empty(len(prices.assets), dtype=int)
    rank[np.argsort(-prices.daily_volume_usd, kind="stable")] = np.arange(len(rank))
    relative = prices.daily_volume_usd / prices.daily_volume_usd.max()
    limit = np.clip(_LARGEST_NOTIONAL_USD * relative, _SMALLEST_NOTIONAL_USD, _LARGEST_NOTIONAL_USD)
    parts, without = [], set()
    names = zip(
        listing.table["venue"].to_pylist(), listing.table["symbol"].to_pylist(), strict=True
    )
    for row, (venue, symbol) in enumerate(names):
        if listing.table["type"][row].as_py() == "option":
            continue
        asset, is_inverse = int(listing.asset[row]), bool(listing.is_inverse[row])
        published = None
        if brackets is not None and not is_inverse:
            published = brackets.by_symbol.get(f"{prices.assets[asset]}/USDT:USDT")
            if published is None:
                without.add(prices.assets[asset])
        rules = VENUES[int(listing.venue[row])]
        columns = published or synthetic_tiers(
            limit[asset] * rules.depth,
            min(_max_leverage(int(rank[asset])), rules.max_leverage),
            price=float(prices.close[asset]) if is_inverse else 1.0,
        )
        n = len(columns["tier"])
        parts.append(
            pa.table(
                [
                    pa.array([venue] * n),
                    pa.array([symbol] * n),
                    *(pa.array(columns[name]) for name in TIERS.names[2:]),
                ],
                schema=TIERS,
            )
        )
    return pa.concat_tables(parts).combine_chunks(), _source(brackets, without)


def synthetic_tiers(
    limit_usd: float, max_leverage: float, *, price: float = 1.0
) -> dict[str, np.ndarray]:
    """One synthetic ladder, from `max_leverage` down to 1.

    Parameters
    ----------
    limit_usd : float
        Upper bound of the last tier, USD.
    max_leverage : float
        Largest leverage of the first tier.
    price : float
        1 for amounts in USD, the asset's price for amounts in coin.

    Returns
    -------
    dict of ndarray (tier,)
        Columns of `risk.schema.TIERS`; the maintenance amounts make the requirement continuous.

    Examples
    --------
    >>> ladder = synthetic_tiers(1e9, 5.0)
    >>> ladder["max_notional"].tolist()[:2], ladder["maintenance_amount"].tolist()[:2]
    ([200000000.0, 350000000.0], [0.0, 4999999.999999999])
    """
    leverage, rate, share = _LADDER[_LADDER[:, 0] <= max_leverage].T
    cap = np.array([_two_digits(value) for value in limit_usd * share / price])
    floor = np.concatenate(([0.0], cap[:-1]))
    amount = np.cumsum(floor * np.diff(rate, prepend=rate[0]))
    return {
        "tier": np.arange(1, len(rate) + 1),
        "min_notional": floor,
        "max_notional": cap,
        "maintenance_margin_rate": rate,
        "maintenance_amount": amount,
        "max_leverage": leverage,
    }


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def _max_leverage(rank: int) -> float:
    return next((leverage for upto, leverage in _BY_RANK if rank < upto), _TAIL_LEVERAGE)


def _source(brackets: Brackets | None, without: set[str]) -> str:
    if brackets is None:
        return "SYNTHETIC tier tables"
    text = (
        f"Binance USD-M brackets of {brackets.published} for linear contracts of every venue; "
        "inverse tiers SYNTHETIC"
    )
    return text + (f"; SYNTHETIC for {', '.join(sorted(without))}" if without else "")
