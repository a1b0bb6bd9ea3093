"""The book: every valid position with its margin, trigger and value line, and the margin table.

Amounts are in the settle currency unless the name ends in ``_usd``. A position that cannot be
priced keeps its row, with nulls and a reason. No loop over positions: a million of them is a
second's work.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from risk.contracts.payoffs import notional, notional_usd, unrealized_pnl, value_line_usd
from risk.errors import DataError
from risk.margin.cross_rows import margin_pools
from risk.margin.option_rows import option_margins
from risk.margin.prices import (
    Legs,
    bankruptcy_price,
    equity,
    liquidation_price,
    maintenance_margin,
    trigger_fee,
)
from risk.margin.terms import Terms, contract_terms
from risk.margin.tiers import TierTables, build_tier_tables, tier_max_leverage
from risk.schema import BOOK, CONTRACTS, MARGIN, POSITIONS, conform

if TYPE_CHECKING:
    from risk.margin.venues import VenueRules

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]

_CROSS_OPTION = "an option in a cross margin pool is not priced"
_OPTION_STOP = "a stop on an option is not priced"
_TAKE_PROFIT = "stop_loss_price is not on the losing side of the mark"
_LIQUIDATABLE = "already at or past its liquidation price at the mark"
_STATUSES = ("ok", "liquidatable", "unpriced")


def build_book(
    positions: pa.Table,
    contracts: pa.Table,
    tiers: pa.Table,
    venues: Mapping[str, VenueRules],
    *,
    as_of: dt.date,
    accounts: pa.Table | None = None,
) -> pa.Table:
    """Margin, triggers and value line of every valid position.

    Parameters
    ----------
    positions, contracts, tiers : pa.Table
        Schemas POSITIONS, CONTRACTS and TIERS; position ids and contracts are unique.
    venues : mapping of str to VenueRules
        Rules in force on `as_of`, for every venue in the positions.
    as_of : date
        UTC day whose close the marks are.
    accounts : pa.Table, optional
        Schema ACCOUNTS: the balances that cross-margined positions stand on. Without its account's
        such a position is unpriced.

    Returns
    -------
    pa.Table
        Schema BOOK, every position once, sorted by position_id. While open, a priced position is
        worth ``equity_usd + exposure_usd * (x - 1)`` at price ratio ``x``; it is liquidated when
        the ratio reaches ``trigger``, from above if long, from below if short. A stop that the
        margin trigger forestalls is null. An option has no trigger in price: a written one is
        liquidated when its backing per unit falls to what `option_terms` require. Nor has a
        cross-margined one: see `risk.margin.cross_rows.margin_pools` for what its row says.

    Raises
    ------
    DataError
        If a position names no contract, an id repeats, or a table is ill-typed.
    ConfigError
        If a venue has no rules.

    References
    ----------
    .. [1] Binance, "How to Calculate Liquidation Price of USD-M Futures Contracts".
    .. [2] Bybit, "Liquidation Price Calculation under Isolated Mode".
    """
    positions = _in_order(conform(positions, POSITIONS, "positions"))
    tables = build_tier_tables(tiers)
    contracts = conform(contracts, CONTRACTS, "contracts")
    held = pc.unique(positions["venue"])
    terms = contract_terms(
        contracts.filter(pc.is_in(contracts["venue"], held)), tables, venues, as_of=as_of
    )
    row = _contract_rows(positions, terms)
    direction = np.where(_equals(positions["side"], "long"), 1.0, -1.0)
    mark = terms.mark_price[row]

    said = (_CROSS_OPTION, _OPTION_STOP, _TAKE_PROFIT, _LIQUIDATABLE)
    reasons = list(dict.fromkeys(["", *terms.reason, *said]))
    code_of = {reason: code for code, reason in enumerate(reasons)}
    code = np.array([code_of[reason] for reason in terms.reason], dtype=np.int32)[row]
    is_cross = _equals(positions["margin_mode"], "cross")
    is_option = np.array([one is not None for one in terms.option], dtype=bool)[row]
    code[(code == 0) & is_cross & is_option] = code_of[_CROSS_OPTION]
    has_stop = positions["stop_loss_price"].is_valid().to_numpy(zero_copy_only=False)
    code[(code == 0) & is_option & has_stop] = code_of[_OPTION_STOP]

    plain, written = (np.flatnonzero((code == 0) & part) for part in (~is_option, is_option))
    priced = np.concatenate([plain, written])
    both = (
        _margins(positions, row, direction, terms, tables, is_cross, plain),
        option_margins(positions, row, direction, terms, written),
    )
    columns = {name: np.concatenate([part[name] for part in both]) for name in both[0]}
    is_liquidatable = columns.pop("is_liquidatable").astype(bool)
    is_wrong_side = columns.pop("is_wrong_side").astype(bool) & ~is_liquidatable
    code[priced[is_liquidatable]] = code_of[_LIQUIDATABLE]
    code[priced[is_wrong_side]] = code_of[_TAKE_PROFIT]

    kept = priced[~is_wrong_side]
    values: dict[str, pa.Array] = {
        name: _spread(column[~is_wrong_side], kept, len(row)) for name, column in columns.items()
    }
    is_priced = np.zeros(len(row), dtype=bool)
    is_priced[kept] = True
    status = np.where(is_priced, 0, 2)
    status[priced[is_liquidatable]] = 1
    margin_call = is_priced.copy()
    margin_call[kept] = (columns["equity"] < columns["initial_margin"])[~is_wrong_side]
    values |= {
        "position_id": positions["position_id"],
        "margin_call": pa.array(margin_call, mask=~is_priced),
        "status": _labels(status, _STATUSES).cast(pa.string()),
        "reason": pc.replace_with_mask(
            _labels(code, reasons).cast(pa.string()),
            pa.array(code == 0),
            pa.scalar(None, pa.string()),
        ),
        "account": _encoded(positions["account"]),
        "venue": _encoded(positions["venue"]),
        "settle": _labels(row, terms.settle),
        "asset": _labels(row, terms.asset),
        "kind": _labels(row, terms.kind),
        "side": _encoded(positions["side"]),
        "book": _encoded(positions["book"]),
        "symbol": _encoded(positions["symbol"]),
        "mark_price": pa.array(mark, mask=~terms.has_mark[row]),
        "direction": pa.array(direction.astype(np.int8)),
        "is_inverse": pa.array(terms.is_inverse[row]),
        "leftover_to_holder": pa.array(terms.leftover_to_holder[row], mask=~is_priced),
        "liquidation_steps": _optional_labels(row, terms.steps),
        "requirement": _optional_labels(row, terms.requirement),
        "is_stale": pa.array(terms.is_stale[row]),
        "option_terms": _optional_labels(
            row, [one.to_text() if one else None for one in terms.option]
        ),
        "pool_holdings": pa.nulls(len(row), pa.string()),
    }
    book = conform(pa.table(values), BOOK, "book")
    return margin_pools(book, is_cross, accounts, contracts)


def margin_table(book: pa.Table) -> pa.Table:
    """The margin columns of a book.

    Parameters
    ----------
    book : pa.Table
        Schema BOOK.

    Returns
    -------
    pa.Table
        Schema MARGIN: one row per position, settle currency unless named ``_usd``; null, never
        NaN.
    """
    return conform(book, MARGIN, "book")


def _margins(
    positions: pa.Table,
    row: Rows,
    direction: Floats,
    terms: Terms,
    tables: TierTables,
    is_cross: Bools,
    priced: Rows,
) -> dict[str, Floats]:
    """Every number of the priced positions, NaN for null, one array of `priced`'s length each."""
    row, is_cross = row[priced], is_cross[priced]

    def given(name: str) -> Floats:
        return positions[name].to_numpy()[priced]

    legs = Legs(
        direction=direction[priced],
        size=given("contracts") * terms.contract_size[row],
        entry_price=given("entry_price"),
        # The pool's balances back a cross-margined position, not what is said to be its own.
        position_margin=np.where(is_cross, 0.0, given("position_margin")),
        is_inverse=terms.is_inverse[row],
        table=terms.table[row],
        is_entry_basis=terms.is_entry_basis[row],
        trigger_fee_rate=terms.trigger_fee_rate[row],
        is_fee_at_bankruptcy=terms.is_fee_at_bankruptcy[row],
    )
    mark, stop = terms.mark_price[row], given("stop_loss_price")
    held = equity(legs, mark)
    maintenance = maintenance_margin(legs, tables, mark)
    entered = notional(legs.size, legs.entry_price, legs.is_inverse)
    leverage = given("leverage")
    leverage = np.where(leverage > 0, leverage, tier_max_leverage(tables, legs.table, entered))
    required = maintenance + trigger_fee(legs, mark)
    price = liquidation_price(legs, tables)
    trigger = _trigger(price / mark, legs.direction, terms.is_strict[row])
    # Signed so that one comparison serves both sides: what is left until the trigger, if negative
    # or zero it has been reached.
    room = legs.direction * (1.0 - trigger)
    is_liquidatable = ((room <= 0) | (held <= 0)) & ~is_cross
    distance = legs.direction * (1.0 - price / mark)
    stop_trigger = stop / mark
    equity_usd, exposure_usd = value_line_usd(
        legs.direction,
        legs.size,
        legs.entry_price,
        legs.position_margin,
        mark,
        legs.is_inverse,
    )
    is_beyond = (legs.direction * (stop_trigger - trigger) <= 0) & ~is_cross
    return {
        "notional": notional(legs.size, mark, legs.is_inverse),
        "unrealized_pnl": unrealized_pnl(
            legs.direction, legs.size, legs.entry_price, mark, legs.is_inverse
        ),
        "equity": held,
        "initial_margin": entered / leverage,
        "maintenance_margin": maintenance,
        "margin_ratio": _ratio(required, held),
        "liquidation_price": price,
        "bankruptcy_price": bankruptcy_price(legs),
        "distance_to_liquidation": np.where(is_liquidatable, np.minimum(distance, 0.0), distance),
        "notional_usd": notional_usd(legs.size, mark, legs.is_inverse),
        "equity_usd": equity_usd,
        "exposure_usd": exposure_usd,
        "trigger": trigger,
        "stop_trigger": np.where(is_beyond | is_liquidatable, np.nan, stop_trigger),
        "closing_fee_rate": terms.closing_fee_rate[row],
        "liquidation_fee_rate": terms.liquidation_fee_rate[row],
        "is_liquidatable": is_liquidatable,
        "option_units": np.full(len(mark), np.nan),
        "option_margin": np.full(len(mark), np.nan),
        "is_wrong_side": legs.direction * (stop_trigger - 1.0) >= 0,
    }


