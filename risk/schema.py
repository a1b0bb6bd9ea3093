"""Names, units and types of everything that passes between the stages.

Stages never import each other; they meet in the tables and datasets written down here. P&L positive
is gain; a deficit, a cost and every risk measure are positive amounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from risk.errors import DataError

#: Settle and quote currencies taken at one US dollar.
USD_EQUIVALENTS = frozenset({"USD", "USDT", "USDC", "BUSD", "FDUSD", "TUSD", "DAI", "USDE"})

#: Labels a cube cell may carry, in their canonical order.
LABELS = ("venue", "settle", "asset", "kind", "side", "book")

#: What a position can be; the last four come with a reason.
STATUSES = ("ok", "unpriced", "liquidatable", "quarantined", "excluded")

_LABEL = pa.dictionary(pa.int32(), pa.string())
_DAY = pa.date32()
_UTC = pa.timestamp("ms", tz="UTC")
F64, STR, BOOL, I32, I64 = pa.float64(), pa.string(), pa.bool_(), pa.int32(), pa.int64()


def _schema(*columns: tuple) -> pa.Schema:
    """Columns as (name, type, unit, meaning[, "null"])."""
    return pa.schema(
        pa.field(name, kind, nullable=bool(null), metadata={"unit": unit, "meaning": meaning})
        for name, kind, unit, meaning, *null in columns
    )


# -- what comes in (INTERFACES: snapshot) --------------------------------------------------------

POSITIONS = _schema(
    ("position_id", STR, "", "unique name of the position"),
    ("account", STR, "", "the holder"),
    ("book", STR, "", "roll-up label"),
    ("venue", STR, "", "where the position is held"),
    ("symbol", STR, "", "ccxt unified symbol"),
    ("side", STR, "", "long or short"),
    ("contracts", F64, "contracts", "number of contracts, above zero"),
    ("entry_price", F64, "quote", "average entry price"),
    ("margin_mode", STR, "", "isolated or cross"),
    ("position_margin", F64, "settle", "collateral posted, without unrealised P&L"),
    ("leverage", F64, "1", "only the initial margin uses it", "null"),
    ("stop_loss_price", F64, "quote", "mark price of the holder's stop", "null"),
)

CONTRACTS = _schema(
    ("venue", STR, "", "where the contract is listed"),
    ("symbol", STR, "", "ccxt unified symbol"),
    ("base", STR, "", "the asset"),
    ("quote", STR, "", "currency of the price"),
    ("settle", STR, "", "currency of margin and P&L"),
    ("type", STR, "", "swap, future or option"),
    ("linear", BOOL, "", "true for linear, false for inverse"),
    ("contract_size", F64, "base or quote", "base units if linear or an option, else quote units"),
    ("expiry", _UTC, "", "null for swaps", "null"),
    ("strike", F64, "quote", "options only", "null"),
    ("option_type", STR, "", "call or put", "null"),
    ("mark_price", F64, "quote", "the price margins are tested at", "null"),
    ("mark_timestamp", _UTC, "", "when the mark was taken", "null"),
    ("index_price", F64, "quote", "spot reference", "null"),
    ("funding_rate", F64, "1", "per interval; positive: longs pay", "null"),
    ("funding_interval_hours", F64, "h", "time between fundings", "null"),
    ("mark_iv", F64, "1/year", "options only", "null"),
    ("volume_24h_usd", F64, "USD", "traded in 24 hours", "null"),
)

TIERS = _schema(
    ("venue", STR, "", "where the table applies"),
    ("symbol", STR, "", "ccxt unified symbol"),
    ("tier", I64, "", "1 is the smallest"),
    ("min_notional", F64, "quote, or coin if inverse", "lower bound, included"),
    ("max_notional", F64, "quote, or coin if inverse", "upper bound, excluded"),
    ("maintenance_margin_rate", F64, "1", "fraction of notional"),
    ("maintenance_amount", F64, "quote, or coin if inverse", "deduction that makes it continuous"),
    ("max_leverage", F64, "1", "largest leverage allowed in the tier"),
)

ACCOUNTS = _schema(
    ("account", STR, "", "the holder"),
    ("venue", STR, "", "where the balance is held"),
    ("currency", STR, "", "currency of the balance"),
    ("balance", F64, "currency", "pooled collateral"),
    ("haircut", F64, "1", "fraction deducted from its value"),
)

HISTORY = _schema(
    ("ts", _UTC, "", "UTC open of the bar"),
    ("asset", STR, "", "base currency"),
    ("open", F64, "USD", ""),
    ("high", F64, "USD", ""),
    ("low", F64, "USD", ""),
    ("close", F64, "USD", ""),
    ("volume", F64, "base", ""),
)

QUARANTINE = _schema(
    ("file", STR, "", "file the row was read from"),
    ("row", I64, "", "row number in that file, first is 0"),
    ("position_id", STR, "", "null if the row has none", "null"),
    ("reason", STR, "", "what is wrong with it"),
)

# -- positions inside the engine -----------------------------------------------------------------

MARGIN = _schema(
    ("position_id", STR, "", "unique name of the position"),
    ("notional", F64, "settle", "contracts at the mark", "null"),
    ("unrealized_pnl", F64, "settle", "gain since entry at the mark", "null"),
    ("equity", F64, "settle", "collateral plus unrealised P&L", "null"),
    ("initial_margin", F64, "settle", "entry value over leverage", "null"),
    ("maintenance_margin", F64, "settle", "least equity, closing fee excluded", "null"),
    ("margin_ratio", F64, "1", "(maintenance + closing fee in the trigger) / equity", "null"),
    ("liquidation_price", F64, "quote", "null: cannot be liquidated", "null"),
    ("bankruptcy_price", F64, "quote", "null: none above zero", "null"),
    ("distance_to_liquidation", F64, "1", "fraction of the mark, against the holder", "null"),
    ("margin_call", BOOL, "", "equity below the initial margin", "null"),
    ("status", STR, "", "ok, liquidatable or unpriced"),
    ("reason", STR, "", "why not ok", "null"),
    ("notional_usd", F64, "USD", "notional at the mark", "null"),
    ("equity_usd", F64, "USD", "equity at the mark", "null"),
)

#: One row per valid position, sorted by position_id: the margin table plus what the ladders need.
#: While open, a position is worth ``equity_usd + exposure_usd * (x - 1)`` at price ratio ``x``; an
#: option so only for small moves.
BOOK = pa.schema(
    [
        *MARGIN,
        *_schema(
            ("account", _LABEL, "", "the holder"),
            *((label, _LABEL, "", "roll-up label") for label in LABELS),
            ("symbol", _LABEL, "", "ccxt unified symbol"),
            ("mark_price", F64, "quote", "price that ratio 1 stands for", "null"),
            ("direction", pa.int8(), "1", "+1 long, -1 short"),
            ("is_inverse", BOOL, "", "settled in the asset itself"),
            ("exposure_usd", F64, "USD", "change of value per unit of price ratio", "null"),
            ("trigger", F64, "1", "price ratio of liquidation; null: none", "null"),
            ("stop_trigger", F64, "1", "price ratio of the holder's stop; null: none", "null"),
            ("closing_fee_rate", F64, "1", "of the closed notional, a market cost", "null"),
            ("liquidation_fee_rate", F64, "1", "of the closed notional, to the venue", "null"),
            ("leftover_to_holder", BOOL, "", "collateral left after a liquidation", "null"),
            ("liquidation_steps", _LABEL, "", "rule of partial liquidation; null: whole", "null"),
            ("requirement", _LABEL, "", "rule of the liquidation test; null: no tiers", "null"),
            ("is_stale", BOOL, "", "mark older than the staleness limit"),
            ("option_terms", _LABEL, "", "terms of an option contract; null: no option", "null"),
            ("option_units", F64, "base", "size of an option position", "null"),
            ("option_margin", F64, "settle", "collateral of a written option", "null"),
            ("pool_holdings", _LABEL, "", "balances behind cross margin; null: isolated", "null"),
        ),
    ]
)

COVERAGE = _schema(
    ("status", STR, "", "in, priced, the statuses, then the flags stale and proxied"),
    ("n_positions", I64, "1", "number of positions"),
    ("notional_usd", F64, "USD", "their notional at the mark; null where unknown", "null"),
    ("share", F64, "1", "share of the positions that came in"),
    ("notional_share", F64, "1", "share of the notional that is known", "null"),
)

METHODS = _schema(
    ("method", STR, "", "how priced positions are evaluated"),
    ("n_positions", I64, "1", "number of positions"),
    ("notional_usd", F64, "USD", "their notional at the mark"),
    ("share", F64, "1", "share of the priced positions"),
    ("notional_share", F64, "1", "share of their notional", "null"),
)

FACTS = _schema(
    ("fact_id", STR, "", "dotted name of the number"),
    ("value", F64, "", "unrounded; null: not available", "null"),
    ("unit", STR, "", "USD, 1, %, days, ..."),
    ("decimals", I32, "", "decimals it is printed with"),
    ("scope", STR, "", "what it covers, in words"),
    ("as_of", _DAY, "", "date of the snapshot"),
)


# -- cubes ---------------------------------------------------------------------------------------


class Variable(NamedTuple):
    """One cube variable: its type, unit and meaning."""

    dtype: str
    units: str
    meaning: str


#: On (scenario, cell), one group per scenario set.
CUBE: Mapping[str, Variable] = {
    "pnl": Variable("f8", "USD", "holders' P&L, gain positive, before auto-deleveraging"),
    "venue_gain": Variable("f8", "USD", "liquidation fees and kept collateral"),
    "deficit": Variable("f8", "USD", "loss beyond the collateral, borne by the venue"),
    "market_cost": Variable("f8", "USD", "closing fees and slippage"),
    "liquidations": Variable("i4", "1", "positions liquidated"),
    "stops": Variable("i4", "1", "positions closed by their stop-loss"),
    "liquidated_notional": Variable("f8", "USD", "notional closed by liquidations, at the close"),
}

#: On (scenario, asset): price ratios to the mark over the horizon.
DRIVERS: Mapping[str, Variable] = {
    "low": Variable("f8", "1", "lowest price ratio"),
    "high": Variable("f8", "1", "highest price ratio"),
    "last": Variable("f8", "1", "price ratio at the horizon"),
}

#: On (gap,), sorted by (scenario, asset, direction) and then path order: jumps to a new extreme.
GAPS: Mapping[str, Variable] = {
    "gap_scenario": Variable("i4", "1", "index of the scenario in its set or block"),
    "gap_asset": Variable("i4", "1", "index of the asset"),
    "gap_direction": Variable("i1", "1", "-1 a fall (hits longs), +1 a rise (hits shorts)"),
    "gap_before": Variable("f8", "1", "running extreme before the jump"),
    "gap_landing": Variable("f8", "1", "price ratio after the jump"),
}

SCENARIO_COORDS = ("label", "source", "weight")


def conform(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """Select and cast the schema's columns, or say which one is wrong.

    Raises
    ------
    DataError
        If a column is missing, cannot be cast, or has a null where none may be.
    """
    missing = [field.name for field in schema if field.name not in table.column_names]
    if missing:
        raise DataError(f"{name}: missing column {', '.join(missing)}")
    table = table.select(schema.names)
    try:
        table = table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DataError(f"{name}: {error}") from error
    holed = [field.name for field in schema if not field.nullable and table[field.name].null_count]
    if holed:
        raise DataError(f"{name}: null in column {', '.join(holed)}")
    return table
