"""The slow, obvious twin of the option ladders: one position, one path, one step at a time.

Everything is written from the contract's own words: payoff, premium, collateral, fees. Nothing is
imported from the code it judges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

norm = NormalDist()


@dataclass
class Option:
    """One contract, in the words of its venue."""

    call: bool
    inverse: bool
    strike: float
    index: float
    years: float
    basis: float  # forward over index, less one
    volatility: float
    rounding: float  # what the venue's mark has above the model
    style: str  # deribit or okx
    fee_in_trigger: float
    closing_fee: float
    liquidation_fee: float
    to_holder: bool
    strict: bool

    def mark(self, ratio=1.0, multiple=1.0, elapsed=0.0):
        """Value of one unit in the settle currency; `multiple` is of the 30-day volatility."""
        price, left = self.index * ratio, self.years - elapsed
        if left <= 0:
            gain = max(price - self.strike, 0) if self.call else max(self.strike - price, 0)
            return gain / price if self.inverse else gain
        forward = price * (1 + self.basis) ** (left / self.years)
        days = 365 * self.years
        sigma = self.volatility * multiple ** (1 if days <= 30 else math.sqrt(30 / days))
        sd = sigma * math.sqrt(left)
        d = (math.log(forward) - math.log(self.strike)) / sd
        up, down = d + sd / 2, d - sd / 2
        if self.call:
            value = forward * norm.cdf(up) - self.strike * norm.cdf(down)
        else:
            value = self.strike * norm.cdf(-down) - forward * norm.cdf(-up)
        return max((value / forward if self.inverse else value) + self.rounding, 0.0)

    def needed(self, mark, ratio):
        """Collateral per written unit below which (or at which) the venue closes."""
        unit = 1.0 if self.inverse else self.index * ratio
        if self.style == "okx":
            more = 0.03 * unit
        elif self.call:
            more = 0.075 * unit
        else:
            more = max(0.075 * unit, 0.075 * mark)
        return mark + more + self.fee_in_trigger * unit


@dataclass
class Holding:
    """A position in it."""

    option: Option
    short: bool
    units: float
    collateral: float = 0.0


def live(held, path):
    """Follow a position along steps of (elapsed years, price ratio, volatility multiple).

    Returns a dict of P&L, venue gain, deficit, market cost and notional in US dollars, and whether
    it was liquidated.
    """
    o = held.option
    zero = dict.fromkeys(("pnl", "venue_gain", "deficit", "market_cost", "notional"), 0.0)
    first = o.index if o.inverse else 1.0
    last_price = o.index * path[-1][1]
    final = last_price if o.inverse else 1.0
    paid_out = None
    for elapsed, ratio, multiple in path:
        mark = o.mark(ratio, multiple, elapsed)
        expired = elapsed >= o.years
        if held.short:
            needed = mark if expired else o.needed(mark, ratio)
            backing = held.collateral / held.units
            if backing < needed or (backing == needed and not o.strict):
                return _liquidate(held, mark, ratio, final, zero)
        if expired:
            paid_out = mark
            break
    value = mark if paid_out is None else paid_out
    if held.short:
        before = (held.collateral - held.units * o.mark()) * first
        after = (held.collateral - held.units * value) * final
    else:
        before, after = held.units * o.mark() * first, held.units * value * final
    return zero | {"pnl": after - before, "liquidated": False}


def _liquidate(held, mark, ratio, final, zero):
    o = held.option
    price = o.index * ratio
    unit, dollars = (1.0, price) if o.inverse else (price, 1.0)
    cost = o.closing_fee * unit * held.units
    left = held.collateral - held.units * mark - cost
    deficit, left = max(-left, 0.0), max(left, 0.0)
    fee = min(o.liquidation_fee * unit * held.units, left) if o.to_holder else left
    kept = (left - fee) * (final if o.inverse else 1.0)
    first = o.index if o.inverse else 1.0
    return zero | {
        "pnl": kept - (held.collateral - held.units * o.mark()) * first,
        "venue_gain": fee * dollars,
        "deficit": deficit * dollars,
        "market_cost": cost * dollars,
        "notional": held.units * price,
        "liquidated": True,
    }
