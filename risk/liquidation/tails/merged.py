"""The sweep over positions that get coin back, whose losses come in families that overlap.

Returned coin keeps moving, so a hit may end better or worse than a survivor.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit
from risk.liquidation.tails.families import Families, excess_over, find_loss
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
    declines,
    sum_gap_deficits,
    weigh_liquidations,
)
from risk.liquidation.tails.trees import fill, head


@njit
def measure_merged(
    short_of: np.ndarray, book: Closable, paths: Paths, levels: Levels, out: Tails
) -> None:
    """Measure positions of one asset and side.

    `short_of` is the weight of the scenarios whose extreme stays short of each trigger; every
    scenario must have a rank.
    """
    n, m, sign, move = len(paths.move), len(paths.landing), paths.sign, paths.move
    alive, hits, gaps = np.zeros((n + 1, 2)), np.zeros((n + 1, 2)), np.zeros((m + 1, 2))
    fill(hits, paths.weight, move)
    single_loss, single_weight = np.empty(m), np.empty(m)
    done = np.zeros(3, np.int64)
    for p in range(len(book.first)):
        first, equity = book.first[p], book.equity[p]
        gap_weight = advance(first, done, alive, gaps, hits, paths)
        alive_weight = short_of[p]
        hit_weight = paths.total - alive_weight - gap_weight
        hit, coin, short = 0.0, 0.0, 0.0
        if hit_weight > 0.0:
            kept, short = close_at(p, first, sign, book)
            hit = equity - kept
            short *= hit_weight
            if book.inverse[p] and kept > 0.0:
                coin, hit = kept / (sign * first), equity - kept / (sign * first)
        there, lost, margin, n_single = m - done[1], 0, 0, 0
        if gap_weight > 0.0:
            margin = count_landings(p, there, IS_LIQUIDATED, book, paths)
            is_falling = declines(p, sign, book)
            if is_falling:
                lost = count_landings(p, there, KEEPS_NOTHING, book, paths)
                broke = count_landings(p, lost, LEAVES_NOTHING, book, paths)
                short += sum_gap_deficits(p, broke, gaps, book)
            for g in range(lost, there):
                if paths.before[g] < first:
                    kept, deficit = close_at(p, paths.landing[g], sign, book)
                    if book.inverse[p] and kept > 0.0:
                        kept *= (1.0 + move[paths.gap_rank[g]]) / (sign * paths.landing[g])
                    if not is_falling:
                        short += deficit * paths.gap_weight[g]
                    single_loss[n_single] = equity - kept
                    single_weight[n_single] = paths.gap_weight[g]
                    n_single += 1
        liquidated = weigh_liquidations(p, margin, hit_weight, gap_weight, gaps, book)
        out.liquidation_probability[p] = liquidated * levels.unit
        out.expected_deficit[p] = short * levels.unit
        order = np.argsort(-single_loss[:n_single], kind="mergesort")
        family = Families(
            move, alive, alive_weight, book.exposure[p], hits, hit_weight, hit, coin,
            head(gaps, lost)[0], equity,
            single_loss[:n_single][order], np.cumsum(single_weight[:n_single][order]),
        )  # fmt: skip
        out.value_at_risk[p] = find_loss(levels.var_limit, family)
        loss = find_loss(levels.es_limit, family)
        worse = excess_over(loss, family)
        out.expected_shortfall[p] = loss + max(worse, 0.0) / levels.es_tail
