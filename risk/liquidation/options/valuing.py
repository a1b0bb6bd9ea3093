"""Compiled valuing: each contract along each path, once, however many positions hold it."""

from __future__ import annotations

import math

import numpy as np

from risk.compiled import njit
from risk.contracts.options import value_of
from risk.liquidation.options.columns import Contracts, Moves, Valued

#: Implied volatilities of longer options move less than the 30-day one: by the root of the ratio.
_INDEX_YEARS = 30.0 / 365.0


@njit(inline="always")
def value_at(c: Contracts, k: int, ratio: float, log_volatility: float, elapsed: float) -> float:
    """Value of one unit of contract `k`, settle currency, `elapsed` years after the snapshot.

    From its expiry on the payoff at that price ratio.
    """
    price = c.index_price[k] * ratio
    left = c.years[k] - elapsed
    if left <= 0.0:
        return value_of(price, c.strike[k], 0.0, c.is_call[k], c.is_inverse[k])
    forward = price * math.exp(c.carry[k] * left / c.years[k])
    damped = log_volatility * min(1.0, math.sqrt(_INDEX_YEARS / c.years[k]))
    deviation = c.volatility[k] * math.exp(damped) * math.sqrt(left)
    value = value_of(forward, c.strike[k], deviation, c.is_call[k], c.is_inverse[k])
    return max(value + c.offset[k], 0.0)


@njit(inline="always")
def requirement(c: Contracts, k: int, mark: float, ratio: float) -> float:
    """What one written unit of an option that lives on must be backed with, settle currency."""
    unit = 1.0 if c.is_inverse[k] else c.index_price[k] * ratio
    return mark + max(c.base_rate[k] * unit, c.mark_rate[k] * mark) + c.trigger_fee[k] * unit


@njit
def _most(c: Contracts, k: int, lowest: float, highest: float, log_volatility: float) -> float:
    """No requirement is above this while the ratio and the volatility stay below these."""
    swing = math.exp(abs(c.carry[k]))
    price = c.index_price[k] * (highest * swing if c.is_call[k] else lowest / swing)
    damped = max(log_volatility, 0.0) * min(1.0, math.sqrt(_INDEX_YEARS / c.years[k]))
    deviation = c.volatility[k] * math.exp(damped) * math.sqrt(c.years[k])
    mark = value_of(price, c.strike[k], deviation, c.is_call[k], c.is_inverse[k])
    # Upwards by more than rounding can take away.
    return requirement(c, k, mark + max(c.offset[k], 0.0), highest) * (1.0 + 1e-9)


@njit
def value_contracts(c: Contracts, moves: Moves) -> Valued:
    """Value every contract in every scenario.

    A contract is valued at all steps only in scenarios whose extremes could take its requirement
    to somebody's backing; in the others at the horizon alone.
    """
    n_contracts = len(c.asset)
    n_steps, n = moves.path.shape[1], moves.path.shape[2]
    n_rows = moves.path.shape[0]
    value, last = np.empty((n_contracts, n)), np.empty((n_contracts, n))
    lowest, highest = np.empty((n_rows, n)), np.empty((n_rows, n))
    wildest = np.empty((n_rows, n))
    for a in range(n_rows):
        lowest[a], highest[a] = moves.path[a, 0], moves.path[a, 0]
        wildest[a] = moves.log_volatility[a, 0]
        for step in range(1, n_steps):
            for i in range(n):
                lowest[a, i] = min(lowest[a, i], moves.path[a, step, i])
                highest[a, i] = max(highest[a, i], moves.path[a, step, i])
                wildest[a, i] = max(wildest[a, i], moves.log_volatility[a, step, i])
    start = np.zeros(n_contracts + 1, np.int64)
    size = 1024
    scenario, stairs = np.empty(size, np.int64), np.empty((3, size))
    count = 0
    for k in range(n_contracts):
        a = moves.place[c.asset[k]]
        settled = n_steps - 1
        for step in range(n_steps - 1, -1, -1):
            if moves.elapsed[step] >= c.years[k]:
                settled = step
        for i in range(n):
            end = moves.path[a, settled, i]
            known = moves.log_volatility[a, settled, i]
            value[k, i] = value_at(c, k, end, known, moves.elapsed[settled])
            last[k, i] = moves.path[a, n_steps - 1, i]
            most = _most(c, k, lowest[a, i], highest[a, i], wildest[a, i])
            if c.lowest[k] > most:
                continue
            reached = 0.0
            for step in range(settled + 1):
                ratio = moves.path[a, step, i]
                elapsed = moves.elapsed[step]
                mark = value_at(c, k, ratio, moves.log_volatility[a, step, i], elapsed)
                # A settled option asks for its payoff and nothing else.
                lives = elapsed < c.years[k]
                level = requirement(c, k, mark, ratio) if lives else mark
                if level < c.lowest[k] or level <= reached:
                    continue
                if count == size:
                    size *= 2
                    longer, wider = np.empty(size, np.int64), np.empty((3, size))
                    longer[:count], wider[:, :count] = scenario, stairs
                    scenario, stairs = longer, wider
                reached = level
                scenario[count] = i
                stairs[0, count], stairs[1, count], stairs[2, count] = level, mark, ratio
                count += 1
                if level >= c.highest[k]:
                    break
        start[k + 1] = count
    return Valued(
        value, last, start, scenario[:count].copy(),
        stairs[0, :count].copy(), stairs[1, :count].copy(), stairs[2, :count].copy(),
    )  # fmt: skip
