"""How often, and by how much, a position's collateral did not cover its loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.compiled import njit
from risk.liquidation.cascade import stay_moved
from risk.liquidation.closing import close_out
from risk.liquidation.columns import Gaps, Terms
from risk.liquidation.impact import Impact
from risk.liquidation.steps import live_through
from risk.liquidation.terms import close_out_terms
from risk.liquidation.walk import adverse_extremes, group_gaps


@dataclass(frozen=True)
class Uncovered:
    """Losses beyond the collateral, by scenario.

    Attributes
    ----------
    n_positions : int
        Priced positions, each observed once in every scenario.
    count : ndarray of int (scenario,)
        Positions with a deficit.
    total, worst : ndarray (scenario,)
        Sum of the deficits, and the largest of one position, USD.
    """

    n_positions: int
    count: np.ndarray
    total: np.ndarray
    worst: np.ndarray


def uncovered_losses(
    book: pa.Table, drivers: xr.Dataset, impact: Impact | None = None
) -> Uncovered:
    """Count the positions whose loss ran past their collateral, scenario by scenario.

    The closing rule is that of `position_outcomes`. Most positions have something left at their
    trigger, so that only jumps matter: the cost is one pass over them for each position.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    drivers : Dataset
        Driver record, such as the windows of the latest year.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.

    Returns
    -------
    Uncovered
    """
    closing = close_out_terms(book, list(drivers.asset.values), impact)
    terms = closing.terms
    which = np.full(len(terms.row), -1)
    which[terms.rule >= 0] = np.arange(len(closing.held.first))
    steps = (closing.held, closing.rules, closing.stairs, closing.events)
    farthest = adverse_extremes(drivers)
    last = stay_moved(closing.events, drivers["last"].values.T, farthest)
    n = drivers.sizes["scenario"]
    count, total, worst = np.zeros(n, "i8"), np.zeros(n), np.zeros(n)
    _add_up(
        terms, steps, which, farthest, np.ascontiguousarray(last), group_gaps(drivers),
        count, total, worst,
    )  # fmt: skip
    return Uncovered(len(terms.row), count, total, worst)


@njit
def _add_up(
    terms: Terms, steps: tuple, which: np.ndarray, farthest: np.ndarray, last: np.ndarray,
    gaps: Gaps, count: np.ndarray, total: np.ndarray, worst: np.ndarray,
) -> None:  # fmt: skip
    for p in range(len(terms.first)):
        first = terms.first[p]
        if not first < np.inf:
            continue
        a, s = terms.asset[p], 0 if terms.direction[p] > 0 else 1
        g, stop = gaps.start[2 * a + s], gaps.start[2 * a + s + 1]
        if which[p] < 0 and _deficit(terms, p, s, first) <= 0.0:
            # Something is left at the trigger: only jumps can leave a deficit.
            for k in range(g, stop):
                if gaps.before[k] < first <= gaps.landing[k]:
                    short = _deficit(terms, p, s, gaps.landing[k])
                    _note(gaps.scenario[k], short, count, total, worst)
            continue
        for i in range(len(count)):
            start = g
            while g < stop and gaps.scenario[g] == i:
                g += 1
            if farthest[a, s, i] < first:
                continue
            if which[p] >= 0:
                _, short, _, _, _, _, _ = live_through(
                    steps, which[p], gaps, start, g, farthest[a, s, i], last[a, i]
                )
            else:
                closing = first
                for k in range(start, g):
                    if gaps.before[k] < first <= gaps.landing[k]:
                        closing = gaps.landing[k]
                short = _deficit(terms, p, s, closing)
            _note(i, short, count, total, worst)


@njit
def _deficit(terms: Terms, p: int, side: int, closing: float) -> float:
    x = -closing if side == 0 else closing
    size, inv = terms.notional[p], terms.inverse[p]
    cost = (terms.closing_fee[p] + terms.impact[p]) * size
    alpha = terms.equity[p] - terms.exposure[p] - (cost if inv else 0.0)
    beta = terms.exposure[p] - (0.0 if inv else cost)
    _, short, _, _, _ = close_out(
        x, inv, alpha, beta, cost, terms.fee[p] * size, size, terms.to_holder[p], True
    )
    return short


@njit
def _note(i: int, short: float, count: np.ndarray, total: np.ndarray, worst: np.ndarray) -> None:
    if short > 0.0:
        count[i] += 1
        total[i] += short
        worst[i] = max(worst[i], short)
