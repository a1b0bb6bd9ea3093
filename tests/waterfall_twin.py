"""The slow twin of the waterfall: purses that cash moves between, one closing after the other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Closed:
    """A closing and what it leaves; amounts in USD, `ratio` to the mark."""

    name: int
    position: object
    ratio: float
    gain: float
    deficit: float
    venue: str
    symbol: str


@dataclass(frozen=True)
class Open:
    """A position that lives on; `rank_at` is the ratio its place in the queue is taken at."""

    position: object
    venue: str
    symbol: str
    rank_at: float


class Purses:
    """Cash by purse; every move leaves the sum where it was, to the cent."""

    def __init__(self, held):
        self.held = dict(held)
        self.total = sum(self.held.values())

    def move(self, source, target, amount):
        self.held[source] = self.held.get(source, 0.0) - amount
        self.held[target] = self.held.get(target, 0.0) + amount
        assert abs(sum(self.held.values()) - self.total) < 0.005, "cash was made or lost"


def usd(position, price):
    amount = position.equity(price)
    return amount * price if position.inverse else amount


def place(position, ratio):
    """Return times leverage of a winner, return divided by leverage of a loser."""
    price = ratio * position.mark
    earned = position.profit(position.size, price) / position.value(position.entry)
    equity = position.equity(price)
    leverage = position.value(price) / equity if equity > 0 else 1e12
    return earned * leverage if earned > 0 else earned / leverage


def settle(closings, alive, funds):
    """Pay deficits in order; returns the purses and {name: [(size, ratio, given), ...]}."""
    purses = Purses({("fund", venue): balance for venue, balance in funds.items()})
    left = {name: one.position.size for name, one in alive.items()}
    parts = {name: [] for name in alive}
    for closed in closings:
        fund, hole = ("fund", closed.venue), ("hole", closed.name)
        purses.move(("closed", closed.name), fund, closed.gain)
        if not closed.deficit:
            continue
        paid = min(closed.deficit, purses.held[fund])
        purses.move(fund, hole, paid)
        size = closed.position.size
        need = size * (1 - paid / closed.deficit)
        queue = [
            name
            for name, one in alive.items()
            if (one.venue, one.symbol) == (closed.venue, closed.symbol)
            and one.position.direction == -closed.position.direction
        ]
        queue.sort(key=lambda name: (-place(alive[name].position, alive[name].rank_at), name))
        for name in queue:
            winner = alive[name].position
            part = min(need, left[name])
            if part <= 0:
                continue
            due = closed.deficit * part / size
            behind = usd(winner, closed.ratio * winner.mark) * part / winner.size
            given = min(due, max(behind, 0.0))
            purses.move(("winner", name), hole, given)
            purses.move(("unpaid", closed.venue), hole, due - given)
            parts[name].append((part, closed.ratio, given))
            left[name] -= part
            need -= part
        purses.move(("unpaid", closed.venue), hole, closed.deficit * need / size)
        assert abs(purses.held[hole] - closed.deficit) < 0.005
    return purses.held, parts


def earned(position, parts, last_ratio):
    """P&L in USD to the horizon of a position of which `parts` were closed on the way."""
    last, size, wallet = last_ratio * position.mark, position.size, position.wallet
    for part, ratio, given in parts:
        price = ratio * position.mark
        wallet += position.profit(part, price) - (given / price if position.inverse else given)
        size -= part
    worth = wallet + position.profit(size, last)
    return (worth * last if position.inverse else worth) - usd(position, position.mark)
