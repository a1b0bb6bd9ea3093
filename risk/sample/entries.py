"""Entry prices: drawn from the recent path, and again where the position would not be open today.

A position that the path since its entry would have liquidated is drawn again, so the book is one
of survivors, as every real book is: high leverage is young, old positions have room. The test used
for that is stricter than any venue's rule.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from risk.contracts.payoffs import coordinate, heading, notional
from risk.margin.prices import Legs, equity
from risk.margin.tiers import TierTables, tiered_maintenance
from risk.sample.prices import ENTRY_DAYS, Prices

#: No venue's trigger includes a larger closing fee.
STRICT_FEE = 0.001
#: Equity of a survivor, at the worst price since entry, as a multiple of its requirement.
_ROOM = 1.1
_ROUNDS = 8
#: Each further round looks for younger entries.
_YOUNGER = 0.6


@dataclass(frozen=True)
class Drafts:
    """Positions before they have an entry price, one entry each.

    `legs` has no entry price or collateral yet; `margin_multiple` is the collateral over the
    initial margin; `mean_age_days` sets how far back the entry is looked for.
    """

    legs: Legs
    asset: np.ndarray
    mark: np.ndarray
    leverage: np.ndarray
    margin_multiple: np.ndarray
    mean_age_days: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Drafts:
        """The given rows only."""
        legs = Legs(**{f.name: getattr(self.legs, f.name)[rows] for f in fields(Legs)})
        rest = (getattr(self, f.name)[rows] for f in fields(Drafts)[1:])
        return Drafts(legs, *rest)

    def opened(self, entry: np.ndarray) -> Legs:
        """The positions opened at these prices, with the collateral they post then."""
        margin = notional(self.legs.size, entry, self.legs.is_inverse) / self.leverage
        return replace(self.legs, entry_price=entry, position_margin=margin * self.margin_multiple)


def draw_entries(
    drafts: Drafts, prices: Prices, tables: TierTables, rng: np.random.Generator
) -> np.ndarray:
    """Entry price of every draft (n,), quote currency.

    Parameters
    ----------
    drafts : Drafts
        The positions.
    prices : Prices
        Bars of the days an entry may fall on.
    tables : TierTables
        Maintenance tiers.
    rng : Generator
        The only source of randomness.
    """
    # As ratios to the close, so that one path serves every contract on the asset.
    low, high = prices.low / prices.close, prices.high / prices.close
    worst_low, worst_high = _extremes_since(low, high)
    entry = np.empty(len(drafts.mark))
    pending = np.arange(len(entry))
    for attempt in range(_ROUNDS):
        part = drafts[pending]
        age = rng.exponential(part.mean_age_days * _YOUNGER**attempt).astype(np.int64)
        day = ENTRY_DAYS - np.minimum(age, ENTRY_DAYS)
        at = (day, part.asset)
        drawn = low[at] + (high[at] - low[at]) * rng.beta(2.0, 2.0, len(pending))
        legs = part.opened(drawn * part.mark)
        worst = np.where(legs.direction > 0, worst_low[at], worst_high[at])
        entry[pending] = legs.entry_price
        pending = pending[~_has_room(legs, worst * part.mark, tables)]
        if len(pending) == 0:
            return entry
    # What is left entered today, on the side of the mark that has earned it something.
    part = drafts[pending]
    best = np.where(part.legs.direction > 0, low[-1, part.asset], high[-1, part.asset])
    entry[pending] = part.mark * (1.0 + (best - 1.0) * rng.uniform(0.0, 0.5, len(pending)))
    return entry


def entries_of_equity(
    drafts: Drafts, tables: TierTables, share_of_maintenance: np.ndarray
) -> np.ndarray:
    """Entry price (n,) that leaves, at the mark, this share of the maintenance margin as equity.

    In the coordinate of the payoffs equity is ``size * (entry / leverage + head * (u - entry))``;
    solved for the entry. Leverage must exceed 1.
    """
    legs = drafts.legs
    value = notional(legs.size, drafts.mark, legs.is_inverse)
    wanted = share_of_maintenance * tiered_maintenance(tables, legs.table, value) / legs.size
    head = heading(legs.direction, legs.is_inverse)
    mark = coordinate(drafts.mark, legs.is_inverse)
    entered = (head * mark - wanted) / (head - drafts.margin_multiple / drafts.leverage)
    return coordinate(entered, legs.is_inverse)


def _extremes_since(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest ratio after each day (day, asset), the mark itself included."""
    after_low, after_high = np.ones_like(low), np.ones_like(high)
    for day in range(len(low) - 2, -1, -1):
        after_low[day] = np.minimum(after_low[day + 1], low[day + 1])
        after_high[day] = np.maximum(after_high[day + 1], high[day + 1])
    return after_low, after_high


def _has_room(legs: Legs, price: np.ndarray, tables: TierTables) -> np.ndarray:
    """Whether equity at a price exceeds the requirement on either basis, with some to spare."""
    value = notional(legs.size, price, legs.is_inverse)
    entered = notional(legs.size, legs.entry_price, legs.is_inverse)
    required = tiered_maintenance(tables, legs.table, np.maximum(value, entered))
    fee = STRICT_FEE * np.maximum(value, entered)
    return equity(legs, price) > _ROOM * required + fee
