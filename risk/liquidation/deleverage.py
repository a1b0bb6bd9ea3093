"""One scenario's deficits: the order of closings, the funds, and the queues of winners.

`risk.liquidation.waterfall` says what is settled and adds it up.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from risk.compiled import njit
from risk.liquidation.closing import close_whole
from risk.liquidation.columns import SURVIVED, Gaps, Terms
from risk.liquidation.steps import live_through

#: A fund that exceeds the deficits by this share lasts, whatever the order they come in.
_LASTS = 1e-9


class Closings(NamedTuple):
    """What was closed or cut in one scenario, in the order of the positions."""

    position: np.ndarray
    gain: np.ndarray  # USD, as the others
    deficit: np.ndarray
    size: np.ndarray  # notional at the closing price
    price: np.ndarray  # ratio


class Queues(NamedTuple):
    """Contracts at a venue and their sides, of the positions that can be cut."""

    group: np.ndarray  # (position,); the last bit is the side
    start: np.ndarray  # (group + 1,) into `member`
    member: np.ndarray  # positions by group, in their order


class Cuts(NamedTuple):
    """Who paid in one scenario, USD; positions in order."""

    paid: np.ndarray  # (venue,) by the funds
    loser: np.ndarray  # positions whose deficit was not paid whole
    unpaid: np.ndarray  # (loser,)
    winner: np.ndarray  # positions that were cut
    cut: np.ndarray  # (winner,) notional
    taken: np.ndarray
    missed: np.ndarray


def room_for(n: int) -> Closings:
    """Room for the closings of any scenario of `n` positions."""
    return Closings(np.empty(n, "i8"), *(np.empty(n) for _ in range(4)))


def settle(
    terms: Terms, queues: Queues, fund: np.ndarray, hit: Closings, where: np.ndarray,
    outcome: np.ndarray, farthest: np.ndarray, last: np.ndarray,
) -> Cuts:  # fmt: skip
    """Let the funds pay, then the winners; only where a fund may not last does the order matter.

    Parameters
    ----------
    terms : Terms
    queues : Queues
    fund : ndarray (venue,)
        Balances, USD.
    hit : Closings
    where : ndarray (closing,)
        Venue of each.
    outcome : ndarray (position,)
    farthest : ndarray (asset, side)
    last : ndarray (asset,)
    """
    n = len(terms.row)
    total = np.bincount(where, hit.deficit, len(fund)).astype("f8")
    is_short = total > fund * (1.0 - _LASTS)
    paid = np.where(is_short, 0.0, total)
    none, nothing = np.empty(0, "i8"), np.empty(0)
    if not is_short.any():
        return Cuts(paid, none, nothing, none, nothing, nothing, nothing)
    touched = np.flatnonzero(is_short[where] & ((hit.gain > 0) | (hit.deficit > 0)))
    n_alone = int(np.searchsorted(hit.position[touched], n))
    alone, rest = touched[:n_alone], touched[n_alone:]
    position = hit.position[alone]
    asset, side = terms.asset[position], (terms.direction[position] < 0).astype("i8")
    extreme = np.abs(farthest[asset, side])
    # As if every asset went to its extreme in a straight line.
    way = (hit.price[alone] - 1.0) / np.where(extreme == 1.0, 1.0, extreme - 1.0)
    # Most are closed where a jump lands, at the end of the way: those are in order as they are.
    is_last = way == way.max(initial=-np.inf)
    sooner = np.flatnonzero(~is_last)
    sooner = sooner[np.argsort(way[sooner], kind="stable")]
    order = np.concatenate([alone[sooner], alone[is_last], rest])
    given = np.zeros(len(where))
    pay(order, where, hit.gain, hit.deficit, fund.copy(), given)
    paid += np.bincount(where, given, len(paid))
    left = hit.deficit - given
    loser = touched[left[touched] > 0]
    unpaid = left.copy()  # of options and pools, all of it
    short = order[left[order] > 0]
    short = short[hit.position[short] < n]
    if not len(short):
        return Cuts(paid, hit.position[loser], unpaid[loser], none, nothing, nothing, nothing)
    unpaid[short] = 0.0
    group = queues.group[hit.position[short]] ^ 1
    winners, start = _line_up(terms, queues, np.unique(group), outcome, farthest)
    place = np.searchsorted(np.unique(group), group)
    cut, taken, missed = (np.zeros(len(winners)) for _ in range(3))
    deleverage(
        terms, hit, short, place, winners, start, last, left, unpaid, cut, taken, missed
    )  # fmt: skip
    kept = np.flatnonzero(cut > 0)
    kept = kept[np.argsort(winners[kept])]
    columns = (winners, cut, taken, missed)
    return Cuts(paid, hit.position[loser], unpaid[loser], *(column[kept] for column in columns))


def _line_up(
    terms: Terms, queues: Queues, groups: np.ndarray, outcome: np.ndarray, farthest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The open positions of some groups, the best first, and where each group begins."""
    lines = [queues.member[queues.start[group] : queues.start[group + 1]] for group in groups]
    start = np.append(0, np.cumsum([len(line) for line in lines]))
    member = np.concatenate(lines)
    alive = np.flatnonzero(outcome[member] == SURVIVED)
    member, start = member[alive], np.searchsorted(alive, start)
    here = terms.take(member)
    rank = ranking(here, np.abs(farthest[here.asset, 1 - (here.direction < 0)]))
    for begin, end in pairwise(start):
        member[begin:end] = member[begin:end][np.argsort(-rank[begin:end], kind="stable")]
    return member, start


