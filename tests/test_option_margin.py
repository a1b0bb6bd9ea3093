"""Option rows of the margin table: what venues ask for, by hand, and what cannot be priced."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from risk.contracts.options import option_greeks, option_value
from risk.margin.book import build_book, margin_table
from risk.margin.options import OptionTerms, option_terms, read_option_terms
from risk.margin.venues import VenueRules
from risk.schema import CONTRACTS, POSITIONS, TIERS
from tests.makers import AS_OF, RULES, contract, position

CALL, PUT = "BTC/USD:BTC-251226-110000-C", "BTC/USD:BTC-251226-90000-P"
LINEAR_PUT = "SOL/USDC:USDC-251226-120-P"
CLOSE = dt.datetime.combine(AS_OF, dt.time(), dt.UTC) + dt.timedelta(days=1)
YEARS = (dt.datetime(2025, 12, 26, 8, tzinfo=dt.UTC) - CLOSE) / dt.timedelta(days=365)


def listed(symbol: str, **changes: Any) -> dict[str, Any]:
    """An option marked at 50 % on a forward at the index."""
    terms = contract(symbol)
    value = option_value(
        terms["index_price"], terms["strike"], YEARS, 0.5, terms["option_type"] == "call",
        not terms["linear"],
    )  # fmt: skip
    return {**terms, "mark_price": float(value), **changes}


def book_of(held: dict[str, Any], terms: dict[str, Any] | None = None, **rules: Any) -> pa.Table:
    wanted = {**RULES, "venue": "binance", "option_margin": "deribit", **rules}
    return build_book(
        pa.Table.from_pylist([held], schema=POSITIONS),
        pa.Table.from_pylist([terms or listed(held["symbol"])], schema=CONTRACTS),
        TIERS.empty_table(),
        {"binance": VenueRules.model_validate(wanted)},
        as_of=AS_OF,
    )


def row_of(*args: Any, **rules: Any) -> dict[str, Any]:
    (row,) = book_of(*args, **rules).to_pylist()
    return row


def written(symbol: str = CALL, **changes: Any) -> dict[str, Any]:
    changes = {"side": "short", "contracts": 2.0, "entry_price": 0.1, "leverage": None,
               "position_margin": 0.9, **changes}  # fmt: skip
    return position(symbol=symbol, **changes)


def test_a_written_call_at_deribit_is_backed_with_its_mark_and_a_fortieth_of_three_coins() -> None:
    mark = listed(CALL)["mark_price"]
    row = row_of(written())
    assert (row["status"], row["reason"], row["kind"], row["settle"]) == (
        "ok",
        None,
        "option",
        "BTC",
    )
    assert (row["notional"], row["notional_usd"]) == (2.0, 200_000.0)
    assert row["equity"] == pytest.approx(0.9 - 2 * mark, rel=1e-14)
    assert row["equity_usd"] == pytest.approx(100_000 * (0.9 - 2 * mark), rel=1e-14)
    # MM = 0.075 + mark, IM = max(0.15 - OTM / S, 0.1) + mark, with 10 % out of the money.
    assert row["maintenance_margin"] == pytest.approx(2 * 0.075, rel=1e-14)
    assert row["initial_margin"] == pytest.approx(2 * 0.1, rel=1e-14)
    assert row["margin_ratio"] == pytest.approx(0.15 / (0.9 - 2 * mark), rel=1e-14)
    assert row["unrealized_pnl"] == pytest.approx(2 * (0.1 - mark), rel=1e-12)
    for name in ("liquidation_price", "bankruptcy_price", "distance_to_liquidation", "trigger"):
        assert row[name] is None
    assert not row["margin_call"]
    delta = option_greeks(1e5, 1e5, 1.1e5, YEARS, 0.5, True, True).delta
    assert row["exposure_usd"] == pytest.approx(1e5 * (0.9 - 2 * float(delta)), rel=1e-6)


def test_a_written_put_at_deribit_is_backed_by_its_own_mark_when_that_is_more() -> None:
    deep = "BTC/USD:BTC-251226-250000-P"
    mark = listed(deep)["mark_price"]
    assert mark > 1
    row = row_of(written(deep, position_margin=10.0, entry_price=1.0))
    assert row["maintenance_margin"] == pytest.approx(2 * 0.075 * mark, rel=1e-14)
    assert row["initial_margin"] == pytest.approx(2 * 0.15, rel=1e-14)
    near = row_of(written(PUT, position_margin=2.0))
    assert near["maintenance_margin"] == pytest.approx(2 * 0.075, rel=1e-14)


def test_a_written_option_at_okx_is_backed_with_its_mark_three_percent_and_the_fee() -> None:
    rules = {"option_margin": "okx", "trigger_includes_closing_fee": True,
             "option_closing_fee_rate": 0.0003}  # fmt: skip
    mark = listed(CALL)["mark_price"]
    row = row_of(written(), **rules)
    assert row["maintenance_margin"] == pytest.approx(0.06, rel=1e-14)
    assert row["margin_ratio"] == pytest.approx((0.06 + 0.0006) / (0.9 - 2 * mark), rel=1e-14)
    # margin / (MM + 0.0003 qty) with MM = qty (mark + 0.03): one where it liquidates.
    edge = 2 * (mark + 0.03 + 0.0003)
    assert row_of(written(position_margin=edge * (1 + 1e-12)), **rules)["status"] == "ok"
    dead = row_of(written(position_margin=edge * (1 - 1e-12)), **rules)
    assert (dead["status"], dead["margin_call"]) == ("liquidatable", True)
    assert dead["margin_ratio"] == pytest.approx(1.0, rel=1e-9)


def test_a_linear_option_is_margined_in_its_quote_currency() -> None:
    mark = listed(LINEAR_PUT)["mark_price"]
    row = row_of(written(LINEAR_PUT, position_margin=100.0, entry_price=9.0))
    assert (row["settle"], row["is_inverse"]) == ("USDC", False)
    assert row["maintenance_margin"] == pytest.approx(2 * 0.075 * 150, rel=1e-14)
    assert row["equity"] == row["equity_usd"] == pytest.approx(100 - 2 * mark, rel=1e-14)


def test_a_bought_option_asks_for_nothing_and_cannot_be_liquidated() -> None:
    mark = listed(PUT)["mark_price"]
    row = row_of(written(PUT, side="long", position_margin=0.0))
    assert (row["status"], row["maintenance_margin"], row["initial_margin"]) == ("ok", 0.0, 0.0)
    assert row["equity"] == pytest.approx(2 * mark, rel=1e-14)
    assert row["margin_ratio"] == 0
    assert row["option_margin"] is None
    assert row["exposure_usd"] < 0


@pytest.mark.parametrize(
    ("held", "terms", "rules", "said"),
    [
        ({}, {"mark_price": 0.5}, {}, "is not the 0.0"),
        ({}, {"mark_iv": 5.0}, {}, "that mark_iv gives"),
        ({}, {"mark_iv": 0.0, "mark_price": 1.0}, {}, "no mark_iv"),
        ({}, {"mark_iv": 50.0}, {}, "fraction per year"),
        ({}, {"index_price": None}, {}, "no index price above zero"),
        ({}, {"mark_price": None}, {}, "no mark price above zero"),
        ({}, {"strike": float("nan")}, {}, "no strike above zero"),
        ({}, {"option_type": None}, {}, "neither a call nor a put"),
        ({}, {"expiry": CLOSE}, {}, "expired"),
        ({}, {"settle": "USDC"}, {}, "settles in USDC, not in BTC"),
        ({}, {}, {"option_margin": None}, "no option_margin rule"),
        ({"stop_loss_price": 0.3}, {}, {}, "a stop on an option"),
        ({"margin_mode": "cross"}, {}, {}, "cross margin"),
    ],
)
def test_what_cannot_be_valued_is_unpriced_with_a_reason(held, terms, rules, said) -> None:
    # A far strike alone says nothing of the forward, so that the index stands in.
    symbol = "BTC/USD:BTC-251226-200000-C" if "mark_iv" in terms or "mark_price" in terms else CALL
    row = row_of(written(symbol, **held), listed(symbol, **terms), **rules)
    assert row["status"] == "unpriced"
    assert said in row["reason"]
    assert row["notional"] is None


def test_a_missing_implied_volatility_is_solved_from_the_mark() -> None:
    terms = listed(CALL, mark_iv=None)
    (found,) = option_terms([terms], {"binance": VenueRules.model_validate(
        {**RULES, "venue": "binance", "option_margin": "okx"})}, CLOSE)  # fmt: skip
    assert isinstance(found, OptionTerms)
    assert found.volatility == pytest.approx(0.5, rel=1e-9)
    assert read_option_terms(found.to_text()) == found


def test_the_forward_of_an_expiry_is_what_its_marks_say() -> None:
    forward = 103_000.0
    rows = []
    for strike in (80_000, 100_000, 105_000, 140_000):
        symbol = f"BTC/USD:BTC-251226-{strike}-C"
        value = option_value(forward, strike, YEARS, 0.5, True, True)
        rows.append(listed(symbol, mark_price=round(float(value), 4)))
    rules = VenueRules.model_validate({**RULES, "venue": "binance", "option_margin": "okx"})
    found = option_terms(rows, {"binance": rules}, CLOSE)
    assert all(isinstance(one, OptionTerms) for one in found)
    for one in found:
        assert isinstance(one, OptionTerms)
        assert one.forward == pytest.approx(forward, rel=1e-3)
        assert abs(one.offset) < 1e-4


def test_the_margin_table_has_option_rows_like_any_other() -> None:
    table = margin_table(book_of(written()))
    assert table.column("status").to_pylist() == ["ok"]
