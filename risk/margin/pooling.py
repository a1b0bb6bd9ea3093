"""Builds account pools from the book: real cross margin, or isolated accounts as if they shared."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.margin.book import build_book
from risk.margin.pools import Pools
from risk.margin.terms import contract_terms
from risk.margin.tiers import build_tier_tables, tiered_maintenance
from risk.schema import USD_EQUIVALENTS

if TYPE_CHECKING:
    from risk.margin.venues import VenueRules


def build_pools(
    book: pa.Table,
    rows: np.ndarray,
    assets: Sequence[str],
    contracts: pa.Table,
    tiers: pa.Table,
    venues: Mapping[str, VenueRules],
    *,
    as_of: dt.date,
    collateral: pa.Table | None = None,
) -> Pools:
    """Put positions of one account at one venue into one pool each.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    rows : ndarray of int
        Priced rows to take, ascending; their own equity is part of their pool's.
    assets : sequence of str
        The drivers' assets; every row's asset must be among them.
    contracts, tiers : Table
        Schemas CONTRACTS and TIERS.
    venues : mapping of str to VenueRules
    as_of : date
    collateral : Table, optional
        What the pools hold beside the positions' own equity: `account`, `venue`, `asset` (null for
        dollars), `amount_usd` at the mark and `haircut`. Rows of other accounts are ignored.

    Returns
    -------
    Pools
        Sorted by account and venue; the order of the inputs does not matter.
    """
    taken = book.select(_COLUMNS).take(pa.array(rows))
    accounts, account = _codes(taken["account"])
    held, venue = _codes(taken["venue"])
    pairs, pool = np.unique(account * max(len(held), 1) + venue, return_inverse=True)
    columns, tables = _positions(taken, assets, contracts, tiers, venues, as_of)
    columns["row"] = np.asarray(rows, "i8")
    pooled = np.bincount(pool, columns["notional"], len(pairs))
    columns["share"] = columns["notional"] / pooled[pool]

    names = [(accounts[pair // len(held)], held[pair % len(held)]) for pair in pairs.tolist()]
    cash, extra = _collateral(collateral, names, assets)
    columns = {name: np.append(columns[name], extra[name]) for name in columns}
    pool = np.append(pool, extra["pool"])
    order = np.lexsort((columns["row"], columns["asset"], pool))
    columns = {name: column[order] for name, column in columns.items()}
    rules = [venues[name] for _, name in names]
    return Pools(
        start=np.searchsorted(pool[order], np.arange(len(pairs) + 1)).astype("i8"),
        cash=cash,
        is_strict=np.array([rule.boundary == "below" for rule in rules], bool),
        to_holder=np.array([rule.leftover == "holder" for rule in rules], bool),
        **columns,
        n_tiers=np.full(tables.rate.shape[1], tables.n_tiers, "i8"),
        **{
            name: np.ascontiguousarray(getattr(tables, name).T)
            for name in ("floor", "rate", "amount")
        },
    )


def cross_pools(
    positions: pa.Table,
    accounts: pa.Table | None,
    assets: Sequence[str],
    contracts: pa.Table,
    tiers: pa.Table,
    venues: Mapping[str, VenueRules],
    *,
    as_of: dt.date,
) -> tuple[Pools, pa.Table] | None:
    """Pools of the cross-margined rows of a snapshot, with the balances behind them.

    Parameters
    ----------
    positions, accounts, contracts, tiers : Table
        Schemas POSITIONS, ACCOUNTS, CONTRACTS and TIERS. A cross row's own `position_margin` and
        stop are not used: the pool's balances are its collateral.
    assets : sequence of str
        The drivers' assets.
    venues : mapping of str to VenueRules
    as_of : date

    Returns
    -------
    Pools, Table
        `account`, `venue` of each pool, in its order. None without a pool that can be priced: every
        row of it needs a contract, tiers, a mark and a driver, every balance a price.
    """
    cross = positions.filter(pc.equal(positions["margin_mode"], "cross"))
    if accounts is None or not cross.num_rows:
        return None
    n = cross.num_rows
    for name, values in (
        ("margin_mode", pa.array(["isolated"] * n)),
        ("position_margin", pa.array(np.zeros(n))),
        ("stop_loss_price", pa.nulls(n, pa.float64())),
    ):
        place = cross.schema.get_field_index(name)
        cross = cross.set_column(place, cross.schema.field(name), values)
    # On their own they have no collateral, so most stand at their trigger; the pool decides.
    book = build_book(cross, contracts, tiers, venues, as_of=as_of)
    known = pc.is_in(book["asset"].cast(pa.string()), pa.array(list(assets), pa.string()))
    priced = pc.and_(pc.not_equal(book["status"], "unpriced"), known).to_pylist()
    collateral, unpriced = _balances(accounts, contracts, set(assets))
    owners = list(zip(book["account"].to_pylist(), book["venue"].to_pylist(), strict=True))
    held = set(zip(*(collateral[name].to_pylist() for name in ("account", "venue")), strict=True))
    lost = unpriced | {owner for owner, good in zip(owners, priced, strict=True) if not good}
    rows = np.flatnonzero([owner in held and owner not in lost for owner in owners])
    if not len(rows):
        return None
    pools = build_pools(
        book, rows, assets, contracts, tiers, venues, as_of=as_of, collateral=collateral
    )
    names = sorted({owners[row] for row in rows.tolist()})
    account, venue = (pa.array([name[i] for name in names], pa.string()) for i in range(2))
    return pools, pa.table({"account": account, "venue": venue})


def _balances(
    accounts: pa.Table, contracts: pa.Table, assets: set[str]
) -> tuple[pa.Table, set[tuple[str, str]]]:
    """Balances in dollars at the marks, and the owners of one that has no price."""
    marks: dict[str, float] = {}
    listed = contracts.filter(
        pc.and_(pc.equal(contracts["type"], "swap"), pc.is_valid(contracts["mark_price"]))
    ).sort_by([("base", "ascending"), ("venue", "ascending"), ("symbol", "ascending")])
    for base, mark in zip(
        listed["base"].to_pylist(), listed["mark_price"].to_pylist(), strict=True
    ):
        marks.setdefault(base, mark)
    rows, lost = [], set()
    for row in accounts.to_pylist():
        currency, is_dollar = row["currency"], row["currency"] in USD_EQUIVALENTS
        if not is_dollar and (currency not in marks or currency not in assets):
            lost.add((row["account"], row["venue"]))
            continue
        price = 1.0 if is_dollar else marks[currency]
        rows.append(
            {
                "account": row["account"],
                "venue": row["venue"],
                "asset": None if is_dollar else currency,
                "amount_usd": row["balance"] * price,
                "haircut": row["haircut"],
            }
        )
    schema = pa.schema(
        [("account", "string"), ("venue", "string"), ("asset", "string"),
         ("amount_usd", "f8"), ("haircut", "f8")]
    )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema), lost


_COLUMNS = [
    "account", "venue", "symbol", "asset", "direction", "is_inverse", "notional", "notional_usd",
    "unrealized_pnl", "equity", "equity_usd", "exposure_usd", "stop_trigger",
    "closing_fee_rate", "liquidation_fee_rate",
]  # fmt: skip


def _positions(
    taken: pa.Table,
    assets: Sequence[str],
    contracts: pa.Table,
    tiers: pa.Table,
    venues: Mapping[str, VenueRules],
    as_of: dt.date,
) -> tuple[dict[str, np.ndarray], Any]:
    """The columns of the positions' legs, and the tier tables they point into."""
    tables = build_tier_tables(tiers)
    used = contracts.filter(pc.is_in(contracts["venue"], pc.unique(taken["venue"]).cast("string")))
    terms = contract_terms(used, tables, venues, as_of=as_of)
    names, venue = _codes(taken["venue"])
    symbols, symbol = _codes(taken["symbol"])
    pairs, where = np.unique(venue * max(len(symbols), 1) + symbol, return_inverse=True)
    listed = [(names[p // len(symbols)], symbols[p % len(symbols)]) for p in pairs.tolist()]
    row = np.array([terms.row_of[name] for name in listed], "i8")[where]

    def column(name: str) -> np.ndarray:
        return taken[name].to_numpy(zero_copy_only=False).astype("f8")

    own, asset = _codes(taken["asset"])
    place = {name: i for i, name in enumerate(assets)}
    direction, inverse = column("direction"), terms.is_inverse[row]
    head = np.where(inverse, -direction, direction)
    notional, gained = column("notional"), column("unrealized_pnl")
    unit = column("notional_usd") / notional
    entered = notional - head * gained
    entry_basis, at_bankruptcy = terms.is_entry_basis[row], terms.is_fee_at_bankruptcy[row]
    fee = terms.trigger_fee_rate[row]
    posted = column("equity") - gained
    fixed = np.where(at_bankruptcy, fee * np.maximum(entered - head * posted, 0.0), 0.0)
    required = tiered_maintenance(tables, terms.table[row], entered)
    stop = -direction * column("stop_trigger")
    equity, exposure = column("equity_usd"), column("exposure_usd")
    return {
        "asset": np.array([place[name] for name in own], "i4")[asset],
        "side": (direction < 0).astype("i1"),
        "inverse": inverse,
        "alpha": equity - exposure,
        "beta": exposure,
        "counted": np.ones(len(row)),
        "notional": column("notional_usd"),
        "unit": unit,
        "table": terms.table[row],
        "is_entry_basis": entry_basis,
        "fixed": (fixed + np.where(entry_basis, required, 0.0)) * unit,
        "test_fee": np.where(at_bankruptcy, 0.0, fee),
        "closing_fee": column("closing_fee_rate"),
        "fee": column("liquidation_fee_rate"),
        "stop": np.where(np.isnan(stop), np.inf, stop),
    }, tables


def _collateral(
    collateral: pa.Table | None, names: Sequence[tuple[str, str]], assets: Sequence[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Dollars without a haircut (pool,), and every other holding as a leg."""
    cash, legs = np.zeros(len(names)), []
    pool_of = {name: k for k, name in enumerate(names)}
    place = {name: i for i, name in enumerate(assets)}
    for row in collateral.to_pylist() if collateral is not None else ():
        k = pool_of.get((row["account"], row["venue"]))
        if k is None:
            continue
        # A debt is owed in full.
        counted = 1.0 - row["haircut"] if row["amount_usd"] > 0 else 1.0
        is_coin = row["asset"] is not None
        if not is_coin and counted == 1.0:
            cash[k] += row["amount_usd"]
        else:
            at = place[row["asset"]] if is_coin else 0
            legs.append((k, at, is_coin, row["amount_usd"], counted))
    legs.sort()
    pool, asset, kind, worth, share = (np.array([leg[n] for leg in legs]) for n in range(5))
    n = len(legs)
    zero, coin, amount = np.zeros(n), kind.astype(bool), worth.astype("f8")
    return cash, {
        "pool": pool.astype("i8"),
        # Distinct and below every row of the book, so that the order is one.
        "row": np.arange(-n, 0),
        "asset": asset.astype("i4"),
        "side": zero.astype("i1"),
        "inverse": coin,
        "alpha": np.where(coin, 0.0, amount),
        "beta": np.where(coin, amount, 0.0),
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
