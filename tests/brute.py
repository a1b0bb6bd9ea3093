"""The slow, obvious twin: one position, one path, one step at a time, in the contract's own terms.

Nothing here is shared with `risk`: amounts are in the settle currency, triggers come by bisection,
and the path is a list of steps. It exists to disagree with the ladders when they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """An isolated position; `size` is base units if linear, face USD if inverse."""

    inverse: bool
    direction: int
    size: float
    entry: float
    mark: float
    wallet: float
    maintenance_rate: float
    fee_in_trigger: float
    closing_fee: float
    liquidation_fee: float
    to_holder: bool
    stop: float | None = None  # price

    def equity(self, price):
        """In the settle currency."""
        if self.inverse:
            return self.wallet + self.direction * self.size * (1 / self.entry - 1 / price)
        return self.wallet + self.direction * self.size * (price - self.entry)

    def value(self, price):
        """Notional in the settle currency."""
        return self.size / price if self.inverse else self.size * price

    def excess(self, price):
        """Equity over the requirement; liquidated where it is at or below zero."""
        need = (self.maintenance_rate + self.fee_in_trigger) * self.value(price)
        return self.equity(price) - need

    def trigger(self):
        """Liquidation price by bisection, or None."""
        if self.excess(self.mark) <= 0:
            raise ValueError("already liquidatable")
        good, bad = self.mark, self.mark * (1e-9 if self.direction > 0 else 1e9)
        if self.excess(bad) > 0:
            return None
        for _ in range(200):
            middle = (good * bad) ** 0.5
            if self.excess(middle) > 0:
                good = middle
            else:
                bad = middle
        return bad


@dataclass
class Outcome:
    """What a path does to a position, in USD."""

    pnl: float = 0.0
    venue_gain: float = 0.0
    deficit: float = 0.0
    market_cost: float = 0.0
    liquidations: int = 0
    stops: int = 0
    liquidated_notional: float = 0.0


def live_through(position, path, trigger_ratio, stop_ratio):
    """Walk `path`, a list of ("drift" or "jump", ratio to the mark), and return the outcome.

    The two ratios are given so that both twins round the trigger the same way.
    """
    here = 1.0
    adverse = (lambda x, level: x <= level) if position.direction > 0 else (lambda x, lv: x >= lv)
    for kind, target in path:
        hit_stop = stop_ratio is not None and adverse(target, stop_ratio)
        hit_margin = trigger_ratio is not None and adverse(target, trigger_ratio)
        if hit_stop or hit_margin:
            if kind == "drift":
                close = stop_ratio if hit_stop else trigger_ratio
                liquidated = not hit_stop
            else:
                close, liquidated = target, hit_margin
            return _close(position, close, path[-1][1], liquidated)
        here = target
    final = here * position.mark
    return Outcome(pnl=_usd(position, final, final) - _usd(position, position.mark, position.mark))


def _usd(position, equity_price, usd_price):
    amount = position.equity(equity_price)
    return amount * usd_price if position.inverse else amount


def _close(position, close_ratio, last_ratio, liquidated):
    price, final = close_ratio * position.mark, last_ratio * position.mark
    to_usd = price if position.inverse else 1.0
    closed = position.value(price)
    cost = position.closing_fee * closed
    left = position.equity(price) - cost
    out = Outcome(market_cost=cost * to_usd)
    if liquidated:
        out.liquidations, out.liquidated_notional = 1, closed * to_usd
    else:
        out.stops = 1
    if left < 0:
        out.deficit, left = -left * to_usd, 0.0
    elif liquidated:
        taken = min(position.liquidation_fee * closed, left) if position.to_holder else left
        out.venue_gain, left = taken * to_usd, left - taken
    before = _usd(position, position.mark, position.mark)
    out.pnl = left * (final if position.inverse else 1.0) - before
    return out


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
