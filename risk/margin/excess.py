"""One pool at a time: what it is worth, what it requires, and where a straight line breaches it.

Requirements are convex in the price, so what a pool has left over them is concave along every
straight line between joint prices. Where instruments move apart from their asset
(`risk.drivers.JointPaths`), a line is one in what every leg is worth and how large it is. The
columns of all legs lie side by side in one array: a leg is two lines of the processor's cache, and
few arrays are cheap to hand from loop to loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.instruments import FLOOR as LEAST_RATIO
from risk.instruments import LEAST
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
ROW, ASSET, SIDE, INVERSE, TABLE, ENTRY_BASIS, DRIVER = range(7)
_KINDS = ("row", "asset", "side", "inverse", "table", "is_entry_basis", "driver")
# Columns of `pool`.
CASH, STRICT, TO_HOLDER, APART = range(4)
# Columns of `tiers`.
FLOOR, RATE, AMOUNT = range(3)
# Columns of a leg's state: what it is, and here and there what its alpha, beta and size are
# multiplied with, and its mark; what it leaves over its requirement at the low and high of a frame.
(
    NOW_ALPHA, NOW_BETA, IS_OPEN, PAID, CLOSED, HERE_ALPHA, HERE_BETA, HERE_SIZE, HERE_MARK,
    THERE_ALPHA, THERE_BETA, THERE_SIZE, THERE_MARK, LEFT_LOW, LEFT_HIGH,
) = range(15)  # fmt: skip
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
        np.stack([pools.cash, pools.is_strict, pools.to_holder, pools.apart], axis=1).astype("f8"),
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
    return State(np.zeros((most, LEFT_HIGH + 1)), np.zeros((4, n_assets)))


@njit
def open_pool(pools: Packed, k: int, state: State) -> None:
    """Begin pool `k` at the mark, and go nowhere yet."""
    legs, kinds, now, here = pools.legs, pools.kinds, state.legs, state.places[HERE]
    first = pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j = i - first
        now[j, NOW_ALPHA], now[j, NOW_BETA] = legs[i, ALPHA], legs[i, BETA]
        now[j, IS_OPEN] = 1.0 if legs[i, SIZE] > 0.0 else 0.0
        now[j, PAID] = now[j, CLOSED] = 0.0
        for column in range(HERE_ALPHA, LEFT_LOW):
            now[j, column] = 1.0
        here[kinds[i, ASSET]] = state.places[THERE, kinds[i, ASSET]] = 1.0


@njit(inline="always")
def along(here: float, there: float, t: float) -> float:
    """Point of a straight line; its end exactly."""
    return there if t >= 1.0 else here + t * (there - here)


@njit(inline="always")
def coordinates(
    kinds: np.ndarray, i: int, x: float, ride: np.ndarray, at: int, s: int, n_assets: int
) -> tuple[float, float, float, float]:
    """Leg `i` where its asset is at ratio `x`, in state `at` of its instrument.

    Returns
    -------
    alpha, beta, size : float
        It is worth ``ALPHA * alpha + BETA * beta`` and its size is ``SIZE * size``; coins are worth
        what the asset says, a contract what its own mark says, less funding paid.
    mark : float
        Ratio of its own mark, which its stop looks at.
    """
    inverse = kinds[i, INVERSE] != 0
    if kinds[i, DRIVER] == kinds[i, ASSET]:
        return 1.0, x, 1.0 if inverse else x, x
    r = kinds[i, DRIVER] - n_assets
    factor, paid, owed = ride[at, s, r, 0], ride[at, s, r, 1], ride[at, s, r, 2]
    mark = factor * x
    if inverse:
        share = 1.0 + owed * x
        return (share if share > LEAST else LEAST) / factor, x, 1.0 / factor, mark
    y = mark - paid
    return 1.0, y if y > LEAST_RATIO else LEAST_RATIO, mark, mark


@njit(inline="always")
def aim_leg(
    kinds: np.ndarray, i: int, now: np.ndarray, j: int, places: np.ndarray, x: float,
    ride: np.ndarray, at: int, s: int,
) -> None:  # fmt: skip
    """Say where leg `i` goes: its asset to `x`, its instrument to state `at` of scenario `s`."""
    a, b, q, m = coordinates(kinds, i, x, ride, at, s, places.shape[1])
    now[j, THERE_ALPHA], now[j, THERE_BETA], now[j, THERE_SIZE], now[j, THERE_MARK] = a, b, q, m
    places[THERE, kinds[i, ASSET]] = x


@njit
def aim(
    pools: Packed, k: int, state: State, x: np.ndarray, ride: np.ndarray, at: int, s: int
) -> None:  # fmt: skip
    """Say where all legs of pool `k` go; `x` (asset,)."""
    kinds, now, places, first = pools.kinds, state.legs, state.places, pools.start[k]
    for i in range(first, pools.start[k + 1]):
        aim_leg(kinds, i, now, i - first, places, x[kinds[i, ASSET]], ride, at, s)


@njit
def arrive(pools: Packed, k: int, state: State) -> None:
    """Be where pool `k` was going."""
    kinds, now, first = pools.kinds, state.legs, pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j = i - first
        for column in range(HERE_ALPHA, THERE_ALPHA):
            now[j, column] = now[j, column + THERE_ALPHA - HERE_ALPHA]
        state.places[HERE, kinds[i, ASSET]] = state.places[THERE, kinds[i, ASSET]]


@njit(inline="always")
def worth(now: np.ndarray, j: int, t: float) -> float:
    """Value of a leg on its way, USD."""
    alpha = along(now[j, HERE_ALPHA], now[j, THERE_ALPHA], t)
    beta = along(now[j, HERE_BETA], now[j, THERE_BETA], t)
    return now[j, NOW_ALPHA] * alpha + now[j, NOW_BETA] * beta


@njit
def requirement(
    legs: np.ndarray, kinds: np.ndarray, tiers: np.ndarray, i: int, x: float
) -> tuple[float, float]:
    """What position `i` requires at ratio `x`, and how that changes with `x`; USD."""
    if kinds[i, INVERSE] != 0:
        need, _, slope = requirement_of(legs, kinds, tiers, i, 1.0, x)
        return need, slope
    need, slope, _ = requirement_of(legs, kinds, tiers, i, x, x)
    return need, slope


@njit(inline="always")
def requirement_of(
    legs: np.ndarray, kinds: np.ndarray, tiers: np.ndarray, i: int, q: float, coin: float
) -> tuple[float, float, float]:
    """What position `i` requires at `q` times its size, `coin` the ratio of a settled coin; USD.

    And how that changes with the two. It is convex in both together.
    """
    notional, fixed, fee = legs[i, SIZE], legs[i, FIXED], legs[i, TEST_FEE]
    inverse = kinds[i, INVERSE] != 0
    scale = coin if inverse else 1.0
    size = notional * q
    need = fixed * scale + fee * size
    by_size, by_coin = fee * notional, fixed if inverse else 0.0
    if kinds[i, ENTRY_BASIS] == 0:
        table, unit = kinds[i, TABLE], legs[i, UNIT]
        value = size / (scale * unit)
        tier = 0
        while tier + 1 < tiers.shape[1] and value > tiers[table, tier + 1, FLOOR]:
            tier += 1
        rate, amount = tiers[table, tier, RATE], tiers[table, tier, AMOUNT] * unit
        need += rate * size - amount * scale
        by_size += rate * notional
        by_coin += -amount if inverse else 0.0
    return need, by_size, by_coin


@njit
def excess(pools: Packed, k: int, state: State, t: float) -> tuple[float, float]:
    """Counted equity of pool `k` over its requirement, and its change along the line; USD."""
    legs, kinds, tiers, now = pools.legs, pools.kinds, pools.tiers, state.legs
    total, slope, first = pools.pool[k, CASH], 0.0, pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j = i - first
        way = now[j, THERE_BETA] - now[j, HERE_BETA]
        turned = now[j, NOW_ALPHA] * (now[j, THERE_ALPHA] - now[j, HERE_ALPHA])
        total += legs[i, COUNTED] * worth(now, j, t)
        slope += legs[i, COUNTED] * now[j, NOW_BETA] * way + legs[i, COUNTED] * turned
        if now[j, IS_OPEN] != 0.0:
            coin = along(now[j, HERE_BETA], now[j, THERE_BETA], t)
            size = along(now[j, HERE_SIZE], now[j, THERE_SIZE], t)
            need, by_size, by_coin = requirement_of(legs, kinds, tiers, i, size, coin)
            total -= need
            slope -= by_size * (now[j, THERE_SIZE] - now[j, HERE_SIZE]) + by_coin * way
    return total, slope


@njit
def left_there(pools: Packed, k: int, state: State) -> float:
    """Counted equity of pool `k` over its requirement where it aims, USD: `excess` at 1."""
    legs, kinds, tiers, now = pools.legs, pools.kinds, pools.tiers, state.legs
    total, first = pools.pool[k, CASH], pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j = i - first
        beta, size = now[j, THERE_BETA], now[j, THERE_SIZE]
        total += legs[i, COUNTED] * (
            now[j, NOW_ALPHA] * now[j, THERE_ALPHA] + now[j, NOW_BETA] * beta
        )
        if now[j, IS_OPEN] != 0.0:
            need, _, _ = requirement_of(legs, kinds, tiers, i, size, beta)
            total -= need
    return total


@njit(inline="always")
def is_breached(pools: Packed, k: int, left: float) -> bool:
    """Whether this much over the requirement liquidates."""
    return left < 0.0 or (left == 0.0 and pools.pool[k, STRICT] == 0.0)


@njit
def find_breach(pools: Packed, k: int, state: State, begin: float, end: float) -> float:
    """Where on the line the pool is first breached, given that it is at `end`.

    Newton's steps on a concave function come from the far side and never pass the root; between
    two tiers it is a straight line, so they end.
    """
    t = end
    for _ in range(200):
        left, slope = excess(pools, k, state, t)
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
        left[k] = excess(pools, k, state, 1.0)[0]
