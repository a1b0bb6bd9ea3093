"""Who pays a deficit: the venue's insurance fund while it lasts, then the winners opposite.

Each venue pays for its own closings, in their order. What its fund cannot pay is taken from open
positions on the other side of the same contract, the highest profit times leverage first: they are
closed at the bankruptcy price of the position they are closed against (auto-deleveraging).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.compiled import njit
from risk.liquidation.columns import SURVIVED, Gaps, Terms
from risk.liquidation.cross import PoolOutcomes, read_pools
from risk.liquidation.impact import Impact
from risk.liquidation.options import Valued, read_options
from risk.liquidation.positions import other_outcomes, rows_in_pools, scenario_outcomes
from risk.liquidation.terms import Closing, close_out_terms, label_codes
from risk.liquidation.walk import adverse_extremes, gaps_by_scenario

VENUE_COLUMNS = (
    "fund_before", "inflow", "deficit", "paid_by_fund", "paid_by_winners", "unpaid",
    "deleveraged_notional",
)  # fmt: skip
WINNER_COLUMNS = ("deleveraged_notional", "paid", "missed")
_AMOUNTS = ("venue_gain", "deficit", "market_cost", "liquidated_notional")


@dataclass(frozen=True)
class Waterfall:
    """Deficits and who paid them.

    Attributes
    ----------
    venues : Table
        Per scenario (index) and venue with a closing, USD: `fund_before`, `inflow` (fees and
        leftovers), `deficit`, `paid_by_fund`, `paid_by_winners`, `unpaid` (nobody is left to take
        it from) and `deleveraged_notional`; counts `deleveraged_positions` and
        `deleveraged_accounts`. ``deficit = paid_by_fund + paid_by_winners + unpaid``.
    accounts : Table
        Per scenario, venue and account that was deleveraged, USD: `deleveraged_notional` at the
        closing price, `paid` towards deficits, and `missed`, what the closed part would have
        earned from there to the horizon (negative if it would have lost).
    """

    venues: pa.Table
    accounts: pa.Table


def auto_deleverage(
    book: pa.Table,
    drivers: xr.Dataset,
    funds: Mapping[str, float],
    impact: Impact | None = None,
    valued: Valued | None = None,
    pooled: PoolOutcomes | None = None,
) -> Waterfall:
    """Let each venue's insurance fund pay its deficits in order, then deleverage the winners.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    drivers : Dataset
        Driver record; every scenario is gone through position by position.
    funds : mapping of str to float
        Balance of every venue's fund before the scenario, USD; a venue without one has none.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.
    valued : Valued, optional
        The options' contracts in these scenarios, if they were valued before.
    pooled : PoolOutcomes, optional
        The account pools in these scenarios, if they were lived before.

    Returns
    -------
    Waterfall

    Notes
    -----
    The record has no times. Closings are put in order as if every asset went to its extreme in a
    straight line: by the part of the way at which each happens, then by row. A position that is
    closed or cut in the scenario is nobody's counterparty. Winners are ranked at the asset's
    extreme. Written options and account pools come last, and nobody is deleveraged against
    one: what the fund cannot pay of their deficits is unpaid. See `docs/methods/liquidation.md`.
    """
    assets = list(drivers.asset.values)
    closing, options = close_out_terms(book, assets, impact), read_options(book, assets)
    pools = read_pools(book, assets, impact)
    others, lost = other_outcomes(options, pools, drivers, valued, pooled)
    rows = np.concatenate([closing.terms.row, options[1].row, rows_in_pools(pools)])
    priced = book.select(["account", "venue", "symbol"]).take(pa.array(rows))
    venues, venue = label_codes(priced["venue"])
    accounts, account = label_codes(priced["account"])
    symbols, symbol = label_codes(priced["symbol"])
    contract = venue * max(len(symbols), 1) + symbol
    before = np.array([funds.get(name, 0.0) for name in venues])
    by_venue, by_account = [], []
    farthest, last = adverse_extremes(drivers), drivers["last"].values
    outcomes = zip(scenario_outcomes(closing, drivers), gaps_by_scenario(drivers), strict=True)
    for i, (out, gaps) in enumerate(outcomes):
        for name, amount in zip(_AMOUNTS, others[1:], strict=True):
            out[name] = np.concatenate([out[name], amount[i]])
        out["outcome"] = np.concatenate([out["outcome"], lost[i]])
        path = (np.ascontiguousarray(farthest[..., i]), last[i], gaps)
        paid, unpaid, cut, taken, missed = _settle(closing, path, out, before, venue, contract)
        closed = np.unique(venue[out["outcome"] != SURVIVED])
        sums = [
            np.bincount(venue, column, len(venues))[closed]
            for column in (out["venue_gain"], out["deficit"], paid, taken, unpaid, cut)
        ]
        hit = np.flatnonzero(cut > 0)
        pair, place = np.unique(
            venue[hit] * max(len(accounts), 1) + account[hit], return_inverse=True
        )
        where, who = np.divmod(pair, max(len(accounts), 1))
        counts = [np.bincount(v, minlength=len(venues))[closed] for v in (venue[hit], where)]
        by_venue.append((np.full(len(closed), i), closed, before[closed], *sums, *counts))
        # Of nobody, bincount counts in whole numbers.
        amounts = [np.bincount(place, x[hit], len(pair)).astype("f8") for x in (cut, taken, missed)]
        by_account.append((np.full(len(pair), i), where, who, *amounts))
    scenario_, where, *columns = (np.concatenate(x) for x in zip(*by_venue, strict=True))
    names = pa.array(venues, pa.string())
    table = {"scenario": pa.array(scenario_, pa.int32()), "venue": names.take(pa.array(where))}
    table |= dict(zip(VENUE_COLUMNS, columns[:7], strict=True))
    for name, counted in zip(("positions", "accounts"), columns[7:], strict=True):
        table[f"deleveraged_{name}"] = pa.array(counted, pa.int64())
    scenario_, where, who, *columns = (np.concatenate(x) for x in zip(*by_account, strict=True))
    winners = {
        "scenario": pa.array(scenario_, pa.int32()),
        "venue": names.take(pa.array(where)),
        "account": pa.array(accounts, pa.string()).take(pa.array(who)),
    } | dict(zip(WINNER_COLUMNS, columns, strict=True))
    return Waterfall(pa.table(table), pa.table(winners))


def _settle(
    closing: Closing, path: tuple[np.ndarray, np.ndarray, Gaps], out: Mapping[str, np.ndarray],
    funds: np.ndarray, venue: np.ndarray, contract: np.ndarray,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Per position: deficit paid by the fund and unpaid; notional cut, sum taken and missed."""
    terms, n = closing.terms, len(closing.terms.row)
    farthest, last, gaps = path
    side = (terms.direction < 0).astype("i8")
    extreme = np.abs(farthest[terms.asset, side])
    price = np.empty(n)
    closing_prices(terms, gaps, farthest, price)
    closed = np.flatnonzero(
        (out["outcome"] != SURVIVED) & ((out["venue_gain"] > 0) | (out["deficit"] > 0))
    )
    closed, options = closed[closed < n], closed[closed >= n]
    # As if every asset went to its extreme in a straight line.
    way = (price[closed] - 1.0) / np.where(extreme[closed] == 1.0, 1.0, extreme[closed] - 1.0)
    order = closed[np.lexsort((closed, way))]
    paid, unpaid, cut, taken, missed = (np.zeros(len(venue)) for _ in range(5))
    every = np.concatenate([order, options])
    pay(every, venue, out["venue_gain"], out["deficit"], funds.copy(), paid)
    left = out["deficit"] - paid
    unpaid[n:] = left[n:]
    short = order[left[order] > 0]
    if not len(short):
        return paid, unpaid, cut, taken, missed
    alive = np.flatnonzero(out["outcome"][:n] == SURVIVED)
    rank = ranking(terms, np.abs(farthest[terms.asset, 1 - side]))
    # Winners of one contract and side together, the best first.
    key = 2 * contract[:n] + side
    winners = alive[np.lexsort((alive, -rank[alive], key[alive]))]
    start = np.searchsorted(key[winners], np.arange(2 * int(contract.max()) + 3))
    closed_size = np.where(terms.inverse, 1.0, 1.0 / price) * out["liquidated_notional"][:n]
    size = np.where(closed_size > 0, np.minimum(closed_size, terms.notional), terms.notional)
    deleverage(
        terms, short, winners, start, key, price, last[terms.asset], left, out["deficit"], size,
        unpaid, cut, taken, missed,
    )  # fmt: skip
    return paid, unpaid, cut, taken, missed


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
def closing_prices(terms: Terms, gaps: Gaps, farthest: np.ndarray, price: np.ndarray) -> None:
    """Ratio at which each position is closed, 1 if it is not; of cuts, that of the last landing."""
    for p in range(len(terms.first)):
        a, s = terms.asset[p], 0 if terms.direction[p] > 0 else 1
        first = terms.first[p]
        price[p] = 1.0
        if first > farthest[a, s]:
            continue
        at = first
        for g in range(gaps.start[2 * a + s], gaps.start[2 * a + s + 1]):
            if first <= gaps.landing[g] and (terms.rule[p] >= 0 or gaps.before[g] < first):
                at = gaps.landing[g]
        price[p] = abs(at)


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
    terms: Terms, short: np.ndarray, winners: np.ndarray, start: np.ndarray, key: np.ndarray,
    price: np.ndarray, last: np.ndarray, left: np.ndarray, deficit: np.ndarray, size: np.ndarray,
    unpaid: np.ndarray, cut: np.ndarray, taken: np.ndarray, missed: np.ndarray,
) -> None:  # fmt: skip
    """Take the deficits `left` of the positions `short`, in their order, from the winners.

    `size` is what each was closed for, US dollars at the mark; the part of it whose deficit is left
    is closed against winners. No winner pays more than the equity behind what is cut of it.
    """
    at = start.copy()
    room = terms.notional.copy()
    for p in short:
        group = key[p] ^ 1
        x = price[p]
        need = size[p] * left[p] / deficit[p]
        open_, rate = need, left[p] / need
        while open_ > 0.0 and at[group] < start[group + 1]:
            w = winners[at[group]]
            part = min(open_, room[w])
            equity = terms.equity[w] + terms.exposure[w] * (x - 1.0)
            most = max(equity, 0.0) * part / terms.notional[w]
            due = rate * part
            give = min(due, most)
            unpaid[p] += due - give
            taken[w] += give
            cut[w] += part * (1.0 if terms.inverse[w] else x)
            # What closing it here instead of keeping it changes at the horizon.
            later = last[w] / x - 1.0 if terms.inverse[w] else last[w] - x
            missed[w] += terms.direction[w] * part * later
            if terms.inverse[w]:
                missed[w] += give * later
            room[w] -= part
            open_ -= part
            if room[w] <= 0.0:
                at[group] += 1
        unpaid[p] += rate * open_
