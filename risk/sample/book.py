"""Draws the positions of the sample: size, leverage, entry, collateral and stop of every holder."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from risk.contracts.payoffs import notional
from risk.margin.prices import Legs, liquidation_price
from risk.margin.tiers import TierTables, build_tier_tables, tier_max_leverage
from risk.sample.contracts import KINDS, Listing, asset_shares
from risk.sample.entries import STRICT_FEE, Drafts, draw_entries, entries_of_equity
from risk.sample.holders import BOOKS, LEVERAGES, Holders, draw_holders
from risk.sample.options import option_collateral
from risk.sample.prices import Prices
from risk.sample.venues import VENUES
from risk.schema import ACCOUNTS, POSITIONS, USD_EQUIVALENTS

#: Accounts with cross margin, positions with a stop, and with more collateral than asked for.
CROSS_SHARE, STOP_SHARE, TOP_UP_SHARE = 0.01, 0.08, 0.12
#: Caught between trigger and close. Of the higher leverages only: the entry of a 2x long past its
#: trigger would lie at twice the mark, where the market has not been for months.
LIQUIDATABLE_SHARE, _LEAST_DOOMED_LEVERAGE = 0.0018, 10.0

#: Coins that stand behind cross margin beside dollars, and their haircuts.
_COINS = (("BTC", 0.05), ("ETH", 0.1))

#: Larger positions use less leverage: notional goes with leverage to this power.
_SIZE_OF_LEVERAGE = -0.55
#: No position takes more than this share of the largest notional its tiers know.
_SHARE_OF_LIMIT = 0.3
_OPTION = KINDS.index("option")


def draw_positions(
    n: int, prices: Prices, listing: Listing, tiers: pa.Table, rng: np.random.Generator
) -> tuple[pa.Table, pa.Table]:
    """Draw `n` positions and the pooled balances of the cross-margined ones.

    Parameters
    ----------
    n : int
        Number of positions, at least 1.
    prices : Prices
        Recent highs and lows, which entries come from.
    listing : Listing
        Contracts and marks.
    tiers : Table
        Schema TIERS; every contract but the options has one.
    rng : Generator
        The only source of randomness.

    Returns
    -------
    positions, accounts : Table
        Schemas POSITIONS and ACCOUNTS; the latter may be empty.
    """
    tables = build_tier_tables(tiers)
    holders = draw_holders(n, listing, asset_shares(prices), rng)
    kind = listing.kind[holders.contract]
    decimals = listing.decimals[holders.contract]
    is_option = kind == _OPTION
    contracts, drafts = _draw_sizes(holders, prices, listing, tables, _limits(tiers, tables), rng)
    entry = draw_entries(drafts, prices, tables, rng)

    # An account is cross-margined with all it holds but its options: one number decides.
    _, account = np.unique(holders.account, return_inverse=True)
    is_cross = (rng.random(n)[account] < CROSS_SHARE) & ~is_option
    can_be_doomed = ~is_option & ~is_cross & (drafts.leverage >= _LEAST_DOOMED_LEVERAGE)
    doomed = np.flatnonzero((rng.random(n) < LIQUIDATABLE_SHARE) & can_be_doomed)
    below = rng.uniform(0.2, 0.85, len(doomed))
    entry[doomed] = entries_of_equity(drafts[doomed], tables, below)
    premium = listing.mark_price[holders.contract] * np.exp(0.25 * rng.standard_normal(n))
    entry = _rounded(np.where(is_option, premium, entry), decimals)

    legs = drafts.opened(entry)
    margin = np.where(
        is_option,
        _option_margin(holders, listing, prices, entry, legs.size, rng),
        legs.position_margin,
    )
    # Rounded up: collateral is never below what the leverage asks for.
    digits = np.where(legs.is_inverse | is_option, 1e8, 1e4)
    margin = np.ceil(margin * digits) / digits
    has_stop = (rng.random(n) < STOP_SHARE) & ~is_option & ~is_cross
    has_stop[doomed] = False
    stop = np.where(has_stop, _rounded(_draw_stops(legs, drafts.mark, tables, rng), decimals), 0.0)
    # Of a tiny price the rounding may eat the whole distance.
    has_stop &= legs.direction * (drafts.mark - stop) > 0

    venue = listing.venue[holders.contract]
    columns = {
        "position_id": _numbered("P", np.arange(1, n + 1)),
        "account": _numbered("A", holders.account + 1),
        "book": _names([book.name for book in BOOKS], holders.book),
        "venue": _names([rules.name for rules in VENUES], venue),
        "symbol": _names(listing.table["symbol"].to_pylist(), holders.contract),
        "side": _names(["short", "long"], (holders.direction > 0).astype(np.int64)),
        "contracts": contracts,
        "entry_price": entry,
        "margin_mode": _names(["isolated", "cross"], is_cross.astype(np.int64)),
        "position_margin": margin,
        "leverage": pa.array(drafts.leverage, mask=is_option),
        "stop_loss_price": pa.array(stop, mask=~has_stop),
    }
    positions = pa.table(columns, schema=POSITIONS)
    balances = _balances(positions, listing, holders.contract, is_cross)
    return positions, _with_coins(balances, listing)


def _draw_sizes(
    holders: Holders,
    prices: Prices,
    listing: Listing,
    tables: TierTables,
    limit: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Drafts]:
    """Number of contracts, in whole lots, and the drafts with the leverage the tiers allow."""
    contract, n = holders.contract, len(holders.contract)
    names = zip(
        listing.table["venue"].to_pylist(), listing.table["symbol"].to_pylist(), strict=True
    )
    table = np.array([tables.table_of.get(name, 0) for name in names])[contract]
    mark, is_inverse = listing.mark_price[contract], listing.is_inverse[contract]
    asset = listing.asset[contract]
    is_option = listing.kind[contract] == _OPTION
    unit_price = np.where(is_option, prices.close[asset], mark)
    wanted = _pick_leverage(holders.book, rng)
    usd = holders.size_usd * (wanted / 10.0) ** _SIZE_OF_LEVERAGE
    usd = np.minimum(usd, _SHARE_OF_LIMIT * limit[table] * np.where(is_inverse, mark, 1.0))
    usd_per_contract = listing.contract_size[contract] * np.where(is_inverse, 1.0, unit_price)
    # Lots below one contract are decimal fractions: dividing gives the nearest decimal number.
    lots_per_contract = 1.0 / listing.lot[contract]
    lots_per_contract = np.where(
        lots_per_contract > 1.0, np.rint(lots_per_contract), lots_per_contract
    )
    lots = np.maximum(np.rint(usd / usd_per_contract * lots_per_contract), 1.0)
    contracts = lots / lots_per_contract
    size = contracts * listing.contract_size[contract]
    # Somewhat above the value at the mark: at entry it may have been in a stricter tier.
    value = notional(size, unit_price, is_inverse)
    allowed = tier_max_leverage(tables, table, 1.2 * value)
    leverage = LEVERAGES[np.searchsorted(LEVERAGES, np.minimum(wanted, allowed), "right") - 1]
    top_up = np.where(rng.random(n) < TOP_UP_SHARE, rng.uniform(0.1, 1.5, n), 0.0)
    nothing = np.zeros(n)
    legs = Legs(
        direction=holders.direction,
        size=size,
        entry_price=mark,
        position_margin=nothing,
        is_inverse=is_inverse,
        table=table,
        is_entry_basis=nothing.astype(bool),
        trigger_fee_rate=nothing + STRICT_FEE,
        is_fee_at_bankruptcy=nothing.astype(bool),
    )
    mean_age = np.array([book.age_days for book in BOOKS])[holders.book]
    return contracts, Drafts(legs, asset, mark, leverage, 1.0 + top_up, mean_age)


def _pick_leverage(book: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    weight = np.array([rules.leverage for rules in BOOKS], dtype=float)
    cumulative = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    uniform = rng.random(len(book))
    wanted = np.empty(len(book))
    for b in range(len(BOOKS)):
        mine = book == b
        at = np.searchsorted(cumulative[b], uniform[mine], side="right")
        wanted[mine] = LEVERAGES[np.minimum(at, len(LEVERAGES) - 1)]
    return wanted


def _limits(tiers: pa.Table, tables: TierTables) -> np.ndarray:
    """Largest notional of each table (table,), settle currency."""
    limit = np.zeros(len(tables.table_of))
    names = zip(tiers["venue"].to_pylist(), tiers["symbol"].to_pylist(), strict=True)
    at = np.array([tables.table_of[name] for name in names])
    np.maximum.at(limit, at, tiers["max_notional"].to_numpy())
    return limit


def _option_margin(
    holders: Holders,
    listing: Listing,
    prices: Prices,
    entry: np.ndarray,
    size: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Collateral as if every position were an option, in its settle currency."""
    contract = holders.contract
    is_linear = listing.table["linear"].to_numpy()[contract]
    underlying = np.where(is_linear, prices.close[listing.asset[contract]], 1.0)
    mark = listing.mark_price[contract]
    return option_collateral(holders.direction, size, entry, mark, underlying, rng)


