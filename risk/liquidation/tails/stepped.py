"""The sweep over positions whose liquidation is cut in steps.

Between two rungs every scenario without a gap ends on one line in `last`, so a hit costs a product
and a sum; a scenario with a gap is lived through. What the tail can need is sorted and merged with
the survivors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.liquidation.columns import LIQUIDATED, Gaps, Stairs
from risk.liquidation.single import keep_tail
from risk.liquidation.steps import (
    RUNG_AT,
    RUNG_COIN,
    RUNG_DEFICIT,
    RUNG_DROP,
    RUNG_PNL,
    live_through,
)
from risk.liquidation.tails.families import Families, excess_over, find_loss
from risk.liquidation.tails.state import Closable, Levels, Paths, Tails, advance


class Drifts(NamedTuple):
    """Scenarios without a gap, by rising extreme."""

    extreme: np.ndarray
    move: np.ndarray  # last - 1
    weight: np.ndarray
    sum: np.ndarray  # (scenario + 1,), weight up to each


class Jumps(NamedTuple):
    """Scenarios with gaps, by rising extreme."""

    extreme: np.ndarray
    last: np.ndarray
    weight: np.ndarray
    begin: np.ndarray  # into the gaps
    end: np.ndarray


@njit
def measure_stepped(
    short_of: np.ndarray, book: Closable, which: np.ndarray, steps: tuple, paths: Paths,
    drifts: Drifts, jumps: Jumps, gaps: Gaps, levels: Levels, out: Tails,
) -> None:  # fmt: skip
    """Measure positions of one asset and side.

    `which` (position,) says where each is in `steps`, as `live_through` takes them. `short_of` is
    the weight of the scenarios whose extreme stays short of each trigger. `paths`
    has no gaps; its ranks may stop where no tail of survivors reaches.
    """
    n = len(drifts.move) + len(jumps.last)
    alive, none = np.zeros((len(paths.move) + 1, 2)), np.zeros((1, 2))
    no_hits, done = np.zeros((0, 2)), np.zeros(3, np.int64)
    loss, weight = np.empty(n), np.empty(n)
    limit = max(levels.var_limit, levels.es_limit)
    for p in range(len(book.first)):
        advance(book.first[p], done, alive, none, no_hits, paths)
        n_single, short = _price_drifts(which[p], steps[2], drifts, loss, weight)
        liquidated = 0.0
        for j in range(np.searchsorted(jumps.extreme, book.first[p]), len(jumps.last)):
            pnl, deficit, _, _, _, status, _ = live_through(
                steps, which[p], gaps, jumps.begin[j], jumps.end[j], jumps.extreme[j], jumps.last[j]
            )
            loss[n_single], weight[n_single] = -pnl, jumps.weight[j]
            short += deficit * jumps.weight[j]
            if status == LIQUIDATED:
                liquidated += jumps.weight[j]
            n_single += 1
        if book.first[p] == book.margin[p]:
            liquidated = paths.total - short_of[p]
        out.liquidation_probability[p] = liquidated * levels.unit
        out.expected_deficit[p] = short * levels.unit
        n_single = keep_tail(limit, n_single, loss, weight)
        order = np.argsort(-loss[:n_single], kind="mergesort")
        family = Families(
            paths.move, alive, short_of[p], book.exposure[p], no_hits, 0.0, 0.0, 0.0, 0.0, 0.0,
            loss[:n_single][order], np.cumsum(weight[:n_single][order]),
        )  # fmt: skip
        out.value_at_risk[p] = find_loss(levels.var_limit, family)
        found = find_loss(levels.es_limit, family)
        worse = excess_over(found, family)
        out.expected_shortfall[p] = found + max(worse, 0.0) / levels.es_tail


@njit
def _price_drifts(
    p: int, stairs: Stairs, drifts: Drifts, loss: np.ndarray, weight: np.ndarray
) -> tuple[int, float]:
    """Write the losses of the scenarios without a gap that hit, and their weights.

    Returns how many there are, those on a flat line being one, and their weighted deficits.
    """
    rungs = stairs.rung[stairs.start[p] : stairs.start[p + 1]]
    n, n_single, short = len(drifts.move), 0, 0.0
    pnl, coin = 0.0, 0.0
    for k in range(len(rungs)):
        if rungs[k, RUNG_AT] == np.inf:
            break
        begin, end = np.searchsorted(drifts.extreme, rungs[k, RUNG_AT]), n
        if k + 1 < len(rungs):
            end = np.searchsorted(drifts.extreme, rungs[k + 1, RUNG_AT])
        pnl += rungs[k, RUNG_PNL]
        coin += rungs[k, RUNG_COIN]
        slope = coin + rungs[k + 1 :, RUNG_DROP].sum()
        short += rungs[k, RUNG_DEFICIT] * (drifts.sum[n] - drifts.sum[begin])
        if slope == 0.0 and end > begin:
            loss[n_single], weight[n_single] = -pnl, drifts.sum[end] - drifts.sum[begin]
            n_single += 1
            continue
        for j in range(begin, end):
            loss[n_single] = -(pnl + slope * drifts.move[j])
            weight[n_single] = drifts.weight[j]
            n_single += 1
    return n_single, short
