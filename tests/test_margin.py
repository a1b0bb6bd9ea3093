"""The book and its margin table: examples by hand, an obvious scalar twin, and laws."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from risk.errors import ConfigError, DataError
from risk.margin.book import build_book, margin_table
from risk.margin.tiers import build_tier_tables, tier_max_leverage, tiered_maintenance
from risk.margin.venues import VenueRules
from risk.schema import BOOK, CONTRACTS, MARGIN, POSITIONS, TIERS
from tests.makers import AS_OF, RULES, contract, position, tier_table

LINEAR, INVERSE = "BTC/USDT:USDT", "BTC/USD:BTC"
FLAT = [(0.0, 0.01, 100.0)]
CLOSE = dt.datetime.combine(AS_OF, dt.time(), dt.UTC) + dt.timedelta(days=1)
UNPRICED_MAY_HAVE = {"position_id", "status", "reason"}


def book_of(
    *positions: dict[str, Any],
    contracts: list[dict[str, Any]] | None = None,
    tiers: list[dict[str, Any]] | None = None,
    **rules: Any,
) -> pa.Table:
    """Book of some positions; their contracts and tiers by default; `rules` for every venue."""
    listed = sorted({(row["venue"], row["symbol"]) for row in positions})
    if contracts is None:
        contracts = [contract(symbol, venue=venue) for venue, symbol in listed]
    if tiers is None:
        tiers = [tier for venue, symbol in listed for tier in tier_table(symbol, venue)]
    return build_book(
        pa.Table.from_pylist(list(positions), schema=POSITIONS),
        pa.Table.from_pylist(contracts, schema=CONTRACTS),
        pa.Table.from_pylist(tiers, schema=TIERS),
        {
            venue: VenueRules.model_validate({**RULES, "venue": venue, **rules})
            for venue in {row["venue"] for row in positions}
        },
        as_of=AS_OF,
    )


def row_of(book: pa.Table) -> dict[str, Any]:
    (row,) = book.to_pylist()
    return row


# -- by hand -------------------------------------------------------------------------------------


def test_a_tenfold_long_at_one_percent_is_liquidated_at_ten_elevenths_less() -> None:
    row = row_of(book_of(position(), tiers=tier_table(steps=FLAT)))
    assert row["notional"] == 100_000
    assert row["equity"] == row["equity_usd"] == row["initial_margin"] == 10_000
    assert row["maintenance_margin"] == pytest.approx(1_000, rel=1e-12)
    assert row["margin_ratio"] == pytest.approx(0.1, rel=1e-12)
    assert row["liquidation_price"] == pytest.approx(90_000 / 0.99, rel=1e-12)
    assert row["bankruptcy_price"] == pytest.approx(90_000, rel=1e-12)
    assert row["distance_to_liquidation"] == pytest.approx(1 - 0.9 / 0.99, rel=1e-12)
    assert row["trigger"] == pytest.approx(0.9 / 0.99, rel=1e-12)
    assert row["exposure_usd"] == 100_000
    assert (row["status"], row["reason"], row["margin_call"]) == ("ok", None, False)


def test_a_larger_position_is_tested_at_the_tier_of_the_liquidation_price() -> None:
    # 7 BTC are worth 700,000 (tier 1 %) now, but 600,000 to 650,000 when they are liquidated;
    # 6.2 BTC leave the tier on the way down.
    for contracts, rate, amount in ((7.0, 0.01, 3_050.0), (6.2, 0.005, 50.0)):
        row = row_of(book_of(position(contracts=contracts)))
        price = (contracts * 90_000 - amount) / (contracts * (1 - rate))
        assert row["liquidation_price"] == pytest.approx(price, rel=1e-12)


def test_an_inverse_short_covered_by_its_coin_cannot_be_liquidated() -> None:
    held = position(symbol=INVERSE, side="short", contracts=1000.0, position_margin=1.0)
    row = row_of(book_of(held))
    assert row["liquidation_price"] is None
    assert row["bankruptcy_price"] is None
    assert row["trigger"] is None
    assert row["distance_to_liquidation"] is None
    assert row["status"] == "ok"
    assert row["exposure_usd"] == 0.0


def test_a_long_paid_in_full_cannot_be_liquidated() -> None:
    row = row_of(book_of(position(position_margin=100_000.0, leverage=None)))
    assert row["liquidation_price"] is None
    assert row["bankruptcy_price"] is None
    assert row["status"] == "ok"


def test_an_inverse_position_is_valued_in_coin_and_in_dollars() -> None:
    held = position(symbol=INVERSE, contracts=1000.0, entry_price=80_000.0, position_margin=0.125)
    row = row_of(book_of(held))
    assert row["notional"] == pytest.approx(1.0, rel=1e-12)
    assert row["unrealized_pnl"] == pytest.approx(0.25, rel=1e-12)
    assert row["equity"] == pytest.approx(0.375, rel=1e-12)
    assert row["initial_margin"] == pytest.approx(0.125, rel=1e-12)
    assert (row["notional_usd"], row["equity_usd"]) == (100_000, pytest.approx(37_500, rel=1e-12))
    assert row["exposure_usd"] == pytest.approx(137_500, rel=1e-12)
    assert row["is_inverse"]


def test_a_position_past_its_trigger_is_liquidatable_with_its_numbers() -> None:
    held = position(entry_price=110_000.0, position_margin=10_400.0)
    row = row_of(book_of(held))
    assert row["status"] == "liquidatable"
    assert "liquidation price" in row["reason"]
    assert row["equity"] == pytest.approx(400, rel=1e-12)
    assert row["margin_ratio"] > 1
    assert row["distance_to_liquidation"] <= 0
    assert row["trigger"] >= 1
    assert row["margin_call"]


def test_equity_below_zero_has_no_ratio() -> None:
    row = row_of(book_of(position(entry_price=120_000.0, position_margin=12_000.0)))
    assert (row["status"], row["margin_ratio"]) == ("liquidatable", None)


def test_equity_too_small_to_divide_by_has_no_ratio() -> None:
    row = row_of(book_of(position(position_margin=1e-312)))
    assert (row["status"], row["margin_ratio"]) == ("liquidatable", None)


def test_equity_equal_to_the_requirement_is_safe_only_where_the_venue_says_below() -> None:
    # Bought at the mark with just the maintenance posted; 1/64 so that nothing is rounded.
    held = position(position_margin=100_000 / 64)
    tiers = tier_table(steps=[(0.0, 1 / 64, 50.0)])
    at = row_of(book_of(held, tiers=tiers, boundary="at"))
    below = row_of(book_of(held, tiers=tiers, boundary="below"))
    assert at["liquidation_price"] == below["liquidation_price"] == 100_000
    assert (at["status"], at["trigger"]) == ("liquidatable", 1.0)
    assert (below["status"], below["trigger"]) == ("ok", np.nextafter(1.0, 0.0))
    short = row_of(book_of({**held, "side": "short"}, tiers=tiers, boundary="below"))
    assert (short["status"], short["trigger"]) == ("ok", np.nextafter(1.0, 2.0))
    assert below["distance_to_liquidation"] == short["distance_to_liquidation"] == 0


def test_initial_margin_without_leverage_uses_the_most_that_the_entry_tier_allows() -> None:
    for contracts, leverage in ((0.4, 125.0), (0.5, 100.0), (6.0, 50.0), (50_000.0, 10.0)):
        row = row_of(book_of(position(contracts=contracts, leverage=None)))
        assert row["initial_margin"] == pytest.approx(contracts * 100_000 / leverage, rel=1e-12)


def test_a_notional_beyond_the_last_tier_is_margined_by_the_last_tier() -> None:
    row = row_of(book_of(position(contracts=50_000.0)))
    *_, last = tier_table()
    required = 5e9 * last["maintenance_margin_rate"] - last["maintenance_amount"]
    assert last["max_notional"] < 5e9
    assert row["maintenance_margin"] == pytest.approx(required, rel=1e-12)


def test_a_margin_call_is_equity_below_the_initial_margin() -> None:
    called = row_of(book_of(position(entry_price=101_000.0, position_margin=10_100.0)))
    assert called["margin_call"]
    assert called["status"] == "ok"


# -- statuses and reasons ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "held", "terms", "said"),
    [
        (LINEAR, {"margin_mode": "cross"}, {}, "cross margin"),
        ("BTC/USD:BTC-251226-100000-C", {}, {}, "options"),
        (LINEAR, {}, {"settle": "BUSD"}, "settles in BUSD, not in USDT"),
        (INVERSE, {}, {"settle": "ETH"}, "settles in ETH, not in BTC"),
        (LINEAR, {}, {"quote": "EUR", "settle": "EUR"}, "quoted in EUR"),
        ("BTC/USDT:USDT-250627", {}, {}, "expired"),
        ("BTC/USDT:USDT-251226", {}, {"expiry": CLOSE}, "expired"),
        (LINEAR, {}, {"mark_price": None}, "no mark price for binance BTC/USDT:USDT"),
        (LINEAR, {}, {"mark_price": math.nan}, "no mark price"),
        (LINEAR, {}, {"index_price": 50_000.0}, "the mark is more than 20% from the index"),
        (LINEAR, {}, {"index_price": 130_000.0}, "the mark is more than 20% from the index"),
        (LINEAR, {}, {"mark_price": 0.0}, "no mark price"),
        (LINEAR, {}, {"mark_price": -1.0}, "no mark price"),
        (LINEAR, {}, {"contract_size": 0.0}, "no contract size above zero"),
        (LINEAR, {"stop_loss_price": 110_000.0}, {}, "not on the losing side"),
        (LINEAR, {"stop_loss_price": 90_000.0, "side": "short"}, {}, "not on the losing side"),
    ],
)
def test_what_cannot_be_priced_is_a_row_of_nulls_with_a_reason(
    symbol: str, held: dict[str, Any], terms: dict[str, Any], said: str
) -> None:
    book = book_of(position(symbol=symbol, **held), contracts=[contract(symbol, **terms)])
    row = row_of(margin_table(book))
    assert row["status"] == "unpriced"
    assert said in row["reason"]
    assert {name for name, value in row.items() if value is not None} == UNPRICED_MAY_HAVE
    full = row_of(book)
    unpriced = ("exposure_usd", "trigger", "stop_trigger", "closing_fee_rate", "leftover_to_holder")
    assert all(full[name] is None for name in unpriced)


def test_a_contract_without_tiers_is_unpriced_by_name() -> None:
    book = book_of(position(), position("p2", symbol=INVERSE), tiers=tier_table(INVERSE))
    first, second = book.to_pylist()
    assert (first["status"], first["reason"]) == ("unpriced", "no tiers for binance BTC/USDT:USDT")
    assert second["status"] == "ok"


def test_a_book_without_any_tiers_is_unpriced_not_a_crash() -> None:
    assert row_of(book_of(position(), tiers=[]))["reason"].startswith("no tiers")


def test_rates_that_reach_one_with_the_fee_are_unpriced() -> None:
    tiers = tier_table(steps=[(0.0, 0.01, 100.0), (1e6, 0.9995, 1.0)])
    assert row_of(book_of(position(), tiers=tiers))["status"] == "ok"
    row = row_of(book_of(position(), tiers=tiers, trigger_includes_closing_fee=True))
    assert row["status"] == "unpriced"
    assert "not below 1" in row["reason"]


def test_a_future_that_expires_after_the_close_is_priced() -> None:
    symbol = "BTC/USDT:USDT-250630"
    row = row_of(book_of(position(symbol=symbol)))
    assert (row["status"], row["kind"]) == ("ok", "linear_future")


@pytest.mark.parametrize(
    ("symbol", "kind", "asset", "settle"),
    [
        (LINEAR, "linear_perpetual", "BTC", "USDT"),
        (INVERSE, "inverse_perpetual", "BTC", "BTC"),
        ("ETH/USDC:USDC-251226", "linear_future", "ETH", "USDC"),
        ("ETH/USD:ETH-251226", "inverse_future", "ETH", "ETH"),
        ("BTC/USD:BTC-251226-100000-C", "option", "BTC", "BTC"),
    ],
)
def test_labels_say_what_is_held(symbol: str, kind: str, asset: str, settle: str) -> None:
    row = row_of(book_of(position(symbol=symbol, side="short", book="desk", account="x")))
    labels = (row["kind"], row["asset"], row["settle"], row["side"], row["book"], row["venue"])
    assert labels == (kind, asset, settle, "short", "desk", "binance")
    assert (row["direction"], row["account"], row["symbol"]) == (-1, "x", symbol)


@pytest.mark.parametrize(
    ("taken", "is_stale"),
    [
        (CLOSE, False),
        (CLOSE - dt.timedelta(hours=1), False),
        (CLOSE - dt.timedelta(hours=1, milliseconds=1), True),
        (None, False),
    ],
)
def test_a_mark_older_than_an_hour_at_the_close_is_stale(taken, is_stale) -> None:
    book = book_of(position(), contracts=[contract(mark_timestamp=taken)])
    assert row_of(book)["is_stale"] is is_stale


# -- stops and rules -----------------------------------------------------------------------------


def test_a_stop_before_the_margin_trigger_is_kept_and_one_beyond_is_dropped() -> None:
    kept = row_of(book_of(position(stop_loss_price=95_000.0)))
    assert kept["stop_trigger"] == pytest.approx(0.95)
    assert row_of(book_of(position(stop_loss_price=80_000.0)))["stop_trigger"] is None
    at_trigger = kept["liquidation_price"]
    assert row_of(book_of(position(stop_loss_price=at_trigger)))["stop_trigger"] is None
    short = row_of(book_of(position(side="short", stop_loss_price=105_000.0)))
    assert short["stop_trigger"] == pytest.approx(1.05)
    assert row_of(book_of(position(side="short", stop_loss_price=2e5)))["stop_trigger"] is None


def test_a_stop_of_a_position_that_cannot_be_liquidated_is_kept() -> None:
    row = row_of(book_of(position(position_margin=2e5, stop_loss_price=10_000.0)))
    assert (row["trigger"], row["stop_trigger"]) == (None, pytest.approx(0.1))


def test_a_stop_does_not_hide_a_position_past_its_trigger() -> None:
    held = position(entry_price=110_000.0, position_margin=10_400.0, stop_loss_price=105_000.0)
    row = row_of(book_of(held))
    assert (row["status"], row["stop_trigger"]) == ("liquidatable", None)


@pytest.mark.parametrize(("leftover", "to_holder"), [("holder", True), ("fund", False)])
def test_fees_and_leftover_come_from_the_venue(leftover: str, to_holder: bool) -> None:
    row = row_of(book_of(position(), leftover=leftover))
    assert row["leftover_to_holder"] is to_holder
    assert (row["closing_fee_rate"], row["liquidation_fee_rate"]) == (0.0005, 0.0125)


def test_a_venue_in_the_book_without_rules_is_a_config_error() -> None:
    table = pa.Table.from_pylist([position()], schema=POSITIONS)
    contracts = pa.Table.from_pylist([contract()], schema=CONTRACTS)
    tiers = pa.Table.from_pylist(tier_table(), schema=TIERS)
    with pytest.raises(ConfigError, match="no margin rules for venue binance"):
        build_book(table, contracts, tiers, {}, as_of=AS_OF)


def test_rules_are_asked_only_of_venues_that_hold_positions() -> None:
    book = book_of(position(), contracts=[contract(), contract(venue="unheld")])
    assert row_of(book)["status"] == "ok"


def test_a_position_in_no_contract_is_a_data_error() -> None:
    with pytest.raises(DataError, match="no contract BTC/USDT:USDT on venue binance"):
        book_of(position(), contracts=[contract(INVERSE)])


def test_a_repeated_position_id_is_a_data_error() -> None:
    with pytest.raises(DataError, match="position_id p1 appears more than once"):
        book_of(position("p2"), position("p1"), position("p1"))


# -- shape ---------------------------------------------------------------------------------------


def test_the_book_is_sorted_by_position_id_whatever_the_order_of_the_rows() -> None:
    rows = [position("p3", side="short"), position("p1"), position("p2", symbol=INVERSE)]
    book = book_of(*rows)
    assert book["position_id"].to_pylist() == ["p1", "p2", "p3"]
    assert book.equals(book_of(*reversed(rows)))
    assert book.schema.equals(BOOK, check_metadata=True)
    assert margin_table(book).schema.equals(MARGIN, check_metadata=True)


def test_an_empty_book_is_an_empty_table() -> None:
    assert book_of().num_rows == 0


def test_nulls_are_null_and_never_nan() -> None:
    book = book_of(
        position("a"),
        position("b", margin_mode="cross"),
        position("c", symbol=INVERSE, side="short", position_margin=1.0, contracts=1000.0),
        position("d", entry_price=120_000.0),
    )
    for field, column in zip(book.schema, book.columns, strict=True):
        if pa.types.is_floating(field.type):
            values = column.drop_null().to_numpy()
            assert np.isfinite(values).all(), field.name


def test_strings_may_come_dictionary_encoded() -> None:
    table = pa.Table.from_pylist([position("b"), position("a")], schema=POSITIONS)
    coded = table
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) and field.name != "position_id":
            coded = coded.set_column(i, field.name, table[i].dictionary_encode())
    contracts = pa.Table.from_pylist([contract()], schema=CONTRACTS)
    tiers = pa.Table.from_pylist(tier_table(), schema=TIERS)
    rules = {"binance": VenueRules.model_validate({**RULES, "venue": "binance"})}
    plain = build_book(table, contracts, tiers, rules, as_of=AS_OF)
    assert build_book(coded, contracts, tiers, rules, as_of=AS_OF).equals(plain)


# -- the obvious twin ----------------------------------------------------------------------------

shares = st.floats(0.0, 1.0, allow_subnormal=False)
RULE_CHOICES = st.fixed_dictionaries(
    {
        "maintenance_basis": st.sampled_from(["mark", "entry"]),
        "trigger_includes_closing_fee": st.booleans(),
        "closing_fee_price": st.sampled_from(["test", "bankruptcy"]),
        "closing_fee_rate": st.sampled_from([0.0, 0.0005, 0.00075, 0.01]),
        "boundary": st.sampled_from(["at", "below"]),
    }
)


@st.composite
def tier_steps(draw: st.DrawFn, entry_notional: float) -> list[tuple[float, float, float]]:
    """One to six tiers around the position's size, rates rising from 0.2 % to at most 60 %."""
    n = draw(st.integers(1, 6))
    rates = sorted(draw(st.lists(st.floats(0.002, 0.6), min_size=n, max_size=n, unique=True)))
    bounds = draw(st.lists(st.floats(0.05, 20.0), min_size=n - 1, max_size=n - 1, unique=True))
    floors = [0.0, *(entry_notional * bound for bound in sorted(bounds))]
    return [(f, r, max(1.0, 0.5 / r)) for f, r in zip(floors, rates, strict=True)]


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A position with its contract, tiers and rules."""
    symbol = draw(st.sampled_from([LINEAR, INVERSE]))
    size = draw(st.sampled_from([0.001, 1.0, 100.0]))
    contracts = 10 ** draw(st.floats(-2, 5))
    entry = 10 ** draw(st.floats(-3, 5))
    entered = contracts * size * (entry if symbol == LINEAR else 1 / entry)
    held = position(
        symbol=symbol,
        side=draw(st.sampled_from(["long", "short"])),
        contracts=contracts,
        entry_price=entry,
        position_margin=entered * draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.5])) * draw(shares),
    )
    mark = entry * 10 ** draw(st.floats(-0.5, 0.5))
    return {
        "held": held,
        "contract": contract(symbol, contract_size=size, mark_price=mark),
        "tiers": tier_table(symbol, steps=draw(tier_steps(entered))),
        "rules": draw(RULE_CHOICES),
    }


def build(case: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The book row of a case; `changes` are to the position, `mark_price` to its contract."""
    terms = dict(case["contract"])
    if "mark_price" in changes:
        # No index says that the mark cannot be right.
        terms |= {"mark_price": changes.pop("mark_price"), "index_price": None}
    held = {**case["held"], **changes}
    return row_of(
        book_of(held, contracts=[terms], tiers=case["tiers"], **case["rules"]),
    )


