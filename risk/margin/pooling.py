"""Account pools of a book: cross margin, or isolated accounts as if they shared.

A book says of every cross-margined position what its pool holds beside it, as text, so that
whoever has the book can build the pools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.errors import DataError
from risk.margin.partial import StepRule, read_step_rule
from risk.margin.pools import Pools
from risk.schema import USD_EQUIVALENTS

#: Column that a book may have beside its schema: isolated positions to be lived alone through every
#: path, because the funding they may pay moves a trigger too far from where a ladder has it.
APART = "funding_apart"


class Holding(NamedTuple):
    """Collateral of a pool beside its positions."""

    asset: str | None  # None: dollars
    amount_usd: float  # at the mark; below zero: a debt
    haircut: float  # fraction that the test does not count; a debt counts in full


def holdings_text(holdings: Sequence[Holding]) -> str:
    """JSON that `read_holdings` reads back to the same bits."""
    return json.dumps(holdings, separators=(",", ":"))


def read_holdings(text: str) -> list[Holding]:
    """Read what `holdings_text` wrote."""
    return [Holding(*one) for one in json.loads(text)]


def find_balances(
    accounts: pa.Table | None, contracts: pa.Table
) -> tuple[dict[tuple[str, str], list[Holding]], dict[tuple[str, str], str]]:
    """What every account holds at every venue, at the marks, and why some cannot be valued.

    Parameters
    ----------
    accounts, contracts : Table
        Schemas ACCOUNTS and CONTRACTS; a coin is worth the mark of a perpetual on it, the first by
        venue and symbol.

    Returns
    -------
    balances : dict of (account, venue) to list of Holding
        In order of the currencies' names.
    unpriced : dict of (account, venue) to str
        The first currency without a mark.
    """
    found: dict[tuple[str, str], list[Holding]] = {}
    unpriced: dict[tuple[str, str], str] = {}
    if accounts is None:
        return found, unpriced
    marks: dict[str, float] = {}
    listed = contracts.filter(
        pc.and_(pc.equal(contracts["type"], "swap"), pc.greater(contracts["mark_price"], 0.0))
    ).sort_by([("base", "ascending"), ("venue", "ascending"), ("symbol", "ascending")])
    for base, mark in zip(
        listed["base"].to_pylist(), listed["mark_price"].to_pylist(), strict=True
    ):
        marks.setdefault(base, mark)
    names = ("account", "venue", "currency", "balance", "haircut")
    columns = [accounts[name].to_pylist() for name in names]
    for account, venue, currency, balance, haircut in sorted(zip(*columns, strict=True)):
        owner, is_dollar = (account, venue), currency in USD_EQUIVALENTS
        if not is_dollar and currency not in marks:
            unpriced.setdefault(owner, currency)
            continue
        price = 1.0 if is_dollar else marks[currency]
        coin = None if is_dollar else currency
        found.setdefault(owner, []).append(Holding(coin, balance * price, haircut))
    return found, unpriced


def build_pools(
    book: pa.Table,
    rows: np.ndarray,
    assets: Sequence[str],
    impact: np.ndarray | None = None,
    driver: np.ndarray | None = None,
    apart: np.ndarray | None = None,
) -> Pools:
    """Put positions of one account at one venue into one pool each.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    rows : ndarray of int
        Priced rows to take, ascending. An isolated position brings its own equity into its pool; a
        cross-margined one what it has gained, and the pool's holdings.
    assets : sequence of str
        The drivers' assets; every row's asset and every coin held must be among them.
    impact : ndarray (row,), optional
        What closing costs each of `rows` beside its fee, a fraction of the value.
    driver : ndarray of int (row,), optional
        The driver each of `rows` follows: its instrument (`risk.instruments`), or its asset as all
        do when absent.
    apart : ndarray of bool (row,), optional
        Isolated positions that are put into no account's pool but each into one of its own.

    Returns
    -------
    Pools
        Sorted by account and venue, then those of one position; the order of the inputs does not
        matter.

    Raises
    ------
    DataError
        If an asset has no driver.
    """
    taken = book.select(_COLUMNS).take(pa.array(rows))
    _, account = _codes(taken["account"])
    held, venue = _codes(taken["venue"])
    key = account * max(len(held), 1) + venue
    single = np.zeros(len(rows), bool) if apart is None else apart
    key[single] = key.max(initial=0) + 1 + np.asarray(rows)[single]
    pairs, first, pool = np.unique(key, return_index=True, return_inverse=True)
    place = {name: i for i, name in enumerate(assets)}
    columns, tables, rules = _positions(taken, place)
    columns["row"] = np.asarray(rows, "i8")
    columns["driver"] = columns["asset"] if driver is None else np.asarray(driver, "i4")
    if impact is not None:
        columns["closing_fee"] = columns["closing_fee"] + impact
    pooled = np.bincount(pool, columns["notional"], len(pairs))
    columns["share"] = columns["notional"] / pooled[pool]

    cash, extra = _collateral(taken["pool_holdings"].take(pa.array(first)), place)
    columns = {name: np.append(columns[name], extra[name]) for name in columns}
    pool = np.append(pool, extra["pool"])
    order = np.lexsort((columns["row"], columns["asset"], pool))
    columns = {name: column[order] for name, column in columns.items()}
    return Pools(
        start=np.searchsorted(pool[order], np.arange(len(pairs) + 1)).astype("i8"),
        cash=cash,
        is_strict=rules["is_strict"][first],
        to_holder=taken["leftover_to_holder"].to_numpy(zero_copy_only=False)[first].astype(bool),
        apart=single[first],
        **columns,
        **tables,
    )


def pooled_rows(book: pa.Table) -> np.ndarray:
    """Rows of the cross-margined positions that can be priced, ascending."""
    is_pooled = pc.and_(pc.equal(book["status"], "ok"), book["pool_holdings"].is_valid())
    return np.flatnonzero(is_pooled.to_numpy(zero_copy_only=False))


def rows_apart(book: pa.Table) -> np.ndarray:
    """Rows of the isolated positions whose funding is not folded into their price, ascending."""
    if APART not in book.column_names:
        return np.empty(0, "i8")
    is_apart = pc.and_(pc.equal(book["status"], "ok"), book[APART])
    return np.flatnonzero(is_apart.to_numpy(zero_copy_only=False))


def folded(book: pa.Table) -> pa.Table:
    """The book with the funding of every isolated position folded into its price.

    For what takes positions one price at a time: margins, curves, comparisons.
    """
    return book.drop_columns([APART]) if APART in book.column_names else book


def divided_equity(book: pa.Table) -> np.ndarray:
    """Equity of every position (position,), USD: of a pool, which all its rows show, by notional.

    Sums over positions count a pool once.
    """
    equity, notional = (
        book[name].to_numpy(zero_copy_only=False).astype("f8")
        for name in ("equity_usd", "notional_usd")
    )
    rows = pooled_rows(book)
    if not len(rows):
        return equity
    part = book.select(["account", "venue"]).take(pa.array(rows))
    (_, account), (held, venue) = _codes(part["account"]), _codes(part["venue"])
    _, pool = np.unique(account * len(held) + venue, return_inverse=True)
    equity = equity.copy()
    equity[rows] *= notional[rows] / np.bincount(pool, notional[rows])[pool]
    return equity


def held_coins(book: pa.Table) -> set[str]:
    """Coins that stand behind cross-margined positions, which need drivers like any asset."""
    texts = pc.unique(book["pool_holdings"].cast(pa.string())).to_pylist()
    held = (one for text in texts if text is not None for one in read_holdings(text))
    return {one.asset for one in held if one.asset is not None}


_COLUMNS = [
    "account", "venue", "asset", "direction", "is_inverse", "notional", "notional_usd",
    "unrealized_pnl", "equity_usd", "exposure_usd", "stop_trigger", "closing_fee_rate",
    "liquidation_fee_rate", "leftover_to_holder", "requirement", "pool_holdings",
]  # fmt: skip


def _positions(
    taken: pa.Table, place: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The columns of the positions' legs, the tier tables they point into, and their rules."""
    tables, rules = _tables(taken["requirement"])

    def column(name: str) -> np.ndarray:
        return taken[name].to_numpy(zero_copy_only=False).astype("f8")

    own, asset = _codes(taken["asset"])
    if unknown := sorted(set(own) - set(place)):
        raise DataError(f"no driver for asset {', '.join(unknown)}; mark its positions unpriced")
    direction = column("direction")
    inverse = taken["is_inverse"].to_numpy(zero_copy_only=False)
    head = np.where(inverse, -direction, direction)
    notional, gained = column("notional"), column("unrealized_pnl")
    unit = column("notional_usd") / notional
    entered = notional - head * gained
    is_shared = taken["pool_holdings"].is_valid().to_numpy(zero_copy_only=False)
    equity = np.where(is_shared, gained * unit, column("equity_usd"))
    posted = equity / unit - gained
    fee = rules["trigger_fee"]
    fixed = np.where(
        rules["is_fee_at_bankruptcy"], fee * np.maximum(entered - head * posted, 0.0), 0.0
    )
    table, exposure = rules["table"], column("exposure_usd")
    lines = tables["rate"][table] * entered[:, None] - tables["amount"][table]
    required = lines.max(axis=1, initial=-np.inf)
    stop = -direction * column("stop_trigger")
    return (
        {
            "asset": np.array([place[name] for name in own], "i4")[asset],
            "side": (direction < 0).astype("i1"),
            "inverse": inverse,
            "alpha": equity - exposure,
            "beta": exposure,
            "counted": np.ones(len(table)),
            "notional": column("notional_usd"),
            "unit": unit,
            "table": table,
            "is_entry_basis": rules["is_entry_basis"],
            "fixed": (fixed + np.where(rules["is_entry_basis"], required, 0.0)) * unit,
            "test_fee": np.where(rules["is_fee_at_bankruptcy"], 0.0, fee),
            "closing_fee": column("closing_fee_rate"),
            "fee": column("liquidation_fee_rate"),
            "stop": np.where(np.isnan(stop), np.inf, stop),
        },
        tables,
        rules,
    )


