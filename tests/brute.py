"""The slow, obvious twin: one position, one path, one step at a time, in the contract's own terms.

Nothing here is shared with `risk`: amounts are in the settle currency, triggers come by bisection,
a cut realises its profit into the wallet, and the path is a list of steps. It exists to disagree
with the ladders when they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from scipy.integrate import quad


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

    def own_impact(self, size):
        """Fraction that closing `size` alone and at once costs."""
        return self.impact * (size / self.original) ** 0.5 if self.impact else 0.0

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


def live_through(position, path, trigger_ratio, stop_ratio, turn=None, last_ratio=None):
    """Walk `path`, a list of ("drift" or "jump", ratio to the mark), and return the outcome.

    The two ratios are given so that both twins round the first trigger the same way. `turn` is the
    position's `Turn` in a cascade; `last_ratio` the price at the horizon if it is not the path's.
    """
    mark = position.mark
    start = _usd(position, mark)
    out = Outcome()
    turn = turn or Turn(position, trigger_ratio, stop_ratio)
    here = 1.0
    for kind, target in path:
        while position.size and turn.is_hit(turn.level, target):
            price = target
            if kind == "drift":
                # A level already passed, after a cut that did not heal, is hit here and now.
                price = here if turn.is_hit(turn.level, here) else turn.level
            liquidated = turn.is_hit(turn.margin_level, price)
            out.drift += _usd(position, price * mark) - _usd(position, here * mark)
            position = turn.act(position, price, liquidated, out, kind == "jump")
            here = price
        out.drift += _usd(position, target * mark) - _usd(position, here * mark)
        here = target
    last = here if last_ratio is None else last_ratio
    out.drift += _usd(position, last * mark) - _usd(position, here * mark)
    out.liquidations = min(out.liquidations, 1)
    out.pnl = _usd(position, last * mark) - start
    return out


class Turn:
    """When a position is closed or cut next, and what the market then charges.

    On its own: at its trigger, for the impact of its own size.
    """

    def __init__(self, position, trigger_ratio, stop_ratio):
        self.direction = position.direction
        self.margin_level = trigger_ratio
        is_stopped = stop_ratio is not None and not self.is_hit(trigger_ratio, stop_ratio)
        self.level = stop_ratio if is_stopped else trigger_ratio

    def is_hit(self, level, x):
        """Whether the price `x` is at or beyond `level`."""
        if level is None:
            return False
        return x <= level if self.direction > 0 else x >= level

    def tested(self, price):
        """The price a position is tested at, as a ratio."""
        return price

    def slippage(self, position, size, price):
        """Fraction of its value that closing `size` costs."""
        return position.own_impact(size)

    def act(self, position, price, liquidated, out, is_landing):
        """Close or cut the position at a ratio; returns what is left of it."""
        position = _act(self, position, price, liquidated, out)
        level = position.trigger() if position.size else None
        self.level = self.margin_level = None if level is None else level / position.mark
        return position


class CascadeTurn(Turn):
    """In a cascade: in its turn of a slow decline, until a jump skips that turn."""

    def __init__(self, cascade, position, turns):
        self.cascade, self.direction = cascade, position.direction
        self.turns = list(turns)  # (level, base, margin level)
        self._next()

    def _next(self):
        self.level, self.base, self.margin_level = (
            self.turns.pop(0) if self.turns else (None, 0.0, None)
        )

    def tested(self, price):
        return price * self.cascade.factor(self.base)

    def slippage(self, position, size, price):
        return self.cascade.slippage(position, size, self.level, self.base)

    def act(self, position, price, liquidated, out, is_landing):
        before = position
        position = _act(self, position, price, liquidated, out)
        tested = self.tested(self.level)
        closed = self.cascade.quantity(before, before.size - position.size, tested)
        if is_landing:
            self.turns = None
        if self.turns is not None:
            self._next()
            return position
        base = self.base + closed
        self.level = None
        trigger = position.trigger() if position.size else None
        if trigger is not None:
            level, earlier = self.cascade.locate(trigger / position.mark)
            self.level, self.base = self.cascade.later(level, price), max(base, earlier)
        self.margin_level = self.level
        return position


class Cascade:
    """The positions of one asset and direction, closed in the order a slow decline hits them."""

    def __init__(self, positions, triggers, stops, kappa):
        self.kappa, self.direction = kappa, positions[0].direction
        self.events = []  # (price tested, level on the path, closed after it)
        self.turns = [[] for _ in positions]
        waiting = {}
        for i, position in enumerate(positions):
            turn = Turn(position, triggers[i], stops[i])
            if turn.level is not None:
                waiting[i] = (turn.level, turn.margin_level, position)
        base, level = 0.0, None
        while waiting:
            # The next to be tested is the one nearest to the mark.
            i = min(waiting, key=lambda i: (-self.direction * waiting[i][0], i))
            price, margin, position = waiting.pop(i)
            reached = price / self.factor(base)
            level = reached if level is None else self.later(level, reached)
            margin = None if margin is None else self.later(level, margin / self.factor(base))
            self.turns[i].append((level, base, margin))
            turn = CascadeTurn(self, position, [(level, base, margin)])
            left = _act(turn, position, level, turn.is_hit(margin, level), Outcome())
            base += self.quantity(position, position.size - left.size, level * self.factor(base))
            self.events.append((price, level, base))
            trigger = left.trigger() if left.size else None
            if trigger is not None:
                trigger = self.later(price, trigger / left.mark)
                waiting[i] = (trigger, trigger, left)

    def later(self, a, b):
        return min(a, b) if self.direction > 0 else max(a, b)

    def factor(self, base):
        """What the closing so far has made of the price."""
        return 1 - self.direction * min(self.kappa * base**0.5, 0.9)

    def quantity(self, position, size, tested):
        """Base units closed, at the mark in USD."""
        return size / tested if position.inverse else size * position.mark

    def slippage(self, position, size, level, base):
        """Loss to the average price of the fill, found by integrating over it.

        The coins closed are those of the position's own turn, also where a jump skips it.
        """
        amount = self.quantity(position, size, level * self.factor(base))
        lost, _ = quad(
            lambda b: abs(1 - self.factor(b)),
            base, base + amount, epsabs=0, epsrel=1e-12, limit=500,
        )  # fmt: skip
        filled = 1 - self.direction * (lost / amount if amount else 0.0)
        if position.inverse:
            return abs(1 / filled - 1)
        return abs(1 - filled)

    def locate(self, trigger):
        """Where on the path a price is reached, and what is closed before."""
        base, level = 0.0, None
        for price, reached, after in self.events:
            if price != trigger and self.later(price, trigger) == trigger:
                base, level = after, reached
        reached = trigger / self.factor(base)
        return (reached if level is None else self.later(level, reached)), base


def _usd(position, price):
    amount = position.equity(price)
    return amount * price if position.inverse else amount


def _act(turn, position, ratio, liquidated, out):
    """Close the position, or cut it; returns what is left of it."""
    price, tested_price = ratio * position.mark, turn.tested(ratio) * position.mark
    to_usd = price if position.inverse else 1.0

    def cost_of(size):
        rate = position.closing_fee + turn.slippage(position, size, ratio)
        return rate * position.value(price, size)

    room = position.equity(price) - cost_of(position.size)
    size, fee = position.size, 0.0
    tested = position.tested_value(tested_price)
    tier = sum(tested > floor for floor, _, _ in position.tiers[1:])
    tier = min(tier, position.tier)
    is_cut = (
        liquidated
        and room > 1e-9 * position.value(price)  # a fee that took all it may has left nothing
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
    cost = cost_of(size)
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
