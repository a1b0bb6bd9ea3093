"""What closing brings: a pool that is liquidated, a stop that fires, an instrument that ends."""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.drivers import JointPaths
from risk.liquidation.columns import LIQUIDATED, STOPPED
from risk.margin.excess import (
    ALPHA,
    ASSET,
    BETA,
    CASH,
    CLOSED,
    CLOSING_FEE,
    COIN,
    COUNTED,
    DRIVER,
    FEE,
    HERE,
    HERE_ALPHA,
    HERE_BETA,
    HERE_SIZE,
    INVERSE,
    IS_OPEN,
    NOW_ALPHA,
    NOW_BETA,
    PAID,
    ROW,
    SHARE,
    SIZE,
    STOP,
    THERE,
    THERE_ALPHA,
    THERE_BETA,
    THERE_SIZE,
    TO_HOLDER,
    Packed,
    State,
    along,
    worth,
)

# Columns of `out` (leg, column): USD; the P&L at the horizon.
PNL, VENUE, DEFICIT, COST, NOTIONAL = range(5)


@njit
def close_pool(
    pools: Packed, k: int, state: State, t: float, last: np.ndarray, out: np.ndarray,
    status: np.ndarray,
) -> None:  # fmt: skip
    """Liquidate everything that is open, and settle the pool.

    Market costs come first, then the venue's fee, which never makes a deficit, then the holder or
    the fund; a fund takes no more than the test counted. What the holder keeps stays in the
    currencies it lies in, and moves with them.
    """
    legs, kinds, now, coin = pools.legs, pools.kinds, state.legs, state.places[COIN]
    first, end = pools.start[k], pools.start[k + 1]
    here, there = state.places[HERE], state.places[THERE]
    total, counted, fees = pools.pool[k, CASH], pools.pool[k, CASH], 0.0
    dollars = pools.pool[k, CASH]
    for i in range(first, end):
        j, a = i - first, kinds[i, ASSET]
        value = worth(now, j, t)
        cost = 0.0
        if now[j, IS_OPEN] != 0.0:
            size = legs[i, SIZE] * along(now[j, HERE_SIZE], now[j, THERE_SIZE], t)
            cost = legs[i, CLOSING_FEE] * size
            fees += legs[i, FEE] * size
            now[j, PAID] += cost
            now[j, CLOSED] = size
            status[i] = LIQUIDATED
        total += value - cost
        counted += legs[i, COUNTED] * value - cost
        if kinds[i, INVERSE] != 0:
            coin[a] += value - cost
        else:
            dollars += value - cost
    short, venue = max(-total, 0.0), 0.0
    if total > 0.0:
        is_returned = pools.pool[k, TO_HOLDER] != 0.0
        venue = min(fees if is_returned else max(counted, 0.0), total)
    kept, base = max(dollars, 0.0), max(dollars, 0.0)
    for i in range(first, end):
        a = kinds[i, ASSET]
        if coin[a] > 0.0:
            base += coin[a]
            kept += coin[a] * (last[a] / along(here[a], there[a], t))
        coin[a] = 0.0
    left = max(total, 0.0) - venue
    final = left * (kept / base) if base > 0.0 else 0.0
    share_out(pools, k, state, t, final, venue, short, out)


@njit
def share_out(
    pools: Packed, k: int, state: State, t: float, final: float, venue: float, short: float,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Give every position its own gain and its share of what belongs to the whole pool."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    first, end = pools.start[k], pools.start[k + 1]
    rest = final - pools.pool[k, CASH]
    for i in range(first, end):
        j = i - first
        begun = legs[i, ALPHA] + legs[i, BETA]
        rest -= begun
        if kinds[i, ROW] < 0:
            continue
        own = worth(now, j, t) - begun
        own -= now[j, PAID] if now[j, CLOSED] > 0.0 else 0.0
        out[i, PNL] = own
        rest -= own
        out[i, COST], out[i, NOTIONAL] = now[j, PAID], now[j, CLOSED]
    for i in range(first, end):
        if kinds[i, ROW] >= 0:
            out[i, PNL] += legs[i, SHARE] * rest
            out[i, VENUE] = legs[i, SHARE] * venue
            out[i, DEFICIT] = legs[i, SHARE] * short


@njit
def fire_stop(
    pools: Packed, k: int, state: State, i: int, t: float, has_landed: bool, status: np.ndarray
) -> None:  # fmt: skip
    """Close position `i` by its stop; what it is worth stays in the pool."""
    legs, kinds, now = pools.legs, pools.kinds, state.legs
    j, inverse = i - pools.start[k], kinds[i, INVERSE] != 0
    beta = along(now[j, HERE_BETA], now[j, THERE_BETA], t)
    size = along(now[j, HERE_SIZE], now[j, THERE_SIZE], t)
    if not has_landed:  # its mark is at the stop to the last digit
        level = abs(legs[i, STOP])
        if not inverse:
            beta = level - along(
                now[j, HERE_SIZE] - now[j, HERE_BETA], now[j, THERE_SIZE] - now[j, THERE_BETA], t
            )
            size = level
        elif now[j, HERE_SIZE] == 1.0 and now[j, THERE_SIZE] == 1.0:
            beta = level
    alpha = along(now[j, HERE_ALPHA], now[j, THERE_ALPHA], t)
    cost = legs[i, CLOSING_FEE] * legs[i, SIZE] * size
    _realise(pools, i, j, state, now[j, NOW_ALPHA] * alpha + now[j, NOW_BETA] * beta - cost, beta)
    now[j, PAID], status[i] = cost, STOPPED


@njit
def _realise(pools: Packed, i: int, j: int, state: State, value: float, coin: float) -> None:
    """Turn position `i` into what it is worth, in dollars or in coin at this ratio."""
    now, inverse = state.legs, pools.kinds[i, INVERSE] != 0
    now[j, NOW_ALPHA] = 0.0 if inverse else value
    now[j, NOW_BETA] = value / coin if inverse else 0.0
    now[j, IS_OPEN] = 0.0


@njit
def settle_ended(pools: Packed, k: int, state: State, paths: JointPaths, f: int) -> None:
    """Settle the positions whose instrument ends with frame `f`, where they are."""
    kinds, now, first = pools.kinds, state.legs, pools.start[k]
    for i in range(first, pools.start[k + 1]):
        j, r = i - first, kinds[i, DRIVER] - paths.low.shape[2]
        if r >= 0 and now[j, IS_OPEN] != 0.0 and paths.ride_end[r] == f:
            _realise(pools, i, j, state, worth(now, j, 0.0), now[j, HERE_BETA])
