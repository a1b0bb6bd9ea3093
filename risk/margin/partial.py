"""How a venue cuts a liquidation into steps through its tiers.

A position above the lowest tiers is not closed whole: it is cut to the cap of a lower tier, and
lives on if that makes it healthy. What the cuts need to know about a contract is one rule. Rules
travel with the book as text, one text per contract, so that whoever has the book can liquidate it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from risk.margin.tiers import TierTables

if TYPE_CHECKING:
    from risk.margin.venues import VenueRules


@dataclass(frozen=True)
class StepRule:
    """How the positions in one contract are cut, and when they are healthy again.

    Attributes
    ----------
    tiers_per_step : int
        Tiers a cut goes down; a position in one of that many lowest tiers is closed whole. 0: every
        position is closed whole.
    is_entry_basis : bool
        Maintenance and tier follow the entry value; else the value at the tested price.
    trigger_fee_rate : float
        Closing fee that the liquidation test includes; 0 where it does not.
    is_fee_at_bankruptcy : bool
        That fee is taken at the bankruptcy price; else at the tested price.
    is_strict : bool
        Equity equal to the requirement is safe.
    floor, rate, amount : tuple of float (tier,)
        Lower bound, maintenance rate and maintenance amount; amounts in the settle currency.
    """

    tiers_per_step: int
    is_entry_basis: bool
    trigger_fee_rate: float
    is_fee_at_bankruptcy: bool
    is_strict: bool
    floor: tuple[float, ...]
    rate: tuple[float, ...]
    amount: tuple[float, ...]

    def to_text(self) -> str:
        """JSON that `read_step_rule` reads back to the same bits."""
        return json.dumps(asdict(self), separators=(",", ":"))


def read_step_rule(text: str) -> StepRule:
    """Read what `StepRule.to_text` wrote."""
    values = json.loads(text)
    for name in ("floor", "rate", "amount"):
        values[name] = tuple(values[name])
    return StepRule(**values)


def contract_rule(rules: VenueRules, tiers: TierTables, table: int) -> StepRule:
    """What a contract under a tier table requires, and how it is cut if it is."""
    floor = tiers.floor[:, table]
    # A short table repeats its last tier.
    own = np.append(True, np.diff(floor) > 0)
    return StepRule(
        tiers_per_step=0 if rules.partial == "none" else rules.tiers_per_step,
        is_entry_basis=rules.maintenance_basis == "entry",
        trigger_fee_rate=rules.closing_fee_rate if rules.trigger_includes_closing_fee else 0.0,
        is_fee_at_bankruptcy=rules.closing_fee_price == "bankruptcy",
        is_strict=rules.boundary == "below",
        floor=tuple(floor[own].tolist()),
        rate=tuple(tiers.rate[own, table].tolist()),
        amount=tuple(tiers.amount[own, table].tolist()),
    )


def step_rule(rules: VenueRules, tiers: TierTables, table: int) -> StepRule | None:
    """The rule of a contract under a tier table; None where the venue closes positions whole."""
    return None if rules.partial == "none" else contract_rule(rules, tiers, table)
