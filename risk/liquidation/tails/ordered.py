"""The sweep over positions whose losses come in order: gaps, diffusion hits, survivors.

Only the scenarios with the most adverse `last` can lie in a tail, so the trees are as small as the
tail and two descents answer for a position.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.liquidation.tails.state import (
    IS_LIQUIDATED,
    KEEPS_NOTHING,
    LEAVES_NOTHING,
    Closable,
    Levels,
    Paths,
    Tails,
    advance,
    close_at,
    count_landings,
    sum_gap_deficits,
    weigh_liquidations,
)
from risk.liquidation.tails.trees import descend, head


@njit(inline="always")
def _sum_gap_losses(
    p: int, lost: int, margin: int, weight: float, moment: float, gaps: np.ndarray, book: Closable
) -> float:
    """Weighted losses over the worst gaps, given their weight and moment.

    Past the `lost` worst landings nothing is kept, past `margin` of them the fee is paid.
    """
    total = book.equity[p] * weight
    lost_weight, lost_moment = head(gaps, lost)
    if lost_weight < weight:
        total -= book.alpha[p] * (weight - lost_weight) + book.beta[p] * (moment - lost_moment)
        if margin > lost:
            total += book.fee[p] * (head(gaps, margin)[1] - lost_moment)
    return total


@njit(inline="always")
def _find_tail(
    limit: float, p: int, hit: float, hit_weight: float, gap_weight: float, gap_losses: float,
    lost: int, margin: int, gaps: np.ndarray, alive: np.ndarray, book: Closable, paths: Paths,
) -> tuple[float, float]:  # fmt: skip
    """Loss at which the weight, worst first, exceeds `limit`, and what worse losses exceed it by.

    The second is a weighted sum. `gap_losses` is that of all gaps.
    """
    if limit < gap_weight:
        g, weight, moment = descend(gaps, limit)
        if g < lost:
            return book.equity[p], 0.0
        kept, _ = close_at(p, paths.landing[g], paths.sign, book)
        loss = book.equity[p] - kept
        worse = _sum_gap_losses(p, lost, min(margin, g), weight, moment, gaps, book)
        return loss, worse - loss * weight
    limit -= gap_weight
    if limit < hit_weight:
        return hit, gap_losses - hit * gap_weight
    r, weight, moment = descend(alive, limit - hit_weight)
    exposure = book.exposure[p]
    loss = -exposure * paths.move[r]
    worse = gap_losses - loss * gap_weight + (hit - loss) * hit_weight
    return loss, worse - exposure * moment - loss * weight


@njit
def measure_ordered(
    short_of: np.ndarray, book: Closable, paths: Paths, levels: Levels, out: Tails
) -> None:
    """Measure positions of one asset and side.

    `short_of` is the weight of the scenarios whose extreme stays short of each trigger.
    """
    m = len(paths.landing)
    alive, gaps = np.zeros((len(paths.move) + 1, 2)), np.zeros((m + 1, 2))
    no_hits = np.zeros((0, 2))
    done = np.zeros(3, np.int64)
    for p in range(len(book.first)):
        first = book.first[p]
        gap_weight = advance(first, done, alive, gaps, no_hits, paths)
        hit_weight = paths.total - short_of[p] - gap_weight
        hit, short = 0.0, 0.0
        if hit_weight > 0.0:
            kept, short = close_at(p, first, paths.sign, book)
            hit = book.equity[p] - kept
            short *= hit_weight
        there, lost, margin, gap_losses = m - done[1], 0, 0, 0.0
        if gap_weight > 0.0:
            lost = count_landings(p, there, KEEPS_NOTHING, book, paths)
            broke = count_landings(p, lost, LEAVES_NOTHING, book, paths)
            margin = there
            if first < book.margin[p]:
                margin = count_landings(p, there, IS_LIQUIDATED, book, paths)
            short += sum_gap_deficits(p, broke, gaps, book)
            moment = head(gaps, there)[1]
            gap_losses = _sum_gap_losses(p, lost, margin, gap_weight, moment, gaps, book)
        liquidated = weigh_liquidations(p, margin, hit_weight, gap_weight, gaps, book)
        out.liquidation_probability[p] = liquidated * levels.unit
        out.expected_deficit[p] = short * levels.unit
        out.value_at_risk[p], _ = _find_tail(
            levels.var_limit, p, hit, hit_weight, gap_weight, gap_losses, lost, margin, gaps,
            alive, book, paths,
        )  # fmt: skip
        loss, worse = _find_tail(
            levels.es_limit, p, hit, hit_weight, gap_weight, gap_losses, lost, margin, gaps,
            alive, book, paths,
        )  # fmt: skip
        out.expected_shortfall[p] = loss + max(worse, 0.0) / levels.es_tail
