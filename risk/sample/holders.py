"""Who holds the sample's positions: accounts of five books, each on one venue, with a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from risk.sample.contracts import KINDS, Listing
from risk.sample.venues import VENUES

LEVERAGES = np.array([1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 25.0, 50.0, 75.0, 100.0, 125.0])


class Book(NamedTuple):
    """How the accounts of one book behave.

    `accounts` is the book's share of the accounts and `more_positions` the mean number after the
    first. Sizes are Pareto: `least_usd` and up with exponent `tail`, cut at `largest` times the
    least. `age_days` is the mean age of a position, `leverage` the weight of each of `LEVERAGES`.
    """

    name: str
    accounts: float
    more_positions: float
    least_usd: float
    tail: float
    largest: float
    long_share: float
    age_days: float
    n_assets: int
    leverage: tuple[float, ...]
    venues: tuple[str, ...]


_LARGE = ("binance", "bybit", "okx")
_ALL = tuple(venue.name for venue in VENUES)
BOOKS = (
    Book("retail", 0.80, 1.4, 1_200.0, 1.1, 2_000.0, 0.585, 4.0, 99,
         (2, 4, 8, 16, 25, 16, 8, 11, 3, 5, 2), _ALL),
    Book("vip", 0.10, 4.0, 12_000.0, 1.2, 300.0, 0.57, 5.0, 99,
         (3, 10, 18, 24, 23, 9, 5, 5, 1, 2, 0), _ALL),
    Book("affiliate", 0.07, 1.2, 1_500.0, 1.1, 1_500.0, 0.62, 2.5, 99,
         (1, 3, 6, 14, 24, 20, 9, 13, 3, 5, 2), ("gate", "kucoin")),
    Book("institutional", 0.015, 5.0, 60_000.0, 1.3, 80.0, 0.53, 12.0, 8,
         (18, 28, 26, 18, 8, 2, 0, 0, 0, 0, 0), ("binance", "okx", "bitmex", "deribit")),
    Book("market_maker", 0.01, 22.0, 30_000.0, 1.4, 60.0, 0.50, 1.5, 99,
         (4, 12, 24, 30, 22, 6, 2, 0, 0, 0, 0), _LARGE),
)  # fmt: skip
#: Arbitrage sells what is dear: holders of dated futures are short more often.
_DATED_LONG_SHARE = 0.45
#: Positions in an asset grow with its share of the market to this power.
_SIZE_OF_SHARE = 0.2
_REDRAWS = 6


@dataclass(frozen=True)
class Holders:
    """One entry per position: its account, book, contract, direction and wished-for size."""

    account: np.ndarray
    book: np.ndarray
    contract: np.ndarray
    direction: np.ndarray
    size_usd: np.ndarray


def draw_holders(n: int, listing: Listing, share: np.ndarray, rng: np.random.Generator) -> Holders:
    """Draw the accounts of `n` positions and what each position is in.

    Parameters
    ----------
    n : int
        Number of positions.
    listing : Listing
        Contracts.
    share : ndarray (asset,)
        Share of each asset in the notional.
    rng : Generator
        The only source of randomness.

    Returns
    -------
    Holders
        Positions of one account stand together; no account holds the same side of a contract
        twice.
    """
    weights = np.array([book.accounts for book in BOOKS])
    mean = float(weights @ np.array([1.0 + book.more_positions for book in BOOKS]))
    n_accounts = int(1.25 * n / mean) + 60
    book = rng.choice(len(BOOKS), size=n_accounts, p=weights / weights.sum())
    more = np.array([b.more_positions for b in BOOKS])[book]
    count = np.minimum(rng.geometric(1.0 / (1.0 + more)), 60)
    count[-1] = n
    venue = _draw_venues(book, rng)
    size = _account_sizes(book, rng)
    account = np.repeat(np.arange(n_accounts), count)[:n]
    book, venue = book[account], venue[account]

    contract = _draw_contracts(book, venue, listing, share, rng)
    direction = _draw_sides(book, contract, listing, rng)
    for _ in range(_REDRAWS):
        again = _repeated(account, contract, direction)
        if len(again) == 0:
            break
        contract[again] = _draw_contracts(book[again], venue[again], listing, share, rng)
        direction[again] = _draw_sides(book[again], contract[again], listing, rng)
    again = _repeated(account, contract, direction)
    size_usd = size[account] * np.exp(0.6 * rng.standard_normal(n))
    # The leftovers move to accounts of their own, as a second sub-account would.
    account[again] = n_accounts + np.arange(len(again))
    relative = share[listing.asset[contract]] * len(share)
    return Holders(account, book, contract, direction, size_usd * relative**_SIZE_OF_SHARE)


def _account_sizes(book: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Typical notional of an account's positions in USD: a truncated Pareto law per book."""
    least, tail, largest = (
        np.array([getattr(b, name) for b in BOOKS])[book]
        for name in ("least_usd", "tail", "largest")
    )
    uniform = rng.random(len(book)) * (1.0 - largest**-tail)
    return least * (1.0 - uniform) ** (-1.0 / tail)


def _draw_venues(book: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    weight = np.array([[v.positions if v.name in b.venues else 0.0 for v in VENUES] for b in BOOKS])
    cumulative = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    uniform = rng.random(len(book))
    return np.minimum((uniform[:, None] >= cumulative[book]).sum(axis=1), len(VENUES) - 1)


def _draw_contracts(
    book: np.ndarray,
    venue: np.ndarray,
    listing: Listing,
    share: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    rank = np.empty(len(share), dtype=int)
    rank[np.argsort(-share, kind="stable")] = np.arange(len(share))
    uniform = rng.random(len(book))
    contract = np.empty(len(book), dtype=np.int64)
    for b, rules in enumerate(BOOKS):
        for v in range(len(VENUES)):
            mine = np.flatnonzero((book == b) & (venue == v))
            if len(mine) == 0:
                continue
            listed = np.flatnonzero((listing.venue == v) & (rank[listing.asset] < rules.n_assets))
            cumulative = np.cumsum(listing.appeal[listed])
            at = np.searchsorted(cumulative, uniform[mine] * cumulative[-1], side="right")
            contract[mine] = listed[np.minimum(at, len(listed) - 1)]
    return contract


def _draw_sides(
    book: np.ndarray, contract: np.ndarray, listing: Listing, rng: np.random.Generator
) -> np.ndarray:
    is_dated = np.array([kind.endswith("future") for kind in KINDS])[listing.kind[contract]]
    chance = np.array([b.long_share for b in BOOKS])[book]
    chance = np.where(is_dated, np.minimum(chance, _DATED_LONG_SHARE), chance)
    return np.where(rng.random(len(book)) < chance, 1.0, -1.0)


def _repeated(account: np.ndarray, contract: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Positions that repeat an earlier one of the same account, contract and side."""
    key = (account.astype(np.int64) * (contract.max() + 1) + contract) * 2 + (direction > 0)
    _, first = np.unique(key, return_index=True)
    is_repeat = np.ones(len(key), dtype=bool)
    is_repeat[first] = False
    return np.flatnonzero(is_repeat)
