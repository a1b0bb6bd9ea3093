"""Maintenance tiers of many contracts at once.

With the maintenance amounts that make it continuous, the requirement of a tier table is
``max over tiers of (rate * notional - amount)``: convex and piecewise linear, so no tier has to be
looked up. Above the last tier's cap its line simply goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from risk.schema import TIERS, conform

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TierTables:
    """Tier tables side by side; a short table repeats its last tier, which changes no maximum.

    Attributes
    ----------
    table_of : mapping of (venue, symbol) to int
        Column of each table.
    floor, rate, amount, max_leverage : ndarray (tier, table)
        Lower bound (settle currency), maintenance rate, maintenance amount (settle currency) and
        largest leverage.
    """

    table_of: Mapping[tuple[str, str], int]
    floor: Floats
    rate: Floats
    amount: Floats
    max_leverage: Floats

    @property
    def n_tiers(self) -> int:
        """Length of the longest table."""
        return self.rate.shape[0]

    def largest_rate(self, table: int) -> float:
        """Highest maintenance rate of one table."""
        return float(self.rate[:, table].max())


def build_tier_tables(tiers: pa.Table) -> TierTables:
    """Lay the tier tables of a snapshot side by side.

    Parameters
    ----------
    tiers : pa.Table
        Schema TIERS, any order.

    Returns
    -------
    TierTables
        One column per (venue, symbol).
    """
    tiers = conform(tiers, TIERS, "tiers").sort_by(
        [("venue", "ascending"), ("symbol", "ascending"), ("tier", "ascending")]
    )
    names = list(zip(tiers["venue"].to_pylist(), tiers["symbol"].to_pylist(), strict=True))
    table_of = {name: i for i, name in enumerate(dict.fromkeys(names))}
    table = np.array([table_of[name] for name in names], dtype=np.int64)
    count = np.bincount(table, minlength=len(table_of))
    start = np.concatenate(([0], np.cumsum(count)[:-1])).astype(np.int64)
    step = np.arange(count.max(initial=1))[:, None]
    source = start[: len(table_of)] + np.minimum(step, count - 1)

    def column(name: str) -> Floats:
        return tiers[name].to_numpy()[source]

    return TierTables(
        table_of,
        column("min_notional"),
        column("maintenance_margin_rate"),
        column("maintenance_amount"),
        column("max_leverage"),
    )


def tiered_maintenance(tiers: TierTables, table: NDArray[np.int64], notional: Floats) -> Floats:
    """Maintenance margin of a notional under a tier table.

    Parameters
    ----------
    tiers : TierTables
        The tables.
    table : ndarray of int (n,)
        Which table each position is under.
    notional : ndarray (n,)
        Settle currency; beyond the last tier's cap the last tier holds.

    Returns
    -------
    ndarray (n,)
        Settle currency, without any closing fee.

    References
    ----------
    .. [1] Binance, "How to Calculate Liquidation Price of COIN-M Futures Contracts": recursion of
       the maintenance amount that makes the requirement continuous.
    """
    required = tiers.rate[0][table] * notional - tiers.amount[0][table]
    for rate, amount in zip(tiers.rate[1:], tiers.amount[1:], strict=True):
        np.maximum(required, rate[table] * notional - amount[table], out=required)
    return required


def tier_max_leverage(tiers: TierTables, table: NDArray[np.int64], notional: Floats) -> Floats:
    """Largest leverage of the tier a notional falls in: floor <= notional, the last beyond all."""
    leverage = tiers.max_leverage[0][table]
    for floor, largest in zip(tiers.floor[1:], tiers.max_leverage[1:], strict=True):
        leverage = np.where(notional >= floor[table], largest[table], leverage)
    return leverage