def _draw_stops(
    legs: Legs, mark: np.ndarray, tables: TierTables, rng: np.random.Generator
) -> np.ndarray:
    """A price between the mark and the liquidation price, seldom more than a quarter away."""
    liquidation = liquidation_price(legs, tables)
    room = np.nan_to_num(legs.direction * (1.0 - liquidation / mark), nan=1.0)
    n = len(mark)
    distance = np.minimum(room * rng.uniform(0.3, 0.9, n), rng.uniform(0.03, 0.25, n))
    return mark * (1.0 - legs.direction * distance)


def _balances(
    positions: pa.Table, listing: Listing, contract: np.ndarray, is_cross: np.ndarray
) -> pa.Table:
    """Pooled collateral of the accounts that hold cross positions: 1.6 times what these ask for."""
    rows = np.flatnonzero(is_cross)
    chosen = positions.take(pa.array(rows)).select(["account", "venue", "position_margin"])
    settle = listing.table["settle"].take(pa.array(contract[rows]))
    keys = ["account", "venue", "currency"]
    pooled = (
        chosen.append_column("currency", settle)
        .group_by(keys, use_threads=False)
        .aggregate([("position_margin", "sum")])
        .sort_by([(key, "ascending") for key in keys])
    )
    is_coin = pc.invert(pc.is_in(pooled["currency"], pa.array(sorted(USD_EQUIVALENTS))))
    columns = {
        **{key: pooled[key] for key in keys},
        "balance": pc.multiply(pooled["position_margin_sum"], 1.6),
        "haircut": pc.if_else(is_coin, 0.05, 0.0),
    }
    return pa.table(columns, schema=ACCOUNTS)


