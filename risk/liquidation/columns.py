"""The arrays the compiled loops work on, and what their columns mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Columns of `hot`: what the k first rungs and the survivors behind them add up to. Four columns are
# half a line of the processor's cache: no row lies across two.
HIT_PNL, HIT_SLOPE, HIT_NOTIONAL, HIT_COUNTS = range(4)
# Columns of `cold`.
HIT_VENUE, HIT_COST = range(2)
# Columns of `landing`: prefix sums, in trigger order, of the rungs closed at a landing.
(
    LAND_HOLD0,
    LAND_HOLD1,
    LAND_VENUE0,
    LAND_VENUE1,
    LAND_EQUITY,
    LAND_COST,
    LAND_NOTIONAL,
    LAND_COIN,
) = range(8)

#: Liquidations and stops share one column: up to 2**26 of each are exact in a float64.
STOP_BITS = 26
STOP = 1 << STOP_BITS

SURVIVED, STOPPED, LIQUIDATED = 0, 1, 2


class Sums(NamedTuple):
    """Ladders sorted by cell, rungs sorted by their trigger, and running sums over them.

    `cell_start` (cell + 1,) says where a cell's ladders are, `start` (ladder + 1,) where a ladder's
    rungs are. Running sums have one row more per ladder than rungs: after the first k rungs of a
    ladder, row ``start[ladder] + ladder + k``. Long ladders have an index into their rungs, see
    `risk.liquidation.index`.
    """

    cell_start: np.ndarray
    start: np.ndarray
    asset: np.ndarray  # (ladder,)
    side: np.ndarray  # (ladder,): 0 longs (closed by falls), 1 shorts (closed by rises)
    first: np.ndarray  # (rung,), adverse coordinate
    hot: np.ndarray  # (row, column)
    short: np.ndarray  # (row,): deficit of the k first rungs
    is_short: np.ndarray  # (ladder,): some rung leaves one; few do at their own triggers
    cold: np.ndarray
    lower_start: np.ndarray  # (ladder + 1,) into `lower`; short ladders have none
    lower: np.ndarray  # how many of the ladder's rungs have a lower code


class Plain(NamedTuple):
    """Positions that are closed whole: one rung each.

    Closing at ratio ``x`` leaves ``alpha + beta x`` after market costs. Cost, fee and notional are
    US dollars at ratio 1: proportional to the price if linear, constant if inverse.
    """

    sums: Sums
    # (ladder,)
    inverse: np.ndarray
    width: np.ndarray  # largest distance from a rung's trigger to its bankruptcy, singles apart
    # (rung,)
    margin: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    equity: np.ndarray
    cost: np.ndarray
    fee: np.ndarray
    notional: np.ndarray
    to_holder: np.ndarray
    is_single: np.ndarray
    single_start: np.ndarray  # (ladder + 1,) into `single`
    single: np.ndarray  # rungs that are closed one by one in every gap
    fee_at: np.ndarray  # where the fee can no longer be paid, sorted within each ladder
    bankrupt_at: np.ndarray  # where nothing is left, sorted within each ladder
    landing: np.ndarray  # (row, column)
    fee_sum: np.ndarray
    bankrupt_sum: np.ndarray


class Rules(NamedTuple):
    """Rules that cut liquidations into steps, see `risk.margin.partial.StepRule`."""

    n_tiers: np.ndarray  # (rule,)
    tiers_per_step: np.ndarray
    is_entry_basis: np.ndarray
    trigger_fee: np.ndarray
    is_fee_at_bankruptcy: np.ndarray
    is_strict: np.ndarray
    floor: np.ndarray  # (rule, tier), settle currency
    rate: np.ndarray
    amount: np.ndarray


class Held(NamedTuple):
    """Positions that are cut in steps, on (position,).

    Amounts are in settle currency valued at the mark: US dollars once multiplied by the price ratio
    if inverse, and as they are if linear. In the coordinate ``y`` (the price ratio, or its
    reciprocal if inverse) equity is ``intercept + head * notional * y``.
    """

    asset: np.ndarray
    side: np.ndarray
    inverse: np.ndarray
    first: np.ndarray  # adverse coordinate of the stop, else of the liquidation
    margin: np.ndarray  # adverse coordinate of the liquidation; both on the path without impact
    intercept: np.ndarray
    head: np.ndarray  # +1: hurt when the coordinate falls
    notional: np.ndarray  # at the mark
    entered: np.ndarray  # notional at the entry price
    unit: np.ndarray  # value of one unit of settle currency at the mark
    rule: np.ndarray
    closing_fee: np.ndarray  # rate
    impact: np.ndarray  # rate for closing the whole position
    fee: np.ndarray  # liquidation fee, rate
    to_holder: np.ndarray


class Stairs(NamedTuple):
    """Rungs of the positions that are cut in steps, position by position."""

    start: np.ndarray  # (position + 1,)
    rung: np.ndarray  # (rung, column), see `risk.liquidation.steps`


class Events(NamedTuple):
    """What a cascade closes, in its order, by (asset, side); no entries without a cascade."""

    start: np.ndarray  # (2 * asset + side,), then the end
    trigger: np.ndarray  # adverse coordinate of the price that closes, all impact included
    level: np.ndarray  # adverse coordinate of the path, without impact, at which that happens
    base: np.ndarray  # US dollars at the mark closed so far, this event included
    kappa: np.ndarray  # (asset,)
    permanent: np.ndarray  # (asset,): share of the impact that stays to the horizon


class Steps(NamedTuple):
    """Positions that are cut in steps, as ladders of several rungs each."""

    sums: Sums
    owner: np.ndarray  # (rung,) into `held`
    previous: np.ndarray  # (rung,): trigger of its owner's rung before, -inf for the first
    held: Held
    rules: Rules
    stairs: Stairs
    events: Events


class Paths(NamedTuple):
    """What the scenarios of a block do to each asset."""

    farthest: np.ndarray  # (asset, side, scenario), adverse coordinate
    extreme: np.ndarray  # the same in rising order
    order: np.ndarray  # which scenario each extreme is
    last: np.ndarray  # (asset, scenario)
    bucket: np.ndarray  # (asset, side, bucket + 1): how many extremes lie in lower buckets
    scale: np.ndarray  # (asset, side): buckets per unit of the coordinate
    code: np.ndarray  # (asset, side, scenario): code of each sorted extreme


class Gaps(NamedTuple):
    """Gaps grouped by (asset, side) in adverse coordinates, in scenario and path order."""

    start: np.ndarray  # (2 * asset + side,), then the end
    scenario: np.ndarray
    before: np.ndarray
    landing: np.ndarray


class Terms(NamedTuple):
    """Columns on (position,) of the priced positions, in book order.

    Prices are *adverse coordinates* ``u = -direction * x``: they rise as the price moves against
    the holder, so one comparison ``first <= u`` serves longs and shorts.
    """

    row: np.ndarray  # row in the book
    asset: np.ndarray
    direction: np.ndarray
    inverse: np.ndarray
    equity: np.ndarray  # USD at the mark
    exposure: np.ndarray  # USD per unit of price ratio
    first: np.ndarray  # the stop if there is one, else the margin trigger; inf: never closed
    margin: np.ndarray  # the margin trigger; inf: none
    fee: np.ndarray  # liquidation fee, rate
    notional: np.ndarray  # USD at ratio 1
    to_holder: np.ndarray
    closing_fee: np.ndarray  # rate
    impact: np.ndarray  # rate for closing the whole position
    entered: np.ndarray  # notional at the entry price, settle currency valued at the mark, USD
    unit: np.ndarray  # USD per unit of settle currency at the mark
    rule: np.ndarray  # into `Rules`; -1: closed whole

    def take(self, index: np.ndarray) -> Terms:
        """The positions at `index`, in that order."""
        return Terms(*(column[index] for column in self))
