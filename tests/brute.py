"""The slow, obvious twin: one position, one path, one step at a time, in the contract's own terms.

Nothing here is shared with `risk`: amounts are in the settle currency, triggers come by bisection,
a cut realises its profit into the wallet, and the path is a list of steps. It exists to disagree
with the ladders when they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache


@dataclass(frozen=True)
class Position:
    """An isolated position; `size` is base units if linear, face USD if inverse."""

    inverse: bool
    direction: int
    size: float
    entry: float
    mark: float
    wallet: float
    tiers: tuple  # (floor, rate, amount) in the settle currency
    fee_in_trigger: float
    closing_fee: float
    liquidation_fee: float
    to_holder: bool
    entry_basis: bool = False
    fee_at_bankruptcy: bool = False
    tiers_per_step: int | None = None  # None: closed whole
    tier: int = 10**6  # never above the one it was last cut to
    stop: float | None = None  # price
    impact: float = 0.0  # of the closed value, for closing `original` size
    original: float = 0.0

    def equity(self, price):
        """In the settle currency."""
        return self.wallet + self.profit(self.size, price)

    def profit(self, size, price):
        """Gain of `size` since entry."""
        if self.inverse:
            return self.direction * size * (1 / self.entry - 1 / price)
        return self.direction * size * (price - self.entry)

    def value(self, price, size=None):
        """Notional in the settle currency."""
        size = self.size if size is None else size
        return size / price if self.inverse else size * price

    def tested_value(self, price):
        """The notional that picks the tier."""
        return self.value(self.entry if self.entry_basis else price)

    def bankruptcy_value(self):
        """Notional at the price where the wallet is used up; 0 if there is none."""
        if self.inverse:
            return max(self.size / self.entry + self.direction * self.wallet, 0.0)
        return max(self.size * self.entry - self.direction * self.wallet, 0.0)

    def excess(self, price):
        """Equity over the requirement; liquidated where it is at or below zero."""
        tested = self.tested_value(price)
        need = max(rate * tested - amount for _, rate, amount in self.tiers)
        fee_value = self.bankruptcy_value() if self.fee_at_bankruptcy else self.value(price)
        return self.equity(price) - need - self.fee_in_trigger * fee_value

    def cost(self, size, price):
        """Market cost of closing `size`."""
        impact = self.impact * (size / self.original) ** 0.5 if self.impact else 0.0
        return (self.closing_fee + impact) * self.value(price, size)

    @cache  # noqa: B019 - a frozen value, and the tests end
    def trigger(self):
        """Liquidation price by bisection; None if no price liquidates, the mark if every one does.

        From the most adverse price worth the name to the most favourable one.
        """
        bad, good = (1e-9, 1e9) if self.direction > 0 else (1e9, 1e-9)
        bad, good = bad * self.mark, good * self.mark
        if self.excess(bad) > 0:
            return None
        if self.excess(good) <= 0:
            return good
        for _ in range(130):
            middle = (good * bad) ** 0.5
            if self.excess(middle) > 0:
                good = middle
            else:
                bad = middle
        return bad


@dataclass
class Outcome:
    """What a path does to a position, in USD; `drift` is what the moves between closes earned."""

    pnl: float = 0.0
    venue_gain: float = 0.0
    deficit: float = 0.0
    market_cost: float = 0.0
    liquidations: int = 0
    stops: int = 0
    liquidated_notional: float = 0.0
    drift: float = 0.0


def live_through(position, path, trigger_ratio, stop_ratio):
    """Walk `path`, a list of ("drift" or "jump", ratio to the mark), and return the outcome.

    The two ratios are given so that both twins round the first trigger the same way.
    """
    mark = position.mark
    start = _usd(position, mark)
    out = Outcome()
    here, trigger, stop = 1.0, trigger_ratio, stop_ratio

    def is_hit(level, x):
        if level is None:
            return False
        return x <= level if position.direction > 0 else x >= level

    for kind, target in path:
        while position.size and (is_hit(stop, target) or is_hit(trigger, target)):
            price = target
            if kind == "drift":
                price = stop if stop is not None and not is_hit(trigger, stop) else trigger
                # A trigger already passed, after a cut that did not heal, is hit here and now.
                price = here if is_hit(price, here) else price
            liquidated = is_hit(trigger, price)
            out.drift += _usd(position, price * mark) - _usd(position, here * mark)
            here = price
            position = _act(position, price * mark, liquidated, out)
            stop = None  # the venue cancels open orders before it liquidates
            level = position.trigger() if position.size else None
            trigger = None if level is None else level / mark
        out.drift += _usd(position, target * mark) - _usd(position, here * mark)
        here = target
    out.liquidations = min(out.liquidations, 1)
    out.pnl = _usd(position, here * mark) - start
    return out


def _usd(position, price):
    amount = position.equity(price)
    return amount * price if position.inverse else amount


def _act(position, price, liquidated, out):
    """Close the position, or cut it; returns what is left of it."""
    to_usd = price if position.inverse else 1.0
    room = position.equity(price) - position.cost(position.size, price)
    size, fee = position.size, 0.0
    tested = position.tested_value(price)
    tier = sum(tested > floor for floor, _, _ in position.tiers[1:])
    tier = min(tier, position.tier)
    is_cut = (
        liquidated
        and room >= 0
        and position.tiers_per_step is not None
        and tier >= position.tiers_per_step
    )
    if is_cut:
        tier -= position.tiers_per_step
        size -= position.size * position.tiers[tier + 1][0] / tested
    if liquidated and room >= 0:
        fee = min(position.liquidation_fee * position.value(price, size), room)
        if not is_cut and not position.to_holder:
            fee = room
    cost = position.cost(size, price)
    wallet = position.wallet + position.profit(size, price) - cost - fee
    out.market_cost += cost * to_usd
    out.venue_gain += fee * to_usd
    if liquidated:
        out.liquidations += 1
        out.liquidated_notional += position.value(price, size) * to_usd
    else:
        out.stops += 1
    if not is_cut:
        out.deficit += max(-wallet, 0.0) * to_usd
        return replace(position, size=0.0, wallet=max(wallet, 0.0))
    return replace(position, size=position.size - size, wallet=wallet, tier=tier)


def record(path):
    """Low, high, last and the gap list of a path, read off step by step."""
    low = high = here = 1.0
    gaps = []
    for kind, target in path:
        if kind == "jump" and target < low:
            gaps.append((-1, low, target))
        if kind == "jump" and target > high:
            gaps.append((1, high, target))
        low, high, here = min(low, target), max(high, target), target
    return low, high, here, gaps
