"""The scenarios of one asset and side, sorted as the sweeps need them."""

from __future__ import annotations

import numpy as np

from risk.liquidation.columns import Gaps
from risk.liquidation.tails.state import Paths
from risk.liquidation.tails.stepped import Drifts, Jumps


def gaps_of(gaps: Gaps, key: int) -> Gaps:
    """The gaps of one asset and side, in scenario and path order."""
    part = slice(gaps.start[key], gaps.start[key + 1])
    return Gaps(gaps.start[key : key + 2], *(column[part] for column in gaps[1:]))


def sort_paths(
    side: int,
    extreme: np.ndarray,
    last: np.ndarray,
    weight: np.ndarray,
    reach: float | None,
    gaps: Gaps | None,
) -> Paths:
    """Sort the scenarios by `last`: all, or only the most adverse that weigh more than `reach`.

    Of the survivors, a tail holds the most adverse. If the hits weigh h, they are no more than
    ``reach - h`` and found among the ``reach`` most adverse of all scenarios.
    """
    sign = -1.0 if side == 0 else 1.0
    adverse = sign * last
    kept = np.arange(len(last))
    if reach is not None:
        # Every scenario that ties with the last one is kept, so no choice is left to the sort.
        kept = np.flatnonzero(adverse >= _cut(adverse, weight, reach))
    kept = kept[np.argsort(-adverse[kept], kind="stable")]
    rank = np.full(len(last), len(kept))
    rank[kept] = np.arange(len(kept))
    rising = np.argsort(extreme[kept], kind="stable")
    gaps = gaps or Gaps(np.zeros(2, "i8"), np.empty(0, "i8"), np.empty(0), np.empty(0))
    deepest = np.argsort(-gaps.landing, kind="stable")
    scenario, before = gaps.scenario[deepest], gaps.before[deepest]
    return Paths(
        sign=sign,
        total=float(weight.sum()),
        move=last[kept] - 1.0,
        weight=weight[kept],
        extreme=extreme[kept][rising],
        extreme_rank=rising,
        landing=gaps.landing[deepest],
        before=before,
        gap_weight=weight[scenario],
        gap_rank=rank[scenario],
        opening=np.argsort(before, kind="stable"),
    )


def _cut(adverse: np.ndarray, weight: np.ndarray, reach: float) -> float:
    """The value at which the weight, largest value first, exceeds `reach`."""
    n = len(adverse)
    if (weight == 1.0).all():
        place = n - 1 - int(reach)
        return float(np.partition(adverse, place)[place])
    order = np.argsort(adverse)[::-1]
    return float(adverse[order[np.searchsorted(np.cumsum(weight[order]), reach, side="right")]])


def weigh_below(extreme: np.ndarray, weight: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Weight of the scenarios whose extreme lies below each of the sorted values `first`."""
    if (weight == 1.0).all():
        return np.searchsorted(np.sort(extreme), first).astype("f8")
    order = np.argsort(extreme)
    below = np.append(0.0, np.cumsum(weight[order]))
    return below[np.searchsorted(extreme[order], first)]


def split_paths(
    extreme: np.ndarray, last: np.ndarray, weight: np.ndarray, gaps: Gaps, least: float
) -> tuple[Drifts, Jumps]:
    """The scenarios without and with gaps that reach `least`, each by rising extreme."""
    jumping, begin, count = np.unique(gaps.scenario, return_index=True, return_counts=True)
    rising = np.argsort(extreme[jumping], kind="stable")
    jumping, begin = jumping[rising], begin[rising]
    jumps = Jumps(extreme[jumping], last[jumping], weight[jumping], begin, begin + count[rising])
    reaches = extreme >= least
    reaches[jumping] = False
    drifting = np.flatnonzero(reaches)
    drifting = drifting[np.argsort(extreme[drifting], kind="stable")]
    sums = np.append(0.0, np.cumsum(weight[drifting]))
    return Drifts(extreme[drifting], last[drifting] - 1.0, weight[drifting], sums), jumps
