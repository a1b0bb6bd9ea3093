"""Account pools: positions that share collateral, and what the pool must hold at joint prices.

A pool is one account at one venue. Its legs are positions and coins held as collateral; amounts are
US dollars as functions of each asset's price ratio ``x`` to the mark. While a leg is open its value
is ``alpha + beta * x``; the test of a pool sums values (coins after their haircut) and compares
them with the summed requirements, every position by its own tiers. Requirements are convex in the
price, so what is left over them is concave along every straight line between joint prices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit


class Pools(NamedTuple):
    """Pools, their legs sorted by pool, asset and row of the book, and the tier tables.

    A coin of collateral is a leg without notional; cash in dollars belongs to the pool.
    """

    start: np.ndarray  # (pool + 1,) into the legs
    cash: np.ndarray  # (pool,)
    is_strict: np.ndarray  # (pool,): equity equal to the requirement is safe
    to_holder: np.ndarray  # (pool,): who keeps what is left
    row: np.ndarray  # (leg,) in the book; -1: collateral
    asset: np.ndarray
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


class State(NamedTuple):
    """What has become of the legs of one pool, and where its assets are now."""

    alpha: np.ndarray  # (largest number of legs,)
    beta: np.ndarray
    is_open: np.ndarray
    paid: np.ndarray  # market costs
    closed: np.ndarray  # notional liquidated
    here: np.ndarray  # (asset,)
    there: np.ndarray  # (asset,)
    coin: np.ndarray  # (asset,), zero between uses


def new_state(pools: Pools, n_assets: int) -> State:
    """Room for one pool at a time."""
    most = int(np.diff(pools.start).max(initial=1))
    flags = np.zeros(most, bool)
    columns = [np.zeros(most) for _ in range(4)]
    places = [np.zeros(n_assets) for _ in range(3)]
    return State(columns[0], columns[1], flags, columns[2], columns[3], *places)


@njit(cache=True, nogil=True)
def open_pool(pools: Pools, k: int, state: State) -> None:
    """Begin pool `k` at the mark."""
    first = pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j = i - first
        state.alpha[j], state.beta[j] = pools.alpha[i], pools.beta[i]
        state.is_open[j] = pools.notional[i] > 0.0
        state.paid[j] = state.closed[j] = 0.0
        state.here[pools.asset[i]] = 1.0


@njit(cache=True, nogil=True, inline="always")
def along(here: float, there: float, t: float) -> float:
    """Point of a straight line; its end exactly."""
    return there if t >= 1.0 else here + t * (there - here)


@njit(cache=True, nogil=True)
def requirement(pools: Pools, i: int, x: float) -> tuple[float, float]:
    """What position `i` requires at ratio `x`, and how that changes with `x`; USD."""
    inverse, notional = pools.inverse[i], pools.notional[i]
    scale, size = (x, notional) if inverse else (1.0, notional * x)
    need = pools.fixed[i] * scale + pools.test_fee[i] * size
    slope = pools.fixed[i] if inverse else pools.test_fee[i] * notional
    if not pools.is_entry_basis[i]:
        table, unit = pools.table[i], pools.unit[i]
        value = size / (scale * unit)
        tier = 0
        while tier + 1 < pools.n_tiers[table] and value > pools.floor[table, tier + 1]:
            tier += 1
        rate, amount = pools.rate[table, tier], pools.amount[table, tier]
        need += rate * size - amount * unit * scale
        slope += -amount * unit if inverse else rate * notional
    return need, slope


@njit(cache=True, nogil=True)
def excess(
    pools: Pools, k: int, state: State, here: np.ndarray, there: np.ndarray, t: float
) -> tuple[float, float]:
    """Counted equity of pool `k` over its requirement, and its change along the line; USD."""
    total, slope, first = pools.cash[k], 0.0, pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j, a = i - first, pools.asset[i]
        x, way = along(here[a], there[a], t), there[a] - here[a]
        total += pools.counted[i] * (state.alpha[j] + state.beta[j] * x)
        slope += pools.counted[i] * state.beta[j] * way
        if state.is_open[j]:
            need, change = requirement(pools, i, x)
            total -= need
            slope -= change * way
    return total, slope


@njit(cache=True, nogil=True, inline="always")
def is_breached(pools: Pools, k: int, left: float) -> bool:
    """Whether this much over the requirement liquidates."""
    return left < 0.0 or (left == 0.0 and not pools.is_strict[k])


@njit(cache=True, nogil=True)
def find_breach(
    pools: Pools, k: int, state: State, here: np.ndarray, there: np.ndarray, begin: float,
    end: float,
) -> float:  # fmt: skip
    """Where on the line the pool is first breached, given that it is at `end`.

    Newton's steps on a concave function come from the far side and never pass the root; between
    two tiers it is a straight line, so they end.
    """
    t = end
    for _ in range(200):
        left, slope = excess(pools, k, state, here, there, t)
        if left >= 0.0 or slope >= 0.0:
            break
        nearer = t - left / slope
        if nearer >= t:
            break
        t = max(nearer, begin)
    return t