def _tables(column: pa.ChunkedArray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tier tables of the distinct requirements, and each row's rule; short tables are repeated."""
    texts, table = _codes(column)
    parsed: list[StepRule] = [read_step_rule(text) for text in texts]
    deepest = max((len(rule.floor) for rule in parsed), default=1)

    def tier(name: str) -> np.ndarray:
        rows = [getattr(rule, name) for rule in parsed]
        padded = [row + row[-1:] * (deepest - len(row)) for row in rows]
        return np.array(padded, "f8").reshape(len(parsed), deepest)

    def rule(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(one, name) for one in parsed], kind)[table]

    tables = {name: tier(name) for name in ("floor", "rate", "amount")}
    tables["n_tiers"] = np.array([len(one.floor) for one in parsed], "i8")
    return tables, {
        "table": table.astype("i8"),
        "trigger_fee": rule("trigger_fee_rate", float),
        "is_entry_basis": rule("is_entry_basis", bool),
        "is_fee_at_bankruptcy": rule("is_fee_at_bankruptcy", bool),
        "is_strict": rule("is_strict", bool),
    }


def _collateral(
    texts: pa.ChunkedArray, place: Mapping[str, int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Dollars without a haircut (pool,), and every other holding as a leg."""
    cash, legs = np.zeros(len(texts)), []  # legs: pool, asset, is a coin, USD, share counted
    for k, text in enumerate(texts.cast(pa.string()).to_pylist()):
        for asset, amount, haircut in read_holdings(text) if text is not None else ():
            # A debt is owed in full.
            counted = 1.0 - haircut if amount > 0 else 1.0
            if asset is None and counted == 1.0:
                cash[k] += amount
            elif asset is not None and asset not in place:
                raise DataError(f"no driver for asset {asset}; mark its pools unpriced")
            else:
                where = 0 if asset is None else place[asset]
                legs.append((k, where, asset is not None, amount, counted))
    legs.sort()
    pool, at, kind, worth, share = (np.array([leg[n] for leg in legs]) for n in range(5))
    n = len(legs)
    zero, coin, amounts = np.zeros(n), kind.astype(bool), worth.astype("f8")
    return cash, {
        "pool": pool.astype("i8"),
        # Distinct and below every row of the book, so that the order is one.
        "row": np.arange(-n, 0),
        "asset": at.astype("i4"),
        "driver": at.astype("i4"),
        "side": zero.astype("i1"),
        "inverse": coin,
        "alpha": np.where(coin, 0.0, amounts),
        "beta": np.where(coin, amounts, 0.0),
        "counted": share.astype("f8"),
        "notional": zero,
        "unit": zero + 1.0,
        "table": zero.astype("i8"),
        "is_entry_basis": zero.astype(bool),
        "fixed": zero,
        "test_fee": zero,
        "closing_fee": zero,
        "fee": zero,
        "stop": zero + np.inf,
        "share": zero,
    }


def _codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Distinct strings in order, and each row's index among them."""
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    rank = np.empty(len(names), "i8")
    order = sorted(range(len(names)), key=names.__getitem__)
    rank[order] = np.arange(len(names))
    used, codes = np.unique(rank[encoded.indices.to_numpy()], return_inverse=True)
    return [names[order[i]] for i in used], codes