def _ratio(required: Floats, held: Floats) -> Floats:
    """Requirement over equity; NaN where equity is not above zero, or too little to divide by."""
    with np.errstate(over="ignore"):
        ratio = np.divide(required, held, out=np.full(len(held), np.nan), where=held > 0)
    return np.where(np.isfinite(ratio), ratio, np.nan)


def _trigger(ratio: Floats, direction: Floats, is_strict: Bools) -> Floats:
    """Largest ratio that liquidates a long, smallest that liquidates a short; NaN for none.

    Where equality is safe the next number against the holder is stored, so that every later test
    is one comparison.
    """
    return np.where(is_strict, np.nextafter(ratio, -direction * np.inf), ratio)


def _in_order(positions: pa.Table) -> pa.Table:
    ids = positions["position_id"].combine_chunks()
    if not pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
        positions = positions.sort_by("position_id")
        ids = positions["position_id"].combine_chunks()
        repeated = ids[1:].filter(pc.equal(ids[:-1], ids[1:]))
        if len(repeated):
            raise DataError(f"positions: position_id {repeated[0]} appears more than once")
    return positions


def _contract_rows(positions: pa.Table, terms: Terms) -> Rows:
    """Entry of each position's contract in `terms`."""
    venue, symbol = _encoded(positions["venue"]), _encoded(positions["symbol"])
    n_symbols = max(len(symbol.dictionary), 1)
    pair = venue.indices.to_numpy().astype(np.int64) * n_symbols + symbol.indices.to_numpy()
    held, where = np.unique(pair, return_inverse=True)
    venues, symbols = venue.dictionary.to_pylist(), symbol.dictionary.to_pylist()
    names = [(venues[i // n_symbols], symbols[i % n_symbols]) for i in held.tolist()]
    unlisted = [name for name in names if name not in terms.row_of]
    if unlisted:
        raise DataError(f"positions: no contract {unlisted[0][1]} on venue {unlisted[0][0]}")
    return np.array([terms.row_of[name] for name in names], dtype=np.int64)[where]


def _spread(column: NDArray, at: Rows, n: int) -> pa.Array:
    """Put values at their rows, null elsewhere and where NaN."""
    full = np.full(n, np.nan)
    full[at] = column
    return pa.array(full, from_pandas=True)


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.combine_chunks().dictionary_encode()


def _labels(codes: NDArray, values: Sequence[str]) -> pa.DictionaryArray:
    """Dictionary column from codes into values that may repeat."""
    distinct = sorted(set(values))
    position = {value: i for i, value in enumerate(distinct)}
    recode = np.array([position[value] for value in values], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(recode[codes], pa.array(distinct, pa.string()))


def _optional_labels(codes: NDArray, values: Sequence[str | None]) -> pa.DictionaryArray:
    """Dictionary column from codes into values, null where the value is None."""
    distinct = sorted({value for value in values if value is not None})
    position: dict[str | None, int] = {value: i for i, value in enumerate(distinct)}
    recode = np.array([position.get(value, -1) for value in values], dtype=np.int32)[codes]
    indices = pa.array(recode, mask=recode < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(distinct, pa.string()))


def _equals(column: pa.ChunkedArray, value: str) -> Bools:
    return pc.equal(column, value).to_numpy()
