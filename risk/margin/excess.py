"""One pool at a time: what it is worth, what it requires, and where a straight line breaches it.

Requirements are convex in the price, so what a pool has left over them is concave along every
straight line between joint prices. The columns of all legs lie side by side in one array: a leg is
two lines of the processor's cache, and few arrays are cheap to hand from loop to loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.margin.pools import Pools

# Columns of `legs`.
(
    ALPHA, BETA, COUNTED, SIZE, UNIT, FIXED, TEST_FEE, CLOSING_FEE, FEE, STOP, SHARE,
) = range(11)  # fmt: skip
_AMOUNTS = (
    "alpha", "beta", "counted", "notional", "unit", "fixed", "test_fee", "closing_fee", "fee",
    "stop", "share",
)  # fmt: skip
# Columns of `kinds`.
ROW, ASSET, SIDE, INVERSE, TABLE, ENTRY_BASIS = range(6)
_KINDS = ("row", "asset", "side", "inverse", "table", "is_entry_basis")
# Columns of `pool`.
CASH, STRICT, TO_HOLDER = range(3)
# Columns of `tiers`.
FLOOR, RATE, AMOUNT = range(3)
# Columns of a leg's state.
NOW_ALPHA, NOW_BETA, IS_OPEN, PAID, CLOSED = range(5)
# Rows of the places.
HERE, THERE, COIN, IS_LOW = range(4)


class Packed(NamedTuple):
    """The columns of `Pools`, side by side."""

    start: np.ndarray  # (pool + 1,)
    pool: np.ndarray  # (pool, column)
    legs: np.ndarray  # (leg, column)
    kinds: np.ndarray  # (leg, column)
    tiers: np.ndarray  # (table, tier, column)


def pack(pools: Pools) -> Packed:
    """Lay the columns out for the loops; a short tier table repeats its last tier."""
    tier = np.minimum(np.arange(pools.floor.shape[1]), pools.n_tiers[:, None] - 1)
    tables = [
        np.take_along_axis(part, tier, axis=1) for part in (pools.floor, pools.rate, pools.amount)
    ]
    return Packed(
        pools.start,
        np.stack([pools.cash, pools.is_strict, pools.to_holder], axis=1).astype("f8"),
        np.stack([getattr(pools, name) for name in _AMOUNTS], axis=1).astype("f8"),
        np.stack([getattr(pools, name) for name in _KINDS], axis=1).astype("i8"),
        np.stack(tables, axis=2),
    )


class State(NamedTuple):
    """What has become of the legs of one pool, and where its assets are now."""

    legs: np.ndarray  # (largest number of legs, column)
    places: np.ndarray  # (here, there, coin or is low, asset); coin is zero between uses


def new_state(pools: Packed, n_assets: int) -> State:
    """Room for one pool at a time."""
    most = int(np.diff(pools.start).max(initial=1))
    return State(np.zeros((most, 5)), np.zeros((4, n_assets)))


@njit
def open_pool(pools: Packed, k: int, state: State) -> None:
    """Begin pool `k` at the mark."""
    legs, kinds, now, here = pools.legs, pools.kinds, state.legs, state.places[HERE]
    first = pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j = i - first
        now[j, NOW_ALPHA], now[j, NOW_BETA] = legs[i, ALPHA], legs[i, BETA]
        now[j, IS_OPEN] = 1.0 if legs[i, SIZE] > 0.0 else 0.0
        now[j, PAID] = now[j, CLOSED] = 0.0
        here[kinds[i, ASSET]] = 1.0


@njit
def along(here: float, there: float, t: float) -> float:
    """Point of a straight line; its end exactly."""
    return there if t >= 1.0 else here + t * (there - here)


@njit
def requirement(
    legs: np.ndarray, kinds: np.ndarray, tiers: np.ndarray, i: int, x: float
) -> tuple[float, float]:
    """What position `i` requires at ratio `x`, and how that changes with `x`; USD."""
    notional, fixed, fee = legs[i, SIZE], legs[i, FIXED], legs[i, TEST_FEE]
    inverse = kinds[i, INVERSE] != 0
    scale = x if inverse else 1.0
    size = notional if inverse else notional * x
    need = fixed * scale + fee * size
    slope = fixed if inverse else fee * notional
    if kinds[i, ENTRY_BASIS] == 0:
        table, unit = kinds[i, TABLE], legs[i, UNIT]
        value = size / (scale * unit)
        tier = 0
        while tier + 1 < tiers.shape[1] and value > tiers[table, tier + 1, FLOOR]:
            tier += 1
        rate, amount = tiers[table, tier, RATE], tiers[table, tier, AMOUNT] * unit
        need += rate * size - amount * scale
        slope += -amount if inverse else rate * notional
    return need, slope


@njit
def excess(pools: Packed, k: int, state: State, there: np.ndarray, t: float) -> tuple[float, float]:
    """Counted equity of pool `k` over its requirement, and its change along the line; USD."""
    legs, kinds, tiers = pools.legs, pools.kinds, pools.tiers
    now, here = state.legs, state.places[HERE]
    total, slope, first = pools.pool[k, CASH], 0.0, pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j, a = i - first, kinds[i, ASSET]
        x, way = along(here[a], there[a], t), there[a] - here[a]
        total += legs[i, COUNTED] * (now[j, NOW_ALPHA] + now[j, NOW_BETA] * x)
        slope += legs[i, COUNTED] * now[j, NOW_BETA] * way
        if now[j, IS_OPEN] != 0.0:
            need, change = requirement(legs, kinds, tiers, i, x)
            total -= need
            slope -= change * way
    return total, slope


@njit
def is_breached(pools: Packed, k: int, left: float) -> bool:
    """Whether this much over the requirement liquidates."""
    return left < 0.0 or (left == 0.0 and pools.pool[k, STRICT] == 0.0)


@njit
def find_breach(
    pools: Packed, k: int, state: State, there: np.ndarray, begin: float, end: float
) -> float:
    """Where on the line the pool is first breached, given that it is at `end`.

    Newton's steps on a concave function come from the far side and never pass the root; between
    two tiers it is a straight line, so they end.
    """
    t = end
    for _ in range(200):
        left, slope = excess(pools, k, state, there, t)
        if left >= 0.0 or slope >= 0.0:
            break
        nearer = t - left / slope
        if nearer >= t:
            break
        t = max(nearer, begin)
    return t


@njit
def _beside(pools: Packed, k: int, asset: int, x: float) -> tuple[float, float]:
    """Excess of pool `k` with one asset at `x`, all others at the mark, and its slope; USD."""
    legs, kinds, tiers = pools.legs, pools.kinds, pools.tiers
    total, slope = pools.pool[k, CASH], 0.0
    for i in range(pools.start[k], pools.start[k + 1]):
        at = x if kinds[i, ASSET] == asset else 1.0
        total += legs[i, COUNTED] * (legs[i, ALPHA] + legs[i, BETA] * at)
        need, change = requirement(legs, kinds, tiers, i, at) if legs[i, SIZE] > 0.0 else (0.0, 0.0)
        total -= need
        if kinds[i, ASSET] == asset:
            slope += legs[i, COUNTED] * legs[i, BETA] - change
    return total, slope


@njit
def _leaves(pools: Packed, k: int, asset: int, x: float, way: float) -> float:
    """First ratio from `x` on, up if `way` is 1, down if -1, with something left over; or NaN.

    Newton's steps from where a concave function is negative never pass its root.
    """
    for _ in range(200):
        left, slope = _beside(pools, k, asset, x)
        if left >= 0.0:
            return x
        if slope * way <= 0.0:
            return np.nan
        nearer = x - left / slope
        if nearer == x or nearer <= 0.0:
            return x if nearer == x else np.nan
        x = nearer
    return x


#: Ratios beyond which no trigger is looked for.
NEAREST_TO_ZERO, FARTHEST = 1e-6, 1e6


@njit
def find_triggers(pools: Packed, trigger: np.ndarray, bankrupt: np.ndarray) -> None:
    """Where one asset alone brings its pool to the trigger and to a worth of zero (leg,).

    All other assets stay at the mark. A pool with something left over has a trigger below, above,
    on both sides (the nearer one is taken) or on none (NaN); for one without, it is the price that
    would heal it.
    """
    legs, kinds = pools.legs, pools.kinds
    for k in range(len(pools.start) - 1):
        first, end = pools.start[k], pools.start[k + 1]
        worth = pools.pool[k, CASH]
        for i in range(first, end):
            worth += legs[i, ALPHA] + legs[i, BETA]
        i = first
        while i < end:
            asset, begin, exposure = kinds[i, ASSET], i, 0.0
            while i < end and kinds[i, ASSET] == asset:
                exposure += legs[i, BETA]
                i += 1
            left, slope = _beside(pools, k, asset, 1.0)
            if left > 0.0:
                down, up = np.nan, np.nan
                if _beside(pools, k, asset, NEAREST_TO_ZERO)[0] < 0.0:
                    down = _leaves(pools, k, asset, NEAREST_TO_ZERO, 1.0)
                if _beside(pools, k, asset, FARTHEST)[0] < 0.0:
                    up = _leaves(pools, k, asset, FARTHEST, -1.0)
                at = up if np.isnan(down) or up - 1.0 < 1.0 - down else down
            else:
                at = _leaves(pools, k, asset, 1.0, 1.0 if slope > 0.0 else -1.0)
            zero = 1.0 - worth / exposure if exposure != 0.0 else np.nan
            trigger[begin:i] = at
            bankrupt[begin:i] = zero if zero > 0.0 else np.nan


def pool_figures(pools: Pools) -> dict[str, np.ndarray]:
    """What the margin table says of pools at the mark.

    Returns
    -------
    dict
        `equity` (pool,), USD, other collateral after its haircut; `required` (pool,), USD, a
        closing fee in the trigger included; `is_liquidatable` (pool,); `trigger` and `bankrupt`
        (leg,), price ratios of the leg's asset with all others at the mark, NaN for none.
    """
    packed = pack(pools)
    state = new_state(packed, int(pools.asset.max(initial=0)) + 1)
    pool = np.repeat(np.arange(pools.n_pools), np.diff(pools.start))
    value = pools.counted * (pools.alpha + pools.beta)
    equity = pools.cash + np.bincount(pool, value, pools.n_pools)
    left = np.empty(pools.n_pools)
    _measure(packed, state, left)
    trigger, bankrupt = np.empty(len(pools.row)), np.empty(len(pools.row))
    find_triggers(packed, trigger, bankrupt)
    return {
        "equity": equity,
        "required": equity - left,
        "is_liquidatable": np.where(pools.is_strict, left < 0.0, left <= 0.0),
        "trigger": trigger,
        "bankrupt": bankrupt,
    }


@njit
def _measure(pools: Packed, state: State, left: np.ndarray) -> None:
    for k in range(len(left)):
        open_pool(pools, k, state)
        left[k] = excess(pools, k, state, state.places[HERE], 1.0)[0]
