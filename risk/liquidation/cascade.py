"""The cascade: what is closed moves the price for everyone after it, over all venues of an asset.

One sweep per asset and side, in the order of a slow decline (or rise), rewrites every rung: where
on the path it is really hit, and what closing it costs. The ladders then run as before, so that
scenarios pay nothing extra. This is the fixed point with the fewest liquidations.
"""

from __future__ import annotations

import heapq

import numpy as np

from risk.compiled import njit
from risk.liquidation.columns import Events, Held, Rules, Stairs, Terms
from risk.liquidation.impact import MOST
from risk.liquidation.steps import (
    N_COLUMNS,
    RUNG_INTERCEPT,
    RUNG_SHARE,
    moved,
    next_trigger,
    slippage,
    step,
)


def cascade(
    terms: Terms, held: Held, rules: Rules, kappa: np.ndarray, permanent: float
) -> tuple[Terms, Held, Stairs, Events]:
    """Rewrite the triggers and costs of a book whose closing moves the price.

    Parameters
    ----------
    terms : Terms
        Every position; those with a rule are `held`, in the same order.
    held : Held
    rules : Rules
    kappa : ndarray (asset,)
        Impact per square root of a US dollar closed.
    permanent : float
        Share of the impact that stays to the horizon.

    Returns
    -------
    Terms, Held
        With `first` and `margin` on the path without impact, and `impact` of positions closed
        whole the cost of closing in their turn.
    Stairs
        The rungs of `held`.
    Events
    """
    cut = np.flatnonzero(terms.rule >= 0)
    place = np.full(len(terms.row), -1)
    place[cut] = np.arange(len(cut))
    side = (terms.direction < 0).astype("i8")
    able = np.isfinite(terms.first)
    order = np.lexsort((terms.first, 2 * terms.asset + side))
    order = order[able[order]]
    key = (2 * terms.asset + side)[order]
    bounds = np.searchsorted(key, np.arange(2 * len(kappa) + 1))
    most = int(rules.n_tiers.max(initial=0)) + 1

    first, margin, impact = terms.first.copy(), terms.margin.copy(), terms.impact.copy()
    held_first, held_margin = held.first.copy(), held.margin.copy()
    parts, owners, columns, start = [], [], [], [0]
    for group in range(2 * len(kappa)):
        mine = order[bounds[group] : bounds[group + 1]]
        n_cut = int((terms.rule[mine] >= 0).sum())
        rungs, owner = np.empty((n_cut * most, N_COLUMNS)), np.empty(n_cut * most, "i8")
        events = np.empty((len(mine) + n_cut * most, 3))
        n_rungs, n_events = _sweep(
            mine, place, terms, held, rules, kappa[group // 2], group % 2,
            first, margin, impact, held_first, held_margin, rungs, owner, events,
        )  # fmt: skip
        parts.append(rungs[:n_rungs])
        owners.append(owner[:n_rungs])
        columns.append(events[:n_events])
        start.append(start[-1] + n_events)
    joined = np.concatenate([*columns, np.empty((0, 3))])
    owner = np.concatenate([*owners, np.empty(0, "i8")])
    by_owner = np.argsort(owner, kind="stable")
    rung = np.concatenate([*parts, np.empty((0, N_COLUMNS))])[by_owner]
    stairs = Stairs(np.searchsorted(owner[by_owner], np.arange(len(cut) + 1)).astype("i8"), rung)
    trigger, level, base = (np.ascontiguousarray(column) for column in joined.T)
    stays = np.full(len(kappa), permanent)
    return (
        terms._replace(first=first, margin=margin, impact=impact),
        held._replace(first=held_first, margin=held_margin),
        stairs,
        Events(np.array(start, "i8"), trigger, level, base, kappa, stays),
    )


def no_events(n_assets: int) -> Events:
    """A book whose closing moves no price."""
    nothing = np.zeros(n_assets)
    none = np.empty(0)
    return Events(np.zeros(2 * n_assets + 1, "i8"), none, none, none, nothing, nothing)


@njit
def _sweep(
    mine: np.ndarray, place: np.ndarray, terms: Terms, held: Held, rules: Rules, kappa: float,
    side: int, first: np.ndarray, margin: np.ndarray, impact: np.ndarray, held_first: np.ndarray,
    held_margin: np.ndarray, rungs: np.ndarray, owner: np.ndarray, events: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Close the positions `mine`, sorted by trigger, in their turn.

    A cut moves its position's next trigger, which waits in a heap for its own turn. Returns how
    many rungs and events were written.
    """
    # (trigger, position, row of its rung before)
    waiting = [(np.inf, -1, -1)]
    fresh = np.full(N_COLUMNS, np.nan)
    n_rungs, n_events, i = 0, 0, 0
    level, base = -np.inf, 0.0
    while True:
        if i < len(mine) and terms.first[mine[i]] <= waiting[0][0]:
            p, before = mine[i], -1
            trigger, q = terms.first[p], place[p]
            i += 1
        else:
            trigger, q, before = heapq.heappop(waiting)
            p = -1
            if trigger == np.inf:
                break
        factor = moved(side, kappa, base)
        level = max(level, trigger / factor)
        if p >= 0:
            # A stop that an avalanche skips is a liquidation.
            first[p] = level
            margin[p] = max(level, terms.margin[p] / factor)
        if q >= 0:
            if p >= 0:
                held_first[q], held_margin[q] = first[p], margin[p]
            row = rungs[n_rungs]
            is_stop = held_first[q] < held_margin[q] and before < 0
            last = rungs[before] if before >= 0 else fresh
            quantity = step(held, rules, q, level, base, kappa, is_stop, last, row)
            owner[n_rungs] = q
            n_rungs += 1
            if row[RUNG_SHARE] > 0.0:
                after = next_trigger(held, rules, q, row[RUNG_INTERCEPT], row[RUNG_SHARE])
                after = max(after, trigger)
                if after < np.inf:
                    heapq.heappush(waiting, (after, q, n_rungs - 1))
                else:
                    step(held, rules, q, np.inf, 0.0, kappa, False, row, rungs[n_rungs])
                    owner[n_rungs] = q
                    n_rungs += 1
        else:
            inverse = terms.inverse[p]
            mark = abs(level) * factor
            quantity = terms.notional[p] / mark if inverse else terms.notional[p]
            impact[p] = slippage(side, inverse, kappa, base, quantity)
        base += quantity
        events[n_events, 0], events[n_events, 1], events[n_events, 2] = trigger, level, base
        n_events += 1
    return n_rungs, n_events


def stay_moved(events: Events, last: np.ndarray, farthest: np.ndarray) -> np.ndarray:
    """The price at the horizon once the permanent share of the impact is in it.

    Parameters
    ----------
    events : Events
    last : ndarray (asset, scenario)
        Price ratio without impact.
    farthest : ndarray (asset, side, scenario)
        Adverse extremes of the path without impact.

    Returns
    -------
    ndarray (asset, scenario)
        Falls lower it, rises raise it; which came first is not asked.
    """
    if not len(events.level):
        return last
    last = last.copy()
    for group in range(2 * len(last)):
        asset, side = divmod(group, 2)
        begin, end = events.start[group], events.start[group + 1]
        hit = np.searchsorted(events.level[begin:end], farthest[asset, side], side="right")
        base = np.append(0.0, events.base[begin:end])[hit]
        moves = events.permanent[asset] * np.minimum(events.kappa[asset] * np.sqrt(base), MOST)
        last[asset] *= 1.0 - moves if side == 0 else 1.0 + moves
    return last
