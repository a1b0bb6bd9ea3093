"""The slow, obvious twin of account pools: wallets in currencies, bisection, one event at a time.

Positions are `tests.brute.Position`; nothing is shared with `risk`. A pool's wallet is a dict of
currency to amount, dollars under ``USD``; each position's own posted wallet is put into it, in the
currency the position settles in, and is remembered for the fee that is taken at its bankruptcy.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Holding:
    """Collateral beside the positions: a coin (or dollars) with a haircut."""

    asset: str
    amount: float  # coins
    haircut: float


@dataclass
class Pool:
    """Positions as {name: (asset, Position)}, and what else there is."""

    positions: dict
    holdings: list = field(default_factory=list)
    cash: float = 0.0
    to_holder: bool = True
    marks: dict = field(default_factory=dict)

    def __post_init__(self):
        self.open = dict(self.positions)
        self.stopped = {}  # name: (currency, amount)
        self.costs = dict.fromkeys(self.positions, 0.0)
        self.closed = dict.fromkeys(self.positions, 0.0)
        self.stops = 0

    def price(self, asset, x):
        return self.marks[asset] * x[asset]

    def usd(self, name, x):
        """Value of a position in dollars, its posted wallet included."""
        asset, position = self.positions[name]
        if name in self.stopped:
            currency, amount = self.stopped[name]
            return amount if currency == "USD" else amount * self.price(currency, x)
        price = self.price(asset, x)
        amount = position.equity(price)
        return amount * price if position.inverse else amount

    def worth(self, x, *, counted=False):
        total = self.cash + sum(self.usd(name, x) for name in self.positions)
        for one in self.holdings:
            value = one.amount * (1.0 if one.asset == "USD" else self.price(one.asset, x))
            total += value * (1 - one.haircut if counted and value > 0 else 1.0)
        return total

    def excess(self, x):
        need = 0.0
        for asset, position in self.open.values():
            price = self.price(asset, x)
            # What the position alone would have to hold.
            own = position.equity(price) - position.excess(price)
            need += own * price if position.inverse else own
        return self.worth(x, counted=True) - need

    def cost(self, name, x):
        asset, position = self.positions[name]
        price = self.price(asset, x)
        cost = position.closing_fee * position.value(price)
        return cost * price if position.inverse else cost

    def stop(self, name, x):
        asset, position = self.open.pop(name)
        self.costs[name] = self.cost(name, x)
        left = self.usd(name, x) - self.costs[name]
        self.stopped[name] = (
            (asset, left / self.price(asset, x)) if position.inverse else ("USD", left)
        )
        self.stops += 1

    def liquidate(self, x, last):
        """Deficit, venue gain, and what the holder has at the horizon."""
        dollars, coins, fees = self.cash, {}, 0.0
        worth, counted = self.worth(x), self.worth(x, counted=True)
        for name, (asset, position) in self.positions.items():
            value = self.usd(name, x)
            if name in self.open:
                price = self.price(asset, x)
                size = position.value(price) * (price if position.inverse else 1.0)
                cost = self.cost(name, x)
                self.costs[name], self.closed[name] = cost, size
                fees += position.liquidation_fee * size
                worth, counted, value = worth - cost, counted - cost, value - cost
            if position.inverse:
                coins[asset] = coins.get(asset, 0.0) + value
            else:
                dollars += value
        for one in self.holdings:
            if one.asset == "USD":
                dollars += one.amount
            else:
                coins[one.asset] = coins.get(one.asset, 0.0) + one.amount * self.price(one.asset, x)
        self.open = {}
        if worth <= 0:
            return -worth, 0.0, 0.0
        venue = min(fees, worth) if self.to_holder else min(max(counted, 0.0), worth)
        parts = {"USD": max(dollars, 0.0)} | {c: max(v, 0.0) for c, v in coins.items()}
        left, total, final = worth - venue, sum(parts.values()), 0.0
        for currency, part in parts.items():
            move = 1.0 if currency == "USD" else last[currency] / x[currency]
            final += left * part / total * move
        return 0.0, venue, final


def worst_ways(pool, frame, assets):
    """Every asset to its own worse end at once, then every asset to its other end."""

    def left(asset, x):
        everywhere = dict.fromkeys(assets, 1.0)
        return pool.excess(everywhere | {asset: x[asset]})

    worse = {
        a: "low" if left(a, frame["low"]) <= left(a, frame["high"]) else "high" for a in assets
    }
    other = {a: "high" if end == "low" else "low" for a, end in worse.items()}
    ways = []
    for ends in (worse, other):
        lists = {a: frame["falls" if ends[a] == "low" else "rises"] for a in assets}
        most = max(len(one) for one in lists.values())
        extreme = {a: frame[ends[a]][a] for a in assets}
        gaps = []
        for g in range(most):
            point, landing = {}, {}
            for a, mine in lists.items():
                at = g - (most - len(mine))
                if not mine:
                    point[a] = landing[a] = extreme[a]
                elif at < 0:
                    point[a] = landing[a] = mine[0][0][a]
                else:
                    point[a], landing[a] = mine[at][0][a], mine[at][1][a]
            gaps.append((point, landing))
        ways.append((extreme, gaps))
    return ways


def live_pool(pool, frames, assets, last, *, worst=False):
    """Live through frames: dicts with `falls` and `rises` (lists of (before, landing)), `low`,
    `high`, `last` and `jumps` (list of states), each state a dict of asset to ratio.

    Returns a dict: died, deficit, venue_gain, pnl.
    """
    start = dict.fromkeys(assets, 1.0)
    before = pool.worth(start)
    here = dict(start)
    result = None

    def passed(position, level, x):
        return x <= level if position.direction > 0 else x >= level

    def jump(there):
        nonlocal here
        if pool.excess(there) <= 0:
            return there
        fired = [
            name
            for name, (asset, position) in pool.open.items()
            if position.stop is not None
            and passed(position, position.stop / position.mark, there[asset])
        ]
        for name in fired:
            pool.stop(name, there)
        here = dict(there)
        return there if fired and pool.excess(there) <= 0 else None

    def drift(there):
        nonlocal here

        def line(t):
            return {a: here[a] + t * (there[a] - here[a]) for a in assets}

        begin = 0.0
        while True:
            times = []
            for name, (asset, position) in pool.open.items():
                if position.stop is None:
                    continue
                level = position.stop / position.mark
                if passed(position, level, there[asset]):
                    times.append(((level - here[asset]) / (there[asset] - here[asset]), name))
            to, who = min(times, default=(1.0, None))
            if pool.excess(line(to)) <= 0:
                good, bad = begin, to
                for _ in range(100):
                    middle = (good + bad) / 2
                    good, bad = (middle, bad) if pool.excess(line(middle)) > 0 else (good, middle)
                return line(bad)
            if who is None:
                here = dict(there)
                return None
            pool.stop(who, line(to))
            begin = to
            if pool.excess(line(begin)) <= 0:
                return line(begin)

    def events():
        for frame in frames:
            low, high = frame["low"], frame["high"]
            ways = [(low, frame["falls"]), (high, frame["rises"])]
            if worst:
                ways = worst_ways(pool, frame, assets)
            elif pool.excess(low) > pool.excess(high):
                ways.reverse()
            for extreme, gaps in ways:
                for point, landing in gaps:
                    yield drift, point
                    yield jump, landing
                yield drift, extreme
            yield drift, frame["last"]
            for there in frame["jumps"]:
                yield jump, there

    for move, there in events():
        closed = move(there)
        if closed is not None:
            result = pool.liquidate(closed, last)
            break
    if result is None:
        return {"died": False, "deficit": 0.0, "venue_gain": 0.0, "pnl": pool.worth(last) - before}
    deficit, venue, final = result
    return {"died": True, "deficit": deficit, "venue_gain": venue, "pnl": final - before}