def _with_coins(balances: pa.Table, listing: Listing) -> pa.Table:
    """Every third balance in dollars is half held in a coin, whose haircut it pays for."""
    perpetual = np.flatnonzero(listing.kind == KINDS.index("linear_perpetual"))
    bases = listing.table["base"].take(pa.array(perpetual)).to_pylist()
    marks = dict(zip(bases, listing.mark_price[perpetual].tolist(), strict=True))
    coins = [(asset, haircut) for asset, haircut in _COINS if asset in marks]
    rows, added = balances.to_pylist(), []
    held = {(row["account"], row["venue"], row["currency"]) for row in rows}
    dollars = [row for row in rows if row["currency"] in USD_EQUIVALENTS]
    for place, row in enumerate(dollars[::3] if coins else []):
        asset, haircut = coins[place % len(coins)]
        if (row["account"], row["venue"], asset) in held:
            continue
        held.add((row["account"], row["venue"], asset))
        row["balance"] /= 2
        amount = row["balance"] / (marks[asset] * (1.0 - haircut))
        added.append(row | {"currency": asset, "balance": amount, "haircut": haircut})
    keys = [(key, "ascending") for key in ("account", "venue", "currency")]
    return pa.Table.from_pylist(rows + added, schema=ACCOUNTS).sort_by(keys)


def _rounded(price: np.ndarray, decimals: np.ndarray) -> np.ndarray:
    """Prices at the contract's decimals, at least one tick."""
    scale = 10.0**decimals
    return np.maximum(np.rint(price * scale), 1.0) / scale


def _names(values: list[str], index: np.ndarray) -> pa.Array:
    return pa.array(values, pa.string()).take(pa.array(index))


def _numbered(letter: str, number: np.ndarray) -> pa.Array:
    text = pc.utf8_lpad(pa.array(number).cast(pa.string()), width=8, padding="0")
    return pc.binary_join_element_wise(letter, text, "")
