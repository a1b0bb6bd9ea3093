"""The scenarios of one asset and side, sorted as the sweeps need them."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from risk.liquidation.columns import Gaps
from risk.liquidation.tails.state import Paths
from risk.liquidation.tails.stepped import Drifts, Jumps


def gaps_of(gaps: Gaps, key: int) -> Gaps:
    """The gaps of one asset and side, in scenario and path order."""
    part = slice(gaps.start[key], gaps.start[key + 1])
    return Gaps(gaps.start[key : key + 2], *(column[part] for column in gaps[1:]))


class Side:
    """The scenarios of one asset and side; each order is found once, however many sweeps ask.

    Parameters
    ----------
    side : int
        0 longs, 1 shorts.
    extreme, last : ndarray (scenario,)
        Adverse extreme, and price ratio at the horizon.
    weight : ndarray (scenario,)
        In whole units.
    reach : float
        The weight that a tail can hold.
    """

    def __init__(
        self, side: int, extreme: np.ndarray, last: np.ndarray, weight: np.ndarray, reach: float
    ) -> None:
        self.sign = -1.0 if side == 0 else 1.0
        self.extreme, self.last = extreme, np.ascontiguousarray(last)
        self.weight, self.reach = weight, reach

    @cached_property
    def _below(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Sorted extremes, and the weight up to each unless all weigh one."""
        if (self.weight == 1.0).all():
            return np.sort(self.extreme), None
        order = np.argsort(self.extreme)
        return self.extreme[order], np.append(0.0, np.cumsum(self.weight[order]))

    def weigh_below(self, first: np.ndarray) -> np.ndarray:
        """Weight of the scenarios whose extreme lies below each of the sorted values `first`."""
        rising, below = self._below
        place = np.searchsorted(rising, first)
        return place.astype("f8") if below is None else below[place]

    @cached_property
    def _wide(self) -> Paths:
        return self._sort(np.arange(len(self.last)))

    @cached_property
    def _narrow(self) -> Paths:
        """Only the most adverse scenarios by `last`, that weigh more than `reach`.

        Of the survivors, a tail holds the most adverse. If the hits weigh h, they are no more than
        ``reach - h`` and found among the ``reach`` most adverse of all scenarios.
        """
        adverse = self.sign * self.last
        # Every scenario that ties with the last one is kept, so no choice is left to the sort.
        return self._sort(np.flatnonzero(adverse >= heaviest(adverse, self.weight, self.reach)))

    def _sort(self, kept: np.ndarray) -> Paths:
        kept = kept[np.argsort(-self.sign * self.last[kept], kind="stable")]
        rank = np.full(len(self.last), len(kept))
        rank[kept] = np.arange(len(kept))
        rising = np.argsort(self.extreme[kept], kind="stable")
        none, nowhere = np.empty(0), np.empty(0, "i8")
        return Paths(
            self.sign, float(self.weight.sum()), self.last[kept] - 1.0, self.weight[kept], rank,
            self.extreme[kept][rising], rising, none, none, none, nowhere, nowhere,
        )  # fmt: skip

    def paths(self, is_narrow: bool, gaps: Gaps | None) -> Paths:
        """The scenarios sorted by `last`, all or those that a tail can reach, with these gaps."""
        paths = self._narrow if is_narrow else self._wide
        if gaps is None:
            return paths
        deepest = np.argsort(-gaps.landing, kind="stable")
        scenario, before = gaps.scenario[deepest], gaps.before[deepest]
        return paths._replace(
            landing=gaps.landing[deepest],
            before=before,
            gap_weight=self.weight[scenario],
            gap_rank=paths.rank[scenario],
            opening=np.argsort(before, kind="stable"),
        )


def heaviest(adverse: np.ndarray, weight: np.ndarray, reach: float) -> float:
    """The value at which the weight, largest value first, exceeds `reach`; less than all of it."""
    n = len(adverse)
    if (weight == 1.0).all():
        place = n - 1 - int(reach)
        return float(np.partition(adverse, place)[place])
    order = np.argsort(adverse)[::-1]
    return float(adverse[order[np.searchsorted(np.cumsum(weight[order]), reach, side="right")]])


def split_paths(side: Side, gaps: Gaps, least: float) -> tuple[Drifts, Jumps]:
    """The scenarios without and with gaps that reach `least`, each by rising extreme."""
    extreme, last, weight = side.extreme, side.last, side.weight
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
