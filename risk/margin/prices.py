"""Equity, requirement, bankruptcy and liquidation price of isolated positions.

Everything is solved in the coordinate of `risk.contracts.payoffs`, where equity is a line: a
position is hurt when the coordinate falls (heading +1) or rises (heading -1). No iteration: equity
less requirement is a minimum of lines that all slope the same way as long as every maintenance
rate plus the closing fee is below 1, so its root is the largest (heading +1) or smallest root of
the single tiers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from risk.contracts.payoffs import coordinate, heading, notional, unrealized_pnl
from risk.margin.tiers import TierTables, tiered_maintenance

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: A root nearer to zero than this is rounding, and its reciprocal would overflow: no price.
_NEAREST_TO_ZERO = 1e-200


@dataclass(frozen=True)
class Legs:
    """Isolated positions with the rules that close them, as arrays of one length.

    Attributes
    ----------
    direction : ndarray (n,)
        +1 long, -1 short.
    size : ndarray (n,)
        Base units, or face value in US dollars if inverse; above zero.
    entry_price : ndarray (n,)
        Quote currency.
    position_margin : ndarray (n,)
        Collateral posted, settle currency, without unrealised P&L.
    is_inverse : ndarray of bool (n,)
        Settled in the asset itself.
    table : ndarray of int (n,)
        Column of the tier table.
    is_entry_basis : ndarray of bool (n,)
        Maintenance fixed at the entry value; else it follows the mark.
    trigger_fee_rate : ndarray (n,)
        Closing fee that the liquidation test includes, of the closed notional; 0 where it does not.
    is_fee_at_bankruptcy : ndarray of bool (n,)
        That fee is charged at the bankruptcy price; else at the tested price.
    """

    direction: Floats
    size: Floats
    entry_price: Floats
    position_margin: Floats
    is_inverse: Bools
    table: NDArray[np.int64]
    is_entry_basis: Bools
    trigger_fee_rate: Floats
    is_fee_at_bankruptcy: Bools


def equity(legs: Legs, price: Floats) -> Floats:
    """Collateral plus unrealised P&L at a price (n,), settle currency."""
    return legs.position_margin + unrealized_pnl(
        legs.direction, legs.size, legs.entry_price, price, legs.is_inverse
    )


def maintenance_margin(legs: Legs, tiers: TierTables, price: Floats) -> Floats:
    """Least equity at a price (n,), settle currency, any closing fee excluded.

    On the entry basis the entry value picks the tier and the price does not matter.
    """
    tested = np.where(legs.is_entry_basis, legs.entry_price, price)
    return tiered_maintenance(tiers, legs.table, notional(legs.size, tested, legs.is_inverse))


def trigger_fee(legs: Legs, price: Floats) -> Floats:
    """Closing fee (n,), settle currency, that the liquidation test adds at a price; 0 if none."""
    at_price = notional(legs.size, price, legs.is_inverse)
    at_bankruptcy = legs.size * np.maximum(_bankruptcy_coordinate(legs), 0.0)
    return legs.trigger_fee_rate * np.where(legs.is_fee_at_bankruptcy, at_bankruptcy, at_price)


def bankruptcy_price(legs: Legs) -> Floats:
    """Price at which equity is zero.

    Returns
    -------
    ndarray (n,)
        Quote currency; NaN where no price above zero takes the whole collateral.
    """
    return _price(_bankruptcy_coordinate(legs), legs.is_inverse)


def liquidation_price(legs: Legs, tiers: TierTables) -> Floats:
    """Price at which equity equals maintenance margin plus the closing fee in the trigger.

    Parameters
    ----------
    legs : Legs
        The positions.
    tiers : TierTables
        Every rate plus the trigger fee must be below 1.

    Returns
    -------
    ndarray (n,)
        Quote currency; NaN where no price above zero liquidates.

    References
    ----------
    .. [1] Binance, "How to Calculate Liquidation Price of USD-M Futures Contracts".
    .. [2] Bybit, "Liquidation Price Calculation under Isolated Mode": the entry basis.
    """
    head = heading(legs.direction, legs.is_inverse)
    entered = notional(legs.size, legs.entry_price, legs.is_inverse)
    fee_fixed = np.where(legs.is_fee_at_bankruptcy, trigger_fee(legs, legs.entry_price), 0.0)
    fee_rate = np.where(legs.is_fee_at_bankruptcy, 0.0, legs.trigger_fee_rate)
    # equity - requirement = (head - rate - fee_rate) * size * u - lacking + amount, tier by tier
    lacking = head * entered - legs.position_margin + fee_fixed
    slope = head - fee_rate

    by_mark = np.full(len(head), np.nan)
    for rate, amount in zip(tiers.rate, tiers.amount, strict=True):
        root = (lacking - amount[legs.table]) / (slope - rate[legs.table])
        # A table is a maximum of requirements: the first tier to bind on the way down, or up.
        by_mark = np.where(head > 0, np.fmax(by_mark, root), np.fmin(by_mark, root))

    fixed = tiered_maintenance(tiers, legs.table, entered)
    by_entry = (lacking + fixed) / slope
    return _price(np.where(legs.is_entry_basis, by_entry, by_mark) / legs.size, legs.is_inverse)


def _bankruptcy_coordinate(legs: Legs) -> Floats:
    entered = coordinate(legs.entry_price, legs.is_inverse)
    return entered - heading(legs.direction, legs.is_inverse) * legs.position_margin / legs.size


def _price(coordinates: Floats, is_inverse: Bools) -> Floats:
    exists = coordinates > _NEAREST_TO_ZERO
    prices = coordinate(np.where(exists, coordinates, 1.0), is_inverse)
    return np.where(exists, prices, np.nan)
