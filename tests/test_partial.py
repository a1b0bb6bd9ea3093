"""Partial liquidation: cuts by hand, the rule's way through the book, and the venues' policies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.liquidation import build_ladders, liquidation_curve, position_outcomes, walk
from risk.margin.book import build_book
from risk.margin.partial import StepRule, read_step_rule, step_rule
from risk.margin.tiers import build_tier_tables
from risk.margin.venues import VenueRules, load_venue_rules
from risk.schema import CONTRACTS, POSITIONS, TIERS
from tests.books import book_of, drivers_of, random_position
from tests.brute import Position
from tests.makers import AS_OF, RULES, contract, position, tier_table

#: 1 % up to half a million, 2 % above: the amount that joins them is 5,000.
TIERS_BY_HAND = ((0.0, 0.01, 0.0), (500_000.0, 0.02, 5_000.0))


def long_by_hand(**changes):
    """Ten thousand units at 100, five per cent posted, no fee of any kind."""
    return Position(
        inverse=False, direction=1, size=10_000.0, entry=100.0, mark=100.0, wallet=50_000.0,
        tiers=TIERS_BY_HAND, fee_in_trigger=0.0, closing_fee=0.0, to_holder=True, tiers_per_step=1,
        original=10_000.0, **({"liquidation_fee": 0.0} | changes),
    )  # fmt: skip


def test_a_long_is_cut_to_the_cap_of_the_tier_below_and_then_closed():
    # Equity 50,000 + 10,000 (P - 100) meets 0.02 * 10,000 P - 5,000 at 945,000 / 9,800. The cut to
    # 500,000 keeps equity; 0.99 of what is left then supports it down to the second price.
    first = 945_000 / 9_800
    left = 500_000 / first
    equity = 50_000 + 10_000 * (first - 100)
    second = (left * first - equity) / (0.99 * left)
    ladders = build_ladders(book_of([long_by_hand()]), ["BTC"], ["venue"])
    np.testing.assert_allclose(-100 * ladders.steps.sums.first, [first, second], rtol=1e-14)
    fall = drivers_of({"BTC": [[("drift", 0.96), ("drift", 0.95)], [("drift", 0.9)]]})
    cube = walk(ladders, fall)
    kept = 50_000 + (10_000 - left) * (first - 100) + left * (95 - 100)
    assert cube.pnl.values[0, 0] == pytest.approx(kept - 50_000, rel=1e-12)
    assert cube.liquidated_notional.values[:, 0] == pytest.approx(
        [(10_000 - left) * first, (10_000 - left) * first + left * second], rel=1e-12
    )
    assert cube.liquidations.values[:, 0].tolist() == [1, 1]  # positions, not rungs
    assert cube.deficit.values[:, 0].tolist() == [0, 0]


def test_a_jump_past_the_first_trigger_cuts_at_the_landing():
    # At 96 the value is 960,000: cut to 500,000 there, and the next trigger follows from there.
    book = book_of([long_by_hand()])
    landing = 96.0
    left = 500_000 / landing
    equity = 50_000 + 10_000 * (landing - 100)
    jump = drivers_of({"BTC": [[("jump", 0.96), ("drift", 0.952)]]})
    cube = walk(build_ladders(book, ["BTC"], ["venue"]), jump)
    assert cube.pnl.item() == pytest.approx(equity + left * (95.2 - landing) - 50_000, rel=1e-12)
    assert cube.attrs["positions_lived_again"] == 1
    assert cube.liquidated_notional.item() == pytest.approx((10_000 - left) * landing, rel=1e-12)


def test_a_jump_past_bankruptcy_closes_everything_and_leaves_a_deficit():
    jump = drivers_of({"BTC": [[("jump", 0.94)]]})
    cube = walk(build_ladders(book_of([long_by_hand()]), ["BTC"], ["venue"]), jump)
    assert cube.deficit.item() == pytest.approx(10_000, rel=1e-12)
    assert cube.pnl.item() == pytest.approx(-50_000, rel=1e-12)


@pytest.mark.parametrize(
    ("tier", "per_step", "target"),
    [(1, 1, None), (2, 1, 1), (5, 1, 4), (1, 2, None), (2, 2, None), (3, 2, 1), (5, 2, 3)],
)
def test_okx_drops_two_tiers_others_one_and_the_lowest_close_whole(tier, per_step, target):
    """Where a cut leads from each tier; None is a whole close."""
    caps = [100.0 * n for n in range(1, 6)]
    tiers = tuple((cap - 100.0, 0.01, 0.0) for cap in caps)
    value = caps[tier - 1] - 10.0
    held = Position(
        inverse=False, direction=1, size=value / 100, entry=100.0, mark=100.0, wallet=value * 0.1,
        tiers=tiers, fee_in_trigger=0.0, closing_fee=0.0, liquidation_fee=0.0, to_holder=True,
        entry_basis=True, tiers_per_step=per_step, original=value / 100,
    )  # fmt: skip
    ladders = build_ladders(book_of([held]), ["BTC"], ["venue"])
    if target is None:
        assert len(ladders.steps.sums.first) == 0
        return
    slope = ladders.steps.sums.hot[:, 1]  # what stays exposed after each rung
    assert slope[1] == pytest.approx(value * caps[target - 1] / value, rel=1e-12)


def test_a_cut_that_does_not_heal_is_followed_by_another_at_the_same_price():
    # The fee on 464,286 of value takes 11,607 of 14,286: less than the 5,000 asked for the rest.
    ladders = build_ladders(book_of([long_by_hand(liquidation_fee=0.025)]), ["BTC"], ["venue"])
    first = ladders.steps.sums.first
    assert len(first) == 2
    assert first[0] == first[1]


@given(seed=st.integers(0, 2**32 - 1))
def test_no_position_has_more_rungs_than_tiers(seed):
    """A cut lowers the tier for good, so rising shorts do not creep to a halt in ever less."""
    rng = np.random.default_rng(seed)
    held = [random_position(rng, steps=1.0) for _ in range(30)]
    ladders = build_ladders(book_of(held), ["BTC"], ["venue"])
    rungs = np.bincount(ladders.steps.owner, minlength=1)
    assert (rungs <= 5).all()


def test_the_book_carries_the_rule_of_the_venue():
    positions = pa.Table.from_pylist(
        [position("a", contracts=20.0), position("b", venue="okx", contracts=20.0)],
        schema=POSITIONS,
    )
    contracts = pa.Table.from_pylist(
        [contract(venue=venue) for venue in ("binance", "okx")], schema=CONTRACTS
    )
    tiers = pa.Table.from_pylist(
        [tier for venue in ("binance", "okx") for tier in tier_table(venue=venue)], schema=TIERS
    )
    rules = {
        "binance": VenueRules.model_validate({**RULES, "venue": "binance"}),
        "okx": VenueRules.model_validate(
            {**RULES, "venue": "okx", "partial": "tiers", "tiers_per_step": 2}
            | {"liquidation_fee_rate": 0.0}
        ),
    }
    book = build_book(positions, contracts, tiers, rules, as_of=AS_OF)
    whole, cut = book["liquidation_steps"].to_pylist()
    assert whole is None
    rule = read_step_rule(cut)
    assert rule == step_rule(
        rules["okx"],
        build_tier_tables(tiers),
        build_tier_tables(tiers).table_of["okx", "BTC/USDT:USDT"],
    )
    assert (rule.tiers_per_step, rule.rate) == (2, (0.004, 0.005, 0.01, 0.025, 0.05))
    fall = drivers_of({"BTC": [[("drift", 0.905)]]})
    out = position_outcomes(book, fall)
    # 2,000,000 of value are in the third of five tiers: cut to the cap of the first.
    assert out.liquidated_notional.values[0] == pytest.approx(
        [2e6 * book["trigger"][0].as_py(), 2e6 * book["trigger"][1].as_py() - 50_000], rel=1e-9
    )


@given(
    floor=st.lists(st.floats(0, 1e12), min_size=1, max_size=5),
    fee=st.floats(0, 1),
    per_step=st.integers(1, 20),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_a_rule_survives_its_text_to_the_bit(floor, fee, per_step, flags):
    columns = tuple(floor)
    rule = StepRule(per_step, flags[0], fee, flags[1], flags[2], columns, columns, columns)
    assert read_step_rule(rule.to_text()) == rule


def test_the_shipped_venues_that_cut_in_steps_say_how():
    folder = Path(__file__).parents[1] / "configs" / "venues"
    names = [path.stem for path in folder.glob("*.yaml")]
    rules = load_venue_rules([folder], names, AS_OF)
    steps = {name: rule.tiers_per_step for name, rule in rules.items() if rule.partial == "tiers"}
    assert steps == {"okx": 2, "gate": 1, "bybit": 1, "bitmex": 1}


def test_the_curve_counts_a_position_once_and_all_its_cuts():
    rng = np.random.default_rng(9)
    book = book_of([random_position(rng, steps=0.7) for _ in range(300)])
    moves = [-0.4, -0.1, 0.1, 0.4]
    curve = liquidation_curve(book, ["BTC"], moves)
    steady = drivers_of({"BTC": [[("drift", 1.0 + move)] for move in moves]})
    cube = walk(build_ladders(book, ["BTC"], ["venue"]), steady)
    np.testing.assert_array_equal(curve.liquidations[0], cube.liquidations[:, 0])
    np.testing.assert_allclose(
        curve.liquidated_notional[0], cube.liquidated_notional[:, 0], rtol=1e-12
    )