class Twin:
    """One position, one price at a time, from the contract's own words; no closed form."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.held, self.rules, self.tiers = case["held"], case["rules"], case["tiers"]
        self.size = self.held["contracts"] * case["contract"]["contract_size"]
        self.is_linear = case["contract"]["linear"]
        self.sign = 1 if self.held["side"] == "long" else -1
        self.entry = self.held["entry_price"]

    def notional(self, price: float) -> float:
        return self.size * price if self.is_linear else self.size / price

    def equity(self, price: float) -> float:
        if self.is_linear:
            gain = self.size * (price - self.entry)
        else:
            gain = self.size / self.entry - self.size / price
        return self.held["position_margin"] + self.sign * gain

    def maintenance(self, price: float) -> float:
        value = self.notional(self.entry if self.rules["maintenance_basis"] == "entry" else price)
        (tier,) = [t for t in self.tiers if t["min_notional"] <= value < t["max_notional"]] or [
            self.tiers[-1]
        ]
        return value * tier["maintenance_margin_rate"] - tier["maintenance_amount"]

    def fee(self, price: float) -> float:
        if not self.rules["trigger_includes_closing_fee"]:
            return 0.0
        if self.rules["closing_fee_price"] == "bankruptcy":
            bankrupt = self.root(self.equity)
            return 0.0 if bankrupt is None else self._fee_at(bankrupt)
        return self._fee_at(price)

    def _fee_at(self, price: float) -> float:
        return self.rules["closing_fee_rate"] * self.notional(price)

    def root(self, excess: Any) -> float | None:
        """Price where `excess` crosses zero, or None: it rises with the price if long."""
        low, high = 1e-9 * self.entry, 1e9 * self.entry
        worst, best = (low, high) if self.sign > 0 else (high, low)
        if excess(worst) > 0:
            return None
        assert excess(best) >= 0
        for _ in range(200):
            middle = math.sqrt(low * high)
            if (excess(middle) > 0) == (self.sign > 0):
                high = middle
            else:
                low = middle
        return math.sqrt(low * high)

    def liquidation_price(self) -> float | None:
        fixed = None
        if self.rules["closing_fee_price"] == "bankruptcy":
            fixed = self.fee(self.entry)
        return self.root(
            lambda price: (
                self.equity(price)
                - self.maintenance(price)
                - (self.fee(price) if fixed is None else fixed)
            )
        )


def same_price(case: dict[str, Any], one: float | None, other: float | None) -> bool:
    """Equal to 1e-9 in the coordinate where value is a line; far beyond reach is the same as none.

    A price 1e8 times away from the entry is where rounding decides whether there is one at all.
    """
    entry = case["held"]["entry_price"]

    def share(price: float | None) -> float:
        if price is None:
            return 0.0
        return price / entry if case["contract"]["linear"] else entry / price

    return (
        abs(share(one) - share(other)) <= 1e-8
        if None in (one, other)
        else math.isclose(share(one), share(other), rel_tol=1e-9, abs_tol=1e-9)
    )


@given(cases())
def test_the_closed_form_equals_bisection_on_the_contract_terms(case: dict[str, Any]) -> None:
    row, twin = build(case), Twin(case)
    mark = case["contract"]["mark_price"]
    gross = case["held"]["position_margin"] + twin.notional(mark) + twin.notional(twin.entry)
    assert row["notional"] == pytest.approx(twin.notional(mark), rel=1e-12)
    assert row["equity"] == pytest.approx(twin.equity(mark), abs=1e-12 * gross)
    assert row["maintenance_margin"] == pytest.approx(twin.maintenance(mark), abs=1e-12 * gross)
    assert same_price(case, row["bankruptcy_price"], twin.root(twin.equity))
    assert same_price(case, row["liquidation_price"], twin.liquidation_price())
    if row["margin_ratio"] is not None:
        required = twin.maintenance(mark) + twin.fee(mark)
        assert row["margin_ratio"] * row["equity"] == pytest.approx(required, abs=1e-9 * gross)


@given(cases())
def test_status_agrees_with_equity_against_the_requirement_at_the_mark(
    case: dict[str, Any],
) -> None:
    row, twin = build(case), Twin(case)
    mark = case["contract"]["mark_price"]
    excess = twin.equity(mark) - twin.maintenance(mark) - twin.fee(mark)
    gross = case["held"]["position_margin"] + twin.notional(mark) + twin.notional(twin.entry)
    assume(abs(excess) > 1e-9 * gross)
    assert row["status"] == ("ok" if excess > 0 else "liquidatable")
    if row["distance_to_liquidation"] is not None:
        assert (row["distance_to_liquidation"] > 0) == (excess > 0)
        assert row["trigger"] == pytest.approx(row["liquidation_price"] / mark, rel=1e-15)
    assert row["margin_call"] == (row["equity"] < row["initial_margin"])


# -- laws ----------------------------------------------------------------------------------------


@given(cases())
def test_at_the_liquidation_price_the_ratio_is_one_on_every_venue(case: dict[str, Any]) -> None:
    price = build(case)["liquidation_price"]
    entry = case["held"]["entry_price"]
    assume(price is not None and 1e-3 * entry < price < 1e3 * entry)
    row = build(case, mark_price=price)
    # The requirement can be a small share of the parts that equity is the difference of.
    gross = case["held"]["position_margin"] + row["notional"] + abs(row["unrealized_pnl"])
    assume(row["equity"] > 1e-5 * gross)
    assert row["margin_ratio"] == pytest.approx(1.0, abs=1e-9)
    assert abs(row["distance_to_liquidation"]) < 1e-15


@given(cases(), st.floats(1e-6, 1.0))
def test_more_collateral_moves_the_liquidation_price_away(
    case: dict[str, Any], share: float
) -> None:
    before = build(case)
    added = share * case["contract"]["contract_size"] * case["held"]["contracts"]
    added *= case["held"]["entry_price"] ** (1 if case["contract"]["linear"] else -1)
    after = build(case, position_margin=case["held"]["position_margin"] + added)
    for name in ("liquidation_price", "bankruptcy_price"):
        if before[name] is None:
            assert after[name] is None
        elif after[name] is not None:
            assert (after[name] - before[name]) * before["direction"] < 0


@given(cases(), st.floats(0.03, 0.5))
def test_the_liquidation_price_lies_between_bankruptcy_and_entry(
    case: dict[str, Any], spare: float
) -> None:
    # Posted: what the test asks at entry and a little more; the fee never reaches 3 % of it.
    twin = Twin(case)
    posted = twin.maintenance(twin.entry) + spare * twin.notional(twin.entry)
    row = build(case, position_margin=posted)
    assume(row["bankruptcy_price"] is not None)
    ordered = [row["bankruptcy_price"], row["liquidation_price"], twin.entry]
    assert ordered == sorted(ordered, reverse=row["direction"] < 0)


@given(cases())
def test_an_inverse_position_is_a_linear_one_of_the_other_side_in_one_over_the_price(
    case: dict[str, Any],
) -> None:
    held, terms = case["held"], case["contract"]
    symbol = INVERSE if terms["linear"] else LINEAR
    mirrored = {
        **case,
        "held": {
            **held,
            "symbol": symbol,
            "side": "short" if held["side"] == "long" else "long",
            "entry_price": 1 / held["entry_price"],
        },
        "contract": contract(
            symbol, contract_size=terms["contract_size"], mark_price=1 / terms["mark_price"]
        ),
        "tiers": [{**tier, "symbol": symbol} for tier in case["tiers"]],
    }
    one, other = build(case), build(mirrored)
    for name in ("notional", "equity", "maintenance_margin", "initial_margin"):
        assert one[name] == pytest.approx(other[name], rel=1e-9, abs=1e-9 * one["notional"])
    for name in ("liquidation_price", "bankruptcy_price"):
        flipped = None if other[name] is None else 1 / other[name]
        assert same_price(case, one[name], flipped)


@given(cases(), st.floats(0.01, 10))
def test_value_is_a_line_in_the_price_ratio(case: dict[str, Any], ratio: float) -> None:
    row, twin = build(case), Twin(case)
    price = ratio * case["contract"]["mark_price"]
    dollars = 1.0 if case["contract"]["linear"] else price
    value = row["equity_usd"] + row["exposure_usd"] * (ratio - 1)
    gross = case["held"]["position_margin"] + twin.notional(price) + twin.notional(twin.entry)
    gross += twin.notional(case["contract"]["mark_price"])
    scale = gross * max(dollars, 1.0 if case["contract"]["linear"] else price / ratio)
    assert value == pytest.approx(twin.equity(price) * dollars, abs=1e-12 * scale)


@given(st.lists(cases(), min_size=2, max_size=5))
def test_a_row_does_not_depend_on_the_other_positions(several: list[dict[str, Any]]) -> None:
    tables: dict[str, list] = {"positions": [], "contracts": [], "tiers": []}
    rules = {}
    alone = []
    for i, case in enumerate(several):
        venue = f"venue{i}"
        held = {**case["held"], "venue": venue, "position_id": f"p{i}"}
        tables["positions"].append(held)
        tables["contracts"].append({**case["contract"], "venue": venue})
        tables["tiers"] += [{**tier, "venue": venue} for tier in case["tiers"]]
        rules[venue] = VenueRules.model_validate({**RULES, "venue": venue, **case["rules"]})
        alone.append(build(case, position_id=f"p{i}") | {"venue": venue})
    book = build_book(
        pa.Table.from_pylist(tables["positions"], schema=POSITIONS),
        pa.Table.from_pylist(tables["contracts"], schema=CONTRACTS),
        pa.Table.from_pylist(tables["tiers"], schema=TIERS),
        rules,
        as_of=AS_OF,
    )
    assert book.to_pylist() == alone


@given(st.data())
def test_the_largest_tier_line_is_the_tier_looked_up_and_has_no_steps(data: st.DataObject) -> None:
    steps = data.draw(tier_steps(1_000.0))
    rows = tier_table(steps=steps, cap=1e6)
    tables = build_tier_tables(pa.Table.from_pylist(rows, schema=TIERS))
    values = np.sort([data.draw(st.floats(0, 1e5)) for _ in range(5)] + [s[0] for s in steps])
    table = np.zeros(len(values), dtype=np.int64)
    required = tiered_maintenance(tables, table, values)
    leverage = tier_max_leverage(tables, table, values)
    for value, one, allowed in zip(values, required, leverage, strict=True):
        (tier,) = [t for t in rows if t["min_notional"] <= value < t["max_notional"]]
        looked_up = value * tier["maintenance_margin_rate"] - tier["maintenance_amount"]
        assert one == pytest.approx(looked_up, abs=1e-12 * (1 + value))
        assert allowed == tier["max_leverage"]
    slope = np.diff(required) / np.maximum(np.diff(values), 1e-300)
    assert (np.diff(required) <= 0.6 * np.diff(values) + 1e-9 * (1 + values[1:])).all()
    assert (slope >= -1e-9).all()
