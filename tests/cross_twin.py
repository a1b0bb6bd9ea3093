"""The slow, obvious twin of account pools: wallets in currencies, bisection, one event at a time.

Positions are `tests.brute.Position`; nothing is shared with `risk`. A pool's wallet is a dict of
currency to amount, dollars under ``USD``; each position's own posted wallet is put into it, in the
currency the position settles in, and is remembered for the fee that is taken at its bankruptcy.

A state is a dict of asset to price ratio. Contracts may have prices of their own: a state then also
has ``("mark", name)``, the ratio of a position's contract, and ``("owed", name)``, dollars of
funding owed for it. Along a path funding is paid at its settlements instead, out of the pool.
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
        self.basis = dict.fromkeys(self.positions, 1.0)
        self.paid = dict.fromkeys(self.positions, 0.0)  # in its currency, to the others

    def price(self, asset, x):
        return self.marks[asset] * x[asset]

    def mark(self, name, x):
        """Price of a position's contract."""
        asset, _ = self.positions[name]
        return self.marks[asset] * x.get(("mark", name), x[asset] * self.basis[name])

    def coin(self, name, x):
        """Dollars for one unit of what a position is settled in."""
        asset, position = self.positions[name]
        return self.price(asset, x) if position.inverse else 1.0

    def usd(self, name, x):
        """Value of a position in dollars, its posted wallet and what it paid included."""
        if name in self.stopped:
            currency, amount = self.stopped[name]
            return amount if currency == "USD" else amount * self.price(currency, x)
        amount = self.positions[name][1].equity(self.mark(name, x)) - self.paid[name]
        return amount * self.coin(name, x) - x.get(("owed", name), 0.0)

    def fund(self, name, rate, x):
        """Pay funding on the value at the mark, for a position that is still open."""
        if name in self.open:
            position = self.positions[name][1]
            self.paid[name] += position.direction * position.value(self.mark(name, x)) * rate

    def realise(self, name, left, x):
        """Turn what is left of a position, in dollars, into its currency."""
        asset, position = self.positions[name]
        self.stopped[name] = (
            (asset, left / self.price(asset, x)) if position.inverse else ("USD", left)
        )

    def expire(self, name, x):
        """Settle an open position at the price of its contract."""
        if self.open.pop(name, None) is not None:
            self.realise(name, self.usd(name, x), x)

    def worth(self, x, *, counted=False):
        total = self.cash + sum(self.usd(name, x) for name in self.positions)
        for one in self.holdings:
            value = one.amount * (1.0 if one.asset == "USD" else self.price(one.asset, x))
            total += value * (1 - one.haircut if counted and value > 0 else 1.0)
        return total

    def excess(self, x):
        need = 0.0
        for name, (_, position) in self.open.items():
            price = self.mark(name, x)
            # What the position alone would have to hold.
            own = position.equity(price) - position.excess(price)
            need += own * self.coin(name, x)
        return self.worth(x, counted=True) - need

    def cost(self, name, x):
        _, position = self.positions[name]
        return position.closing_fee * position.value(self.mark(name, x)) * self.coin(name, x)

    def stop(self, name, x):
        self.open.pop(name)
        self.costs[name] = self.cost(name, x)
        self.realise(name, self.usd(name, x) - self.costs[name], x)
        self.stops += 1

    def liquidate(self, x, last):
        """Deficit, venue gain, and what the holder has at the horizon."""
        dollars, coins, fees = self.cash, {}, 0.0
        worth, counted = self.worth(x), self.worth(x, counted=True)
        for name, (asset, position) in self.positions.items():
            value = self.usd(name, x)
            if name in self.open:
                size = position.value(self.mark(name, x)) * self.coin(name, x)
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

    def of(asset, x):
        """What a state says of one asset and of the contracts in it."""
        mine = {name for name, (own, _) in pool.positions.items() if own == asset}
        return {key: x[key] for key in x if key == asset or (key not in assets and key[1] in mine)}

    def left(asset, x):
        everywhere = dict.fromkeys(assets, 1.0)
        return pool.excess(everywhere | of(asset, x))

    worse = {
        a: "low" if left(a, frame["low"]) <= left(a, frame["high"]) else "high" for a in assets
    }
    other = {a: "high" if end == "low" else "low" for a, end in worse.items()}
    ways = []
    for ends in (worse, other):
        lists = {a: frame["falls" if ends[a] == "low" else "rises"] for a in assets}
        most = max(len(one) for one in lists.values())
        extreme = {}
        for a in assets:
            extreme |= of(a, frame[ends[a]])
        gaps = []
        for g in range(most):
            point, landing = {}, {}
            for a, mine in lists.items():
                at = g - (most - len(mine))
                if not mine:
                    states = extreme, extreme
                elif at < 0:
                    states = mine[0][0], mine[0][0]
                else:
                    states = mine[at]
                point |= of(a, states[0])
                landing |= of(a, states[1])
            gaps.append((point, landing))
        ways.append((extreme, gaps))
    return ways


def live_pool(pool, frames, assets, last, *, worst=False):
    """Live through frames: dicts with `falls` and `rises` (lists of (before, landing)), `low`,
    `high`, `last` and `jumps` (list of states), each state a dict of asset to ratio; perhaps also
    `fund` and `basis` (dicts of name to rate and to factor) and `expire` (names), which happen at
    once after the jumps.

    Returns a dict: died, deficit, venue_gain, pnl.
    """
    start = dict.fromkeys(assets, 1.0)
    before = pool.worth(start)
    here = {key: float(key in assets or key[0] == "mark") for key in frames[0]["low"]}
    result = None

    def passed(position, level, x):
        return x <= level if position.direction > 0 else x >= level

    def ratio(name, x):
        return pool.mark(name, x) / pool.marks[pool.positions[name][0]]

    def turn(frame):
        for name, rate in frame.get("fund", {}).items():
            pool.fund(name, rate, here)
        pool.basis |= frame.get("basis", {})
        closed = jump(here)
        for name in frame.get("expire", ()) if closed is None else ():
            pool.expire(name, here)
        return closed

    def jump(there):
        nonlocal here
        if pool.excess(there) <= 0:
            return there
        fired = [
            name
            for name, (_, position) in pool.open.items()
            if position.stop is not None
            and passed(position, position.stop / position.mark, ratio(name, there))
        ]
        for name in fired:
            pool.stop(name, there)
        here = dict(there)
        return there if fired and pool.excess(there) <= 0 else None

    def drift(there):
        nonlocal here

        def line(t):
            return {key: here[key] + t * (there[key] - here[key]) for key in there}

        begin = 0.0
        while True:
            times = []
            for name, (_, position) in pool.open.items():
                if position.stop is None:
                    continue
                level = position.stop / position.mark
                left, ahead = ratio(name, here), ratio(name, there)
                if passed(position, level, ahead):
                    times.append(((level - left) / (ahead - left), name))
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
            yield turn, frame

    for move, there in events():
        closed = move(there)
        if closed is not None:
            result = pool.liquidate(closed, last)
            break
    if result is None:
        return {"died": False, "deficit": 0.0, "venue_gain": 0.0, "pnl": pool.worth(last) - before}
    deficit, venue, final = result
    return {"died": True, "deficit": deficit, "venue_gain": venue, "pnl": final - before}
