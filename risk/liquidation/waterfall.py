"""Who pays a deficit: the venue's insurance fund while it lasts, then the winners opposite.

Each venue pays for its own closings, in their order. What its fund cannot pay is taken from open
positions on the other side of the same contract, the highest profit times leverage first: they are
closed at the bankruptcy price of the position they are closed against (auto-deleveraging).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.liquidation.cross import PoolOutcomes
from risk.liquidation.deleverage import (
    Closings,
    Queues,
    append_others,
    close_all,
    room_for,
    settle,
)
from risk.liquidation.impact import Impact
from risk.liquidation.options import Valued
from risk.liquidation.positions import Positions, read_positions, scenario_paths, step_places

VENUE_COLUMNS = (
    "fund_before", "inflow", "deficit", "paid_by_fund", "paid_by_winners", "unpaid",
    "deleveraged_notional",
)  # fmt: skip
WINNER_COLUMNS = ("deleveraged_notional", "paid", "missed")


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
    positions = read_positions(book, list(drivers.asset.values), impact)
    return settle_scenarios(positions, find_parties(positions, funds), drivers, valued, pooled)


class Parties(NamedTuple):
    """Who stands on which side of what, and the funds between them."""

    accounts: list[str]
    venues: list[str]
    account: np.ndarray  # (position,) into the accounts
    venue: np.ndarray  # (position,) into the venues
    fund: np.ndarray  # (venue,) USD
    queues: Queues  # of the positions that are no option and in no pool


def find_parties(positions: Positions, funds: Mapping[str, float]) -> Parties:
    """Group positions by venue, contract and side."""
    venues, venue = positions.codes("venue")
    accounts, account = positions.codes("account")
    symbols, symbol = positions.codes("symbol")
    n = positions.n_alone
    contract = (venue * max(len(symbols), 1) + symbol)[:n]
    _, contract = np.unique(contract, return_inverse=True)
    group = 2 * contract + (positions.closing.terms.direction < 0)
    member = np.argsort(group, kind="stable")
    n_groups = 2 * (int(contract.max(initial=-1)) + 1)
    return Parties(
        accounts,
        venues,
        account,
        venue,
        np.array([funds.get(name, 0.0) for name in venues]),
        Queues(group, np.searchsorted(group[member], np.arange(n_groups + 1)), member),
    )


def settle_scenarios(
    positions: Positions,
    parties: Parties,
    drivers: xr.Dataset,
    valued: Valued | None = None,
    pooled: PoolOutcomes | None = None,
) -> Waterfall:
    """`auto_deleverage` of positions that were read before, for those who come back with more."""
    closing, n = positions.closing, positions.n_alone
    steps = (closing.held, closing.rules, closing.stairs, closing.events)
    which = step_places(closing)
    amounts, lost = positions.others(drivers, valued, pooled)
    n_venues, n_accounts = len(parties.venues), max(len(parties.accounts), 1)
    closings, outcome = room_for(len(parties.venue)), np.empty(n, "i1")
    by_venue, by_account = [], []
    last = drivers["last"].values
    for i, path in enumerate(scenario_paths(closing, drivers)):
        size = close_all(closing.terms, steps, which, *path, closings, outcome)
        size = append_others(
            lost[i], np.ascontiguousarray(amounts[1, i]), np.ascontiguousarray(amounts[2, i]),
            n, closings, size,
        )  # fmt: skip
        hit = Closings(*(column[:size] for column in closings))
        where = parties.venue[hit.position]
        closed = np.flatnonzero(np.bincount(where, minlength=n_venues))
        cuts = settle(
            closing.terms, parties.queues, parties.fund, hit, where, outcome, path[0], last[i]
        )
        mine, theirs = parties.venue[cuts.winner], parties.venue[cuts.loser]
        # Of nobody, bincount counts in whole numbers.
        sums = [
            np.bincount(v, column, n_venues)[closed].astype("f8")
            for v, column in (
                (where, hit.gain), (where, hit.deficit), (np.arange(n_venues), cuts.paid),
                (mine, cuts.taken), (theirs, cuts.unpaid), (mine, cuts.cut),
            )
        ]  # fmt: skip
        pair, place = np.unique(
            mine * n_accounts + parties.account[cuts.winner], return_inverse=True
        )
        venue, who = np.divmod(pair, n_accounts)
        counts = [np.bincount(v, minlength=n_venues)[closed] for v in (mine, venue)]
        by_venue.append((np.full(len(closed), i), closed, parties.fund[closed], *sums, *counts))
        totals = [
            np.bincount(place, column, len(pair)).astype("f8")
            for column in (cuts.cut, cuts.taken, cuts.missed)
        ]
        by_account.append((np.full(len(pair), i), venue, who, *totals))
    scenario_, where, *columns = (np.concatenate(x) for x in zip(*by_venue, strict=True))
    names = pa.array(parties.venues, pa.string())
    table = {"scenario": pa.array(scenario_, pa.int32()), "venue": names.take(pa.array(where))}
    table |= dict(zip(VENUE_COLUMNS, columns[:7], strict=True))
    for name, counted in zip(("positions", "accounts"), columns[7:], strict=True):
        table[f"deleveraged_{name}"] = pa.array(counted, pa.int64())
    scenario_, where, who, *columns = (np.concatenate(x) for x in zip(*by_account, strict=True))
    winners = {
        "scenario": pa.array(scenario_, pa.int32()),
        "venue": names.take(pa.array(where)),
        "account": pa.array(parties.accounts, pa.string()).take(pa.array(who)),
    } | dict(zip(WINNER_COLUMNS, columns, strict=True))
    return Waterfall(pa.table(table), pa.table(winners))
