"""What pools came to: the records of their lives, joined and taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from risk.liquidation.columns import LIQUIDATED

#: What a position that closed has, in this order; USD.
AMOUNTS = ("pnl", "venue_gain", "deficit", "market_cost", "liquidated_notional")

#: Counted per scenario, positions apart left out: pools liquidated as the cube has it, with lows
#: and highs together, and however the assets move inside the frames.
COUNTS = ("pools_liquidated", "pools_liquidated_together", "pools_liquidated_surely")


class PoolOutcomes(NamedTuple):
    """What pools came to in some scenarios, where it is not exposure times move.

    Rows are sorted by scenario and leg; a pool has all its positions or none.
    """

    scenario: np.ndarray  # (row,)
    leg: np.ndarray
    amounts: np.ndarray  # (row, column): `AMOUNTS`
    status: np.ndarray
    counts: np.ndarray  # (scenario, column): `COUNTS`


class PoolResults(NamedTuple):
    """What the tail of a position in a pool needs of `PoolOutcomes`, in the same rows."""

    scenario: np.ndarray  # (row,)
    leg: np.ndarray
    pnl: np.ndarray
    deficit: np.ndarray
    is_liquidated: np.ndarray


def results_of(outcomes: PoolOutcomes) -> PoolResults:
    """The columns of outcomes that tails need."""
    return PoolResults(
        outcomes.scenario.astype("i4"),
        outcomes.leg.astype("i4"),
        outcomes.amounts[:, AMOUNTS.index("pnl")].copy(),
        outcomes.amounts[:, AMOUNTS.index("deficit")].copy(),
        outcomes.status == LIQUIDATED,
    )


def join_outcomes(parts: Sequence[tuple[int, PoolOutcomes]]) -> PoolOutcomes:
    """Outcomes of consecutive scenarios, each with the number of its first one."""
    if not parts:
        none = np.empty(0, "i8")
        return PoolOutcomes(
            none, none, np.empty((0, 5)), np.empty(0, "i1"), np.empty((0, len(COUNTS)), "i4")
        )
    scenario = np.concatenate([first + part.scenario for first, part in parts])
    leg, amounts, status, counts = (
        np.concatenate([part[column] for _, part in parts]) for column in range(1, 5)
    )
    return PoolOutcomes(scenario, leg, amounts, status, counts)


def take_outcomes(outcomes: PoolOutcomes, index: np.ndarray) -> PoolOutcomes:
    """The scenarios at `index` (ascending), renumbered by their place in it."""
    kept = np.flatnonzero(np.isin(outcomes.scenario, index))
    place = np.searchsorted(index, outcomes.scenario[kept])
    leg, amounts, status = outcomes.leg[kept], outcomes.amounts[kept], outcomes.status[kept]
    return PoolOutcomes(place, leg, amounts, status, outcomes.counts[index])


def put_outcomes(outcomes: PoolOutcomes, index: np.ndarray, some: PoolOutcomes) -> PoolOutcomes:
    """The same outcomes with those of the scenarios at `index` (ascending) replaced."""
    kept = np.flatnonzero(~np.isin(outcomes.scenario, index))
    scenario = np.concatenate([outcomes.scenario[kept], index[some.scenario]])
    leg = np.concatenate([outcomes.leg[kept], some.leg])
    order = np.lexsort((leg, scenario))
    amounts = np.concatenate([outcomes.amounts[kept], some.amounts])
    status = np.concatenate([outcomes.status[kept], some.status])
    counts = outcomes.counts.copy()
    counts[index] = some.counts
    return PoolOutcomes(scenario[order], leg[order], amounts[order], status[order], counts)