def ranking(terms: Terms, x: np.ndarray) -> np.ndarray:
    """Place of every position in the queue: return times leverage if it wins, else divided by it.

    Parameters
    ----------
    terms : Terms
    x : ndarray (position,)
        Price ratio the profit and the leverage are taken at.

    Returns
    -------
    ndarray (position,)
        The greatest is deleveraged first. Return is profit over the value at entry, leverage the
        value over the equity, both at `x`.
    """
    value = np.where(terms.inverse, terms.notional / x, terms.notional * x)
    gain = terms.direction * np.where(terms.inverse, terms.entered - value, value - terms.entered)
    equity = terms.equity + terms.exposure * (x - 1.0)
    worth = np.where(terms.inverse, terms.notional, value)
    leverage = worth / np.maximum(equity, 1e-12 * worth)
    earned = gain / terms.entered
    return np.where(earned > 0, earned * leverage, earned / leverage)


@njit
def close_all(
    terms: Terms, steps: tuple, which: np.ndarray, farthest: np.ndarray, last: np.ndarray,
    gaps: Gaps, closings: Closings, outcome: np.ndarray,
) -> int:  # fmt: skip
    """Close every position in one scenario; write down those that are, and return how many.

    The closing price of a position that was cut is that of the last landing.
    """
    n = 0
    for p in range(len(terms.first)):
        a, s, first = terms.asset[p], 0 if terms.direction[p] > 0 else 1, terms.first[p]
        u = farthest[a, s]
        outcome[p] = SURVIVED
        if first > u:
            continue
        begin, end = gaps.start[2 * a + s], gaps.start[2 * a + s + 1]
        at = closing = first
        for g in range(begin, end):
            landing = gaps.landing[g]
            if first <= landing and gaps.before[g] < first:
                closing = landing
            if first <= landing and (terms.rule[p] >= 0 or gaps.before[g] < first):
                at = landing
        if which[p] >= 0:
            _, short, gain, _, size, status, _ = live_through(
                steps, which[p], gaps, begin, end, u, last[a]
            )
        else:
            _, gain, short, _, size, status = close_whole(
                closing, s == 0, terms.margin[p], terms.inverse[p], terms.equity[p],
                terms.exposure[p], terms.closing_fee[p] + terms.impact[p], terms.fee[p],
                terms.notional[p], terms.to_holder[p], last[a],
            )  # fmt: skip
        outcome[p] = status
        if status == SURVIVED:
            continue
        closings.position[n], closings.gain[n], closings.deficit[n] = p, gain, short
        closings.size[n], closings.price[n] = size, abs(at)
        n += 1
    return n


@njit
def append_others(
    outcome: np.ndarray, gain: np.ndarray, deficit: np.ndarray, first: int, closings: Closings,
    n: int,
) -> int:  # fmt: skip
    """Add the closed options and positions in pools, which are counted from `first` on."""
    for p in range(len(outcome)):
        if outcome[p] != SURVIVED:
            closings.position[n] = first + p
            closings.gain[n], closings.deficit[n] = gain[p], deficit[p]
            n += 1
    return n


@njit
def pay(
    order: np.ndarray, venue: np.ndarray, gain: np.ndarray, deficit: np.ndarray, fund: np.ndarray,
    paid: np.ndarray,
) -> None:  # fmt: skip
    """Run the funds through the closings in `order`; what they pay goes into `paid`."""
    for p in order:
        v = venue[p]
        fund[v] += gain[p]
        paid[p] = min(deficit[p], fund[v])
        fund[v] -= paid[p]


@njit
def deleverage(
    terms: Terms, hit: Closings, short: np.ndarray, queue: np.ndarray, winners: np.ndarray,
    start: np.ndarray, last: np.ndarray, left: np.ndarray, unpaid: np.ndarray, cut: np.ndarray,
    taken: np.ndarray, missed: np.ndarray,
) -> None:  # fmt: skip
    """Take the deficits `left` of the closings `short`, in their order, from the winners.

    `queue` (short,) says whose turn it is: the winners from its `start` on. Of what a position was
    closed for, US dollars at the mark, the part whose deficit is left is closed against them. No
    winner pays more than the equity behind what is cut of it.
    """
    at = start.copy()
    room = np.empty(len(winners))
    for place in range(len(winners)):
        room[place] = terms.notional[winners[place]]
    for k in range(len(short)):
        c, q = short[k], queue[k]
        p, x = hit.position[c], hit.price[c]
        size = (1.0 if terms.inverse[p] else 1.0 / x) * hit.size[c]
        size = min(size, terms.notional[p]) if size > 0.0 else terms.notional[p]
        need = size * left[c] / hit.deficit[c]
        open_, rate = need, left[c] / need
        while open_ > 0.0 and at[q] < start[q + 1]:
            place = at[q]
            w = winners[place]
            part = min(open_, room[place])
            equity = terms.equity[w] + terms.exposure[w] * (x - 1.0)
            most = max(equity, 0.0) * part / terms.notional[w]
            due = rate * part
            give = min(due, most)
            unpaid[c] += due - give
            taken[place] += give
            cut[place] += part * (1.0 if terms.inverse[w] else x)
            # What closing it here instead of keeping it changes at the horizon.
            end = last[terms.asset[w]]
            later = end / x - 1.0 if terms.inverse[w] else end - x
            missed[place] += terms.direction[w] * part * later
            if terms.inverse[w]:
                missed[place] += give * later
            room[place] -= part
            open_ -= part
            if room[place] <= 0.0:
                at[q] += 1
        unpaid[c] += rate * open_
