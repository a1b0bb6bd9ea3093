"""What a position inherits from its contract: size, mark, labels, venue rules, or why it has none.

One row per contract, so this may loop in Python; positions only look their row up.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from risk.errors import ConfigError
from risk.margin.options import OptionTerms, option_terms
from risk.margin.partial import contract_rule, step_rule
from risk.margin.tiers import TierTables
from risk.schema import USD_EQUIVALENTS

if TYPE_CHECKING:
    from risk.margin.venues import VenueRules

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: A mark older than this at the close of the as-of day is stale.
STALE_AFTER = dt.timedelta(hours=1)

#: A mark further than this from its index is an error of one of the two, not a price: the clamps of
#: perpetuals are a few per cent, a future's basis may be that of a year.
MARK_FROM_INDEX = {"swap": 0.2, "future": 0.5}


@dataclass(frozen=True)
class Terms:
    """Contract terms and venue rules, one entry per contract.

    Attributes
    ----------
    row_of : mapping of (venue, symbol) to int
        Where a contract's entry is.
    contract_size, mark_price : ndarray (contract,)
        As in the snapshot; mark 1 where there is none (the reason then says so).
    has_mark, is_inverse, is_stale : ndarray of bool (contract,)
        Claims about the contract.
    table : ndarray of int (contract,)
        Column of its tier table; 0 where there is none.
    is_entry_basis, is_fee_at_bankruptcy, leftover_to_holder : ndarray of bool (contract,)
        The venue's rules.
    is_strict : ndarray of bool (contract,)
        Equity equal to the requirement is safe.
    trigger_fee_rate, closing_fee_rate, liquidation_fee_rate : ndarray (contract,)
        Fractions of the closed notional; the first is 0 where the trigger leaves it out.
    steps : list of (str or None) (contract,)
        Rule that cuts liquidations into steps, see `risk.margin.partial`; None: closed whole.
    requirement : list of (str or None) (contract,)
        Rule of the maintenance margin and the liquidation test; None: no tiers.
    option : list of (OptionTerms or None) (contract,)
        Terms of the option contracts that can be priced.
    asset, settle, kind, reason : list of str (contract,)
        Labels, and why the contract cannot be priced ("" where it can).
    """

    row_of: Mapping[tuple[str, str], int]
    contract_size: Floats
    mark_price: Floats
    has_mark: Bools
    is_inverse: Bools
    is_stale: Bools
    table: NDArray[np.int64]
    is_entry_basis: Bools
    is_fee_at_bankruptcy: Bools
    is_strict: Bools
    leftover_to_holder: Bools
    trigger_fee_rate: Floats
    closing_fee_rate: Floats
    liquidation_fee_rate: Floats
    steps: list[str | None]
    requirement: list[str | None]
    option: list[OptionTerms | None]
    asset: list[str]
    settle: list[str]
    kind: list[str]
    reason: list[str]


def contract_terms(
    contracts: pa.Table,
    tiers: TierTables,
    venues: Mapping[str, VenueRules],
    *,
    as_of: dt.date,
) -> Terms:
    """Join contracts with their tiers and venue rules.

    Parameters
    ----------
    contracts : pa.Table
        Schema CONTRACTS, one row per (venue, symbol).
    tiers : TierTables
        Maintenance tiers.
    venues : mapping of str to VenueRules
        Rules in force on `as_of`.
    as_of : date
        The marks are those of its close.

    Returns
    -------
    Terms
        One entry per contract, in the order given.

    Raises
    ------
    ConfigError
        If a venue has no rules.
    """
    rows = contracts.to_pylist()
    unruled = sorted({row["venue"] for row in rows} - set(venues))
    if unruled:
        raise ConfigError(
            f"no margin rules for venue {', '.join(unruled)}: add <venue>.yaml to the venues folder"
        )
    rules = [venues[row["venue"]] for row in rows]
    close = dt.datetime.combine(as_of, dt.time(), dt.UTC) + dt.timedelta(days=1)
    names = [(row["venue"], row["symbol"]) for row in rows]
    options = _options(rows, venues, close)
    trigger_fee = [
        rule.closing_fee_rate if rule.trigger_includes_closing_fee else 0.0 for rule in rules
    ]
    return Terms(
        row_of={name: i for i, name in enumerate(names)},
        contract_size=np.array([row["contract_size"] for row in rows], dtype=np.float64),
        mark_price=np.array([row["mark_price"] if _has_mark(row) else 1.0 for row in rows]),
        has_mark=np.array([_has_mark(row) for row in rows], dtype=bool),
        is_inverse=np.array([_is_inverse(row) for row in rows], dtype=bool),
        is_stale=np.array(
            [
                row["mark_timestamp"] is not None and row["mark_timestamp"] < close - STALE_AFTER
                for row in rows
            ],
            dtype=bool,
        ),
        table=np.array([tiers.table_of.get(name, 0) for name in names], dtype=np.int64),
        is_entry_basis=np.array([rule.maintenance_basis == "entry" for rule in rules], dtype=bool),
        is_fee_at_bankruptcy=np.array(
            [rule.closing_fee_price == "bankruptcy" for rule in rules], dtype=bool
        ),
        is_strict=np.array([rule.boundary == "below" for rule in rules], dtype=bool),
        leftover_to_holder=np.array([rule.leftover == "holder" for rule in rules], dtype=bool),
        trigger_fee_rate=np.array(trigger_fee, dtype=np.float64),
        closing_fee_rate=np.array([rule.closing_fee_rate for rule in rules], dtype=np.float64),
        liquidation_fee_rate=np.array(
            [rule.liquidation_fee_rate for rule in rules], dtype=np.float64
        ),
        steps=[
            _steps(rule, tiers, tiers.table_of.get(name))
            for rule, name in zip(rules, names, strict=True)
        ],
        requirement=[
            contract_rule(rule, tiers, tiers.table_of[name]).to_text()
            if name in tiers.table_of
            else None
            for rule, name in zip(rules, names, strict=True)
        ],
        option=[one if isinstance(one, OptionTerms) else None for one in options],
        asset=[row["base"] for row in rows],
        settle=[row["settle"] for row in rows],
        kind=[_kind(row) for row in rows],
        reason=[
            one if isinstance(one, str) else "" if one else _reason(row, tiers, fee, close)
            for row, fee, one in zip(rows, trigger_fee, options, strict=True)
        ],
    )


def _steps(rule: VenueRules, tiers: TierTables, table: int | None) -> str | None:
    steps = None if table is None else step_rule(rule, tiers, table)
    return None if steps is None else steps.to_text()


def _options(
    rows: Sequence[Mapping[str, Any]], venues: Mapping[str, VenueRules], close: dt.datetime
) -> list[OptionTerms | str | None]:
    """Terms of each option contract or why it has none; None where a contract is no option."""
    at = [i for i, row in enumerate(rows) if row["type"] == "option"]
    found: list[OptionTerms | str | None] = [None] * len(rows)
    for i, terms in zip(at, option_terms([rows[i] for i in at], venues, close), strict=True):
        found[i] = terms
    return found


def _has_mark(row: Mapping[str, Any]) -> bool:
    mark = row["mark_price"]
    return mark is not None and bool(np.isfinite(mark)) and mark > 0


def _is_inverse(row: Mapping[str, Any]) -> bool:
    return row["type"] != "option" and not row["linear"]


def _kind(row: Mapping[str, Any]) -> str:
    if row["type"] == "option":
        return "option"
    maturity = "perpetual" if row["type"] == "swap" else "future"
    return f"{'inverse' if _is_inverse(row) else 'linear'}_{maturity}"


def _reason(
    row: Mapping[str, Any], tiers: TierTables, trigger_fee: float, close: dt.datetime
) -> str:
    """Why no position in the contract can be priced; empty where it can."""
    name = f"{row['venue']} {row['symbol']}"
    settles_in = row["base"] if _is_inverse(row) else row["quote"]
    if row["settle"] != settles_in:
        return f"settles in {row['settle']}, not in {settles_in}: {name}"
    if row["quote"] not in USD_EQUIVALENTS:
        return f"quoted in {row['quote']}, which is not taken as a US dollar: {name}"
    if row["expiry"] is not None and row["expiry"] <= close:
        return f"expired: {name}"
    if not row["contract_size"] > 0:
        return f"no contract size above zero: {name}"
    if not _has_mark(row):
        return f"no mark price for {name}"
    index, furthest = row["index_price"], MARK_FROM_INDEX[row["type"]]
    if index is not None and index > 0 and abs(row["mark_price"] / index - 1) > furthest:
        return f"the mark is more than {furthest:.0%} from the index: {name}"
    table = tiers.table_of.get((row["venue"], row["symbol"]))
    if table is None:
        return f"no tiers for {name}"
    if tiers.largest_rate(table) + trigger_fee >= 1:
        return f"maintenance rate plus closing fee is not below 1 for {name}"
    return ""
