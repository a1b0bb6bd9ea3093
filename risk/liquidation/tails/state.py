"""What a sweep works on, and the closing rule as it asks for it.

Positions of one asset and side are swept in the order of their triggers. The weight of a scenario
is a whole number held in a float, so that adding and removing it is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.liquidation.closing import close_out
from risk.liquidation.tails.trees import add, head

#: Families of losses may overlap by this share of a position's size and still count as ordered.
_ROUNDING = 1e-14

#: Lines that landings are counted past.
KEEPS_NOTHING, LEAVES_NOTHING, IS_LIQUIDATED = range(3)


class Closable(NamedTuple):
    """Columns on (position,), in groups and by rising `first`; see `Terms` and `close_lines`."""

    inverse: np.ndarray
    first: np.ndarray
    margin: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    equity: np.ndarray
    exposure: np.ndarray
    fee: np.ndarray
    to_holder: np.ndarray


class Paths(NamedTuple):
    """What the scenarios do to the longs or the shorts of one asset."""

    sign: float  # from adverse coordinate to price ratio: -1 longs, +1 shorts
    total: float  # weight of all scenarios
    # (rank,): the scenarios that can lie in a tail by `last`, the most adverse first
    move: np.ndarray  # last - 1
    weight: np.ndarray
    rank: np.ndarray  # (scenario,); past the last one where it has none
    # the same scenarios by rising extreme
    extreme: np.ndarray
    extreme_rank: np.ndarray
    # (gap,): by landing, the most adverse first
    landing: np.ndarray
    before: np.ndarray
    gap_weight: np.ndarray
    gap_rank: np.ndarray  # the rank of its scenario; past the last one if it has none
    opening: np.ndarray  # gaps by rising `before`


class Levels(NamedTuple):
    """A tail ends where the weight, worst first, exceeds its limit."""

    var_limit: float
    es_limit: float
    es_tail: float  # one minus the confidence, in units of weight
    unit: float  # probability of weight one


class Tails(NamedTuple):
    """Results on (position,)."""

    value_at_risk: np.ndarray
    expected_shortfall: np.ndarray
    expected_deficit: np.ndarray
    liquidation_probability: np.ndarray


@njit(inline="always")
def close_at(p: int, u: float, sign: float, book: Closable) -> tuple[float, float]:
    """What the holder keeps and the venue lacks after a close at adverse coordinate `u`."""
    kept, deficit, _, _, _ = close_out(
        sign * u, book.inverse[p], book.alpha[p], book.beta[p], 0.0, book.fee[p], 0.0,
        book.to_holder[p], book.margin[p] <= u,
    )  # fmt: skip
    return kept, deficit


@njit(inline="always")
def declines(p: int, sign: float, book: Closable) -> bool:
    """Whether a landing further away leaves less, for the holder and for the venue."""
    beta = book.beta[p]
    slope = beta if book.inverse[p] else beta - book.fee[p]
    return beta * sign <= 0.0 and slope * sign <= 0.0


@njit
def find_ordered(sign: np.ndarray, book: Closable, is_ordered: np.ndarray) -> None:
    """Say of every position whether gaps, hits and survivors lose in this order.

    It needs a landing further away to leave less, a hit to cost the same whatever happens next
    (no coin is returned), and no survivor to lose more than a hit.
    """
    for p in range(len(book.first)):
        first, exposure, equity = book.first[p], book.exposure[p], book.equity[p]
        is_ordered[p] = exposure * sign[p] <= 0.0
        if is_ordered[p] and first < np.inf:
            kept, _ = close_at(p, first, sign[p], book)
            room = _ROUNDING * (abs(equity) + abs(exposure))
            is_ordered[p] = (
                declines(p, sign[p], book)
                and not (book.inverse[p] and kept > 0.0)
                and equity - kept >= -exposure * (sign[p] * first - 1.0) - room
            )


@njit(inline="always")
def count_landings(p: int, stop: int, line: int, book: Closable, paths: Paths) -> int:
    """How many of the `stop` most adverse landings are past a line."""
    low, high = 0, stop
    while low < high:
        middle = (low + high) >> 1
        u = paths.landing[middle]
        if line == IS_LIQUIDATED:
            is_past = u >= book.margin[p]
        else:
            kept, deficit = close_at(p, u, paths.sign, book)
            is_past = kept <= 0.0 if line == KEEPS_NOTHING else deficit > 0.0
        if is_past:
            low = middle + 1
        else:
            high = middle
    return low


@njit
def advance(
    first: float, done: np.ndarray, alive: np.ndarray, gaps: np.ndarray, hits: np.ndarray,
    paths: Paths,
) -> float:  # fmt: skip
    """Bring the trees to the state that a trigger at `first` sees; return the weight inside gaps.

    A gap holds the triggers after its beginning, up to its landing; its scenario is no diffusion
    hit meanwhile. A scenario survives the triggers beyond its extreme. `done` counts the gaps begun
    and landed and the extremes passed, always in the order of their prices: the sums in the trees
    do not depend on where the positions lie.
    """
    m, n = len(paths.landing), len(paths.extreme)
    while True:
        opening = paths.before[paths.opening[done[0]]] if done[0] < m else np.inf
        landing = paths.landing[m - 1 - done[1]] if done[1] < m else np.inf
        extreme = paths.extreme[done[2]] if done[2] < n else np.inf
        if min(opening, landing, extreme) >= first:
            break
        if extreme < min(opening, landing):
            r = paths.extreme_rank[done[2]]
            add(alive, r, paths.weight[r], paths.move[r])
            if len(hits):
                add(hits, r, -paths.weight[r], paths.move[r])
            done[2] += 1
            continue
        is_open = opening <= landing
        g = paths.opening[done[0]] if is_open else m - 1 - done[1]
        weight = paths.gap_weight[g] if is_open else -paths.gap_weight[g]
        add(gaps, g, weight, paths.sign * paths.landing[g])
        if len(hits):
            r = paths.gap_rank[g]
            add(hits, r, -weight, paths.move[r])
        done[0 if is_open else 1] += 1
    return head(gaps, m)[0]


@njit(inline="always")
def weigh_liquidations(
    p: int, margin: int, hit_weight: float, gap_weight: float, gaps: np.ndarray, book: Closable
) -> float:
    """Weight of the scenarios that liquidate, given how many landings lie past the margin."""
    if book.first[p] == book.margin[p]:
        return hit_weight + gap_weight
    # A stop comes first: only a gap across both can still liquidate.
    return head(gaps, margin)[0]


@njit(inline="always")
def sum_gap_deficits(p: int, broke: int, gaps: np.ndarray, book: Closable) -> float:
    """Weighted deficits over the landings that leave less than nothing, `broke` of them."""
    weight, moment = head(gaps, broke)
    return max(-book.alpha[p] * weight - book.beta[p] * moment, 0.0)
