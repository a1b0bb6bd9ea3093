"""Losses by account: every position a holder has at a venue, closed and added up by scenario.

The positions of a holder lie together, so that a scenario is one pass over the book that keeps
nothing of a position.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.compiled import njit
from risk.liquidation.closing import close_whole
from risk.liquidation.columns import LIQUIDATED, Gaps, Terms
from risk.liquidation.cross import PoolOutcomes
from risk.liquidation.impact import Impact
from risk.liquidation.options import Valued
from risk.liquidation.pegs import prices_of
from risk.liquidation.positions import Positions, read_positions, scenario_paths, step_places
from risk.liquidation.steps import live_through

_PNL, _DEFICIT = 0, 2


class Holders(NamedTuple):
    """The pairs of account and venue of a book, in that order, and their positions."""

    accounts: list[str]
    venues: list[str]
    account: np.ndarray  # (holder,) into the accounts
    venue: np.ndarray  # (holder,) into the venues
    start: np.ndarray  # (holder + 1,) into `alone`
    alone: np.ndarray  # positions that are no option and in no pool
    other_start: np.ndarray  # (holder + 1,) into `other`
    other: np.ndarray  # options and positions in pools, counted from the first of them


class Losses(NamedTuple):
    """One scenario on (holder,): US dollars, and how many positions are liquidated."""

    pnl: np.ndarray
    deficit: np.ndarray
    liquidations: np.ndarray


def find_holders(positions: Positions) -> Holders:
    """Group positions by account and venue; inside a group they stay in order."""
    accounts, account = positions.codes("account")
    venues, venue = positions.codes("venue")
    many = max(len(venues), 1)
    key = account * many + venue
    order = np.argsort(key, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(key[order]) != 0)[: len(order)])
    is_alone = order < positions.n_alone
    # How many of each kind lie before each holder's first.
    ends = np.append(begins, len(order))
    alone = np.append(0, np.cumsum(is_alone))[ends]
    account, venue = np.divmod(key[order[begins]], many)
    return Holders(
        accounts,
        venues,
        account,
        venue,
        alone,
        order[is_alone],
        ends - alone,
        order[~is_alone] - positions.n_alone,
    )


def holder_losses(
    positions: Positions,
    holders: Holders,
    drivers: xr.Dataset,
    valued: Valued | None = None,
    pooled: PoolOutcomes | None = None,
) -> Iterator[Losses]:
    """What every holder loses, scenario by scenario.

    Parameters
    ----------
    positions : Positions
    holders : Holders
        Of the same positions.
    drivers : Dataset
        Driver record.
    valued : Valued, optional
        The options' contracts in these scenarios, if they were valued before.
    pooled : PoolOutcomes, optional
        The account pools in these scenarios, if they were lived before.
    """
    closing = positions.closing
    steps = (closing.held, closing.rules, closing.stairs, closing.events)
    terms, which = closing.terms.take(holders.alone), step_places(closing)[holders.alone]
    coins, coin = positions.codes("settle")
    coin = coin[holders.alone]
    prices = prices_of(drivers, coins)
    amounts, outcome = positions.others(drivers, valued, pooled)
    for i, path in enumerate(scenario_paths(closing, drivers)):
        n = len(holders.account)
        losses = Losses(np.zeros(n), np.zeros(n), np.zeros(n, "i8"))
        _add_alone(terms, steps, which, holders.start, *path, prices[i], coin, losses)
        more = (np.ascontiguousarray(amounts[column, i]) for column in (_PNL, _DEFICIT))
        _add_others(holders.other_start, holders.other, *more, outcome[i], losses)
        yield losses


@njit
def _add_alone(
    terms: Terms, steps: tuple, which: np.ndarray, start: np.ndarray, farthest: np.ndarray,
    last: np.ndarray, gaps: Gaps, price: np.ndarray, coin: np.ndarray, losses: Losses,
) -> None:  # fmt: skip
    """Add up the positions of every holder; `price` in US dollars of each settle currency."""
    for holder in range(len(start) - 1):
        for p in range(start[holder], start[holder + 1]):
            a, s = terms.asset[p], 0 if terms.direction[p] > 0 else 1
            u, usd = farthest[a, s], price[coin[p]]
            rest = (usd - 1.0) * terms.equity[p]
            if terms.first[p] > u:
                losses.pnl[holder] += terms.exposure[p] * (last[a] - 1.0) * usd + rest
                continue
            begin, end = gaps.start[2 * a + s], gaps.start[2 * a + s + 1]
            if which[p] >= 0:
                pnl, short, _, _, _, status, _ = live_through(
                    steps, which[p], gaps, begin, end, u, last[a]
                )
            else:
                closing = terms.first[p]
                for g in range(begin, end):
                    if gaps.before[g] < terms.first[p] <= gaps.landing[g]:
                        closing = gaps.landing[g]
                pnl, _, short, _, _, status = close_whole(
                    closing, s == 0, terms.margin[p], terms.inverse[p], terms.equity[p],
                    terms.exposure[p], terms.closing_fee[p] + terms.impact[p], terms.fee[p],
                    terms.notional[p], terms.to_holder[p], last[a],
                )  # fmt: skip
            losses.pnl[holder] += pnl * usd + rest
            losses.deficit[holder] += short * usd
            losses.liquidations[holder] += status == LIQUIDATED


@njit
def _add_others(
    start: np.ndarray, other: np.ndarray, pnl: np.ndarray, deficit: np.ndarray,
    outcome: np.ndarray, losses: Losses,
) -> None:  # fmt: skip
    """Add the options and the positions in pools of every holder: they are not converted."""
    for holder in range(len(start) - 1):
        for p in other[start[holder] : start[holder + 1]]:
            losses.pnl[holder] += pnl[p]
            losses.deficit[holder] += deficit[p]
            losses.liquidations[holder] += outcome[p] == LIQUIDATED


def account_losses(
    book: pa.Table,
    drivers: xr.Dataset,
    impact: Impact | None = None,
    valued: Valued | None = None,
    pooled: PoolOutcomes | None = None,
) -> pa.Table:
    """P&L, deficit and liquidations of every account that has some, per scenario.

    Parameters
    ----------
    book : Table (position,)
    drivers : Dataset
        Driver record, usually the stresses.
    impact : Impact, optional
        What closing does to the price, as given to `build_ladders`.
    valued : Valued, optional
        The options' contracts in these scenarios, if they were valued before.
    pooled : PoolOutcomes, optional
        The account pools in these scenarios, if they were lived before.

    Returns
    -------
    Table
        `scenario` (index), `account`, `venue`, `pnl_usd`, `deficit_usd`, `liquidations`,
        sorted by scenario, account and venue.
    """
    positions = read_positions(book, list(drivers.asset.values), impact)
    holders = find_holders(positions)
    n, size = drivers.sizes["scenario"], len(holders.account)
    found = [np.empty((n, size)), np.empty((n, size)), np.empty((n, size), "i8")]
    for i, losses in enumerate(holder_losses(positions, holders, drivers, valued, pooled)):
        for column, values in zip(found, losses, strict=True):
            column[i] = values
    accounts, venues = (
        pa.array(names, pa.string()).take(pa.array(codes))
        for names, codes in (
            (holders.accounts, np.tile(holders.account, n)),
            (holders.venues, np.tile(holders.venue, n)),
        )
    )
    return pa.table(
        {
            "scenario": pa.array(np.repeat(np.arange(n), size), pa.int32()),
            "account": accounts,
            "venue": venues,
            "pnl_usd": found[0].ravel(),
            "deficit_usd": found[1].ravel(),
            "liquidations": found[2].ravel(),
        }
    )
