"""Account pools: positions that share collateral, and what the pool must hold at joint prices.

A pool is one account at one venue. Its legs are positions and coins held as collateral; amounts are
US dollars as functions of each asset's price ratio ``x`` to the mark. While a leg is open its value
is ``alpha + beta * x``; the test of a pool sums values (coins after their haircut) and compares
them with the summed requirements, every position by its own tiers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Pools(NamedTuple):
    """Pools, their legs sorted by pool, asset and row of the book, and the tier tables.

    A coin of collateral is a leg without notional; cash in dollars belongs to the pool.
    """

    start: np.ndarray  # (pool + 1,) into the legs
    cash: np.ndarray  # (pool,)
    is_strict: np.ndarray  # (pool,): equity equal to the requirement is safe
    to_holder: np.ndarray  # (pool,): who keeps what is left
    apart: np.ndarray  # (pool,): an isolated position by itself, and no account's pool
    row: np.ndarray  # (leg,) in the book; -1: collateral
    asset: np.ndarray
    driver: np.ndarray  # its instrument among the drivers, or its asset
    side: np.ndarray  # 0 long, 1 short
    inverse: np.ndarray  # settled in the asset, or the asset itself
    alpha: np.ndarray
    beta: np.ndarray
    counted: np.ndarray  # share of the value that the test counts, one less the haircut
    notional: np.ndarray  # at ratio 1; 0 for collateral
    unit: np.ndarray  # USD per unit of settle currency at ratio 1
    table: np.ndarray
    is_entry_basis: np.ndarray
    fixed: np.ndarray  # required whatever the notional: settle currency worth this at ratio 1
    test_fee: np.ndarray  # rate inside the test
    closing_fee: np.ndarray  # rate
    fee: np.ndarray  # liquidation fee, rate
    stop: np.ndarray  # adverse coordinate; inf: none
    share: np.ndarray  # of the pool's notional; 0 for collateral
    n_tiers: np.ndarray  # (table,)
    floor: np.ndarray  # (table, tier), settle currency
    rate: np.ndarray
    amount: np.ndarray

    @property
    def n_pools(self) -> int:
        """Number of pools."""
        return len(self.start) - 1
