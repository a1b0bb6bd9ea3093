"""What a row must satisfy to take part; a row that does not is quarantined with every reason.

Each rule is a sentence and a test; the sentence, with the value found, becomes the reason. A null
passes a test only where the column may be null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dataframely as dy
import polars as pl

#: Positive numbers outside belong to no real position; products of three inside cannot overflow.
SMALLEST, LARGEST = 1e-18, 1e18
#: Years that instants may lie in: what a count of nanoseconds can hold, with room to spare.
YEARS = 2000, 2199
_OVERFLOW = f"must lie between {SMALLEST:g} and {LARGEST:g}"
_GOT = ", got "
_Test = Callable[[pl.Expr], pl.Expr]


def _column(kind: Any, sentence: str, test: _Test, *, null: bool = False) -> Any:
    def passes(column: pl.Expr) -> pl.Expr:
        return test(column).fill_null(null)

    if kind is not dy.Float64:
        return kind(nullable=True, check={sentence: passes})
    check = {sentence: passes, _OVERFLOW: _is_moderate}
    # NaN and infinity are ours to judge: one reason for each row and column is enough.
    return dy.Float64(nullable=True, allow_nan=True, allow_inf=True, check=check)


def _is_moderate(column: pl.Expr) -> pl.Expr:
    magnitude = column.abs()
    return (magnitude == 0) | ~magnitude.is_finite() | magnitude.is_between(SMALLEST, LARGEST)


def _text(*allowed: str, null: bool = False) -> Any:
    if allowed:
        sentence = f"must be {', '.join(allowed[:-1])} or {allowed[-1]}"
        return _column(dy.String, sentence, lambda c: c.is_in(allowed), null=null)
    return _column(dy.String, "must not be empty", lambda c: c.str.strip_chars() != "")


def _above_zero(*, null: bool = False) -> Any:
    sentence = "must be a number above zero"
    return _column(dy.Float64, sentence, lambda c: c.is_finite() & (c > 0), null=null)


def _not_negative(*, null: bool = False) -> Any:
    sentence = "must be a number not below zero"
    return _column(dy.Float64, sentence, lambda c: c.is_finite() & (c >= 0), null=null)


def _instant() -> Any:
    first, last = YEARS
    sentence = f"must lie in the years {first} to {last}"
    check = {sentence: lambda c: c.dt.year().is_between(first, last)}
    return dy.Datetime(nullable=True, time_zone="UTC", time_unit="ms", check=check)


class _Located(dy.Schema):
    file = dy.String()
    row = dy.Int64()


class PositionRules(_Located):
    """A position that can take part; `is_listed` says whether its contract is there."""

    position_id = _text()
    account = _text()
    book = _text()
    venue = _text()
    symbol = _text()
    side = _text("long", "short")
    contracts = _above_zero()
    entry_price = _above_zero()
    margin_mode = _text("isolated", "cross")
    position_margin = _not_negative()
    leverage = _above_zero(null=True)
    stop_loss_price = _above_zero(null=True)
    is_listed = dy.Bool()

    @dy.rule()
    def symbol_names_no_contract_of_its_venue(cls) -> pl.Expr:
        """Check rows that have a symbol; an empty one has its own reason."""
        return pl.col("is_listed") | (pl.col("symbol").fill_null("").str.strip_chars() == "")


class ContractRules(_Located):
    """A contract that can be priced once it has a mark."""

    venue = _text()
    symbol = _text()
    base = _text()
    quote = _text()
    settle = _text()
    type = _text("swap", "future", "option")
    linear = _column(dy.Bool, "must be true or false", lambda c: c.is_not_null())
    contract_size = _above_zero()
    expiry = _instant()
    strike = _above_zero(null=True)
    option_type = _text("call", "put", null=True)
    mark_price = _above_zero(null=True)
    mark_timestamp = _instant()
    index_price = _above_zero(null=True)
    funding_rate = _column(dy.Float64, "must be between -1 and 1", lambda c: c.abs() < 1, null=True)
    funding_interval_hours = _above_zero(null=True)
    mark_iv = _not_negative(null=True)
    volume_24h_usd = _not_negative(null=True)

    @dy.rule()
    def a_future_or_option_needs_an_expiry(cls) -> pl.Expr:
        """Check that whatever is not perpetual says when it ends."""
        return ~pl.col("type").is_in(["future", "option"]) | pl.col("expiry").is_not_null()

    @dy.rule()
    def a_swap_has_no_expiry(cls) -> pl.Expr:
        """Check that no future is labelled a perpetual."""
        return (pl.col("type") != "swap") | pl.col("expiry").is_null()

    @dy.rule()
    def an_option_needs_a_strike_and_an_option_type(cls) -> pl.Expr:
        """Check that an option has a payoff."""
        named = pl.col("strike").is_not_null() & pl.col("option_type").is_not_null()
        return (pl.col("type") != "option") | named


class AccountRules(_Located):
    """A balance that can back cross-margin positions."""

    account = _text()
    venue = _text()
    currency = _text()
    balance = _column(dy.Float64, "must be a number", lambda c: c.is_finite())
    haircut = _column(dy.Float64, "must be between 0 and 1", lambda c: c.is_between(0, 1))


def sort_out(frame: pl.DataFrame, rules: type[dy.Schema]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those that keep every rule and a quarantine with the reasons of the rest.

    Parameters
    ----------
    frame : DataFrame (row,)
        Rows with the columns of `rules`.
    rules : type of Schema
        One of the classes above.

    Returns
    -------
    good, quarantined : DataFrame
        The rows that pass, in order; `file, row, position_id, reason` of the others. Their numbers
        of rows add up to those of `frame`.
    """
    good, failure = rules.filter(frame)
    details = failure.details()
    broken = [column for column in details.columns if column not in frame.columns]
    reasons = [
        pl.when(pl.col(rule).cast(pl.String) == "invalid").then(_reason(rule, frame.columns))
        for rule in broken
    ]
    reason = pl.concat_str(reasons, separator="; ", ignore_nulls=True)
    position_id = pl.lit(None, pl.String)
    if "position_id" in frame.columns:
        is_given = pl.col("position_id").str.strip_chars() != ""
        position_id = pl.when(is_given).then(pl.col("position_id"))
    return good, details.select(
        "file", "row", position_id.alias("position_id"), reason.alias("reason")
    )


def kinds_of_reasons(reasons: pl.Series) -> pl.DataFrame:
    """Count rows by rule broken, the values left out: `reason, n_rows`, commonest first."""
    kinds = reasons.str.split("; ").explode().str.split(_GOT).list.first()
    counts = kinds.alias("reason").value_counts(name="n_rows")
    return counts.sort(["n_rows", "reason"], descending=[True, False])


def _reason(rule: str, columns: list[str]) -> pl.Expr:
    column, _, check = rule.partition("|")
    if column not in columns:
        shown = ["venue", "symbol"] if "symbol" in columns else []
        return _sentence(column.replace("_", " "), shown)
    return _sentence(f"{column} {check.removeprefix('check__')}", [column])


def _sentence(text: str, shown: list[str]) -> pl.Expr:
    # Values are cut, freed of control and direction marks and of our own separator: they may be
    # hostile, and a reason is printed in terminals and reports.
    values = [
        pl.col(name)
        .cast(pl.String)
        .str.slice(0, 60)
        .str.replace_all(r"\p{C}", "\N{REPLACEMENT CHARACTER}")
        .str.replace_all(";", ",", literal=True)
        .fill_null("null")
        for name in shown
    ]
    return pl.concat_str([pl.lit(text + _GOT), pl.concat_str(values, separator=" ")])
