"""Required margins against the obvious twin: post them, price every scenario, and count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.drivers import fall_gaps, make_drivers
from risk.errors import ConfigError
from risk.liquidation import position_outcomes
from risk.liquidation.tails import margins_with, required_margins
from tests.books import book_of, drivers_of, random_path, random_position
from tests.test_position_tails import falls, long

seeds = st.integers(0, 2**32 - 1)
targets = st.sampled_from([0.01, 0.05, 0.1, 0.3])


def world(seed, *, steps=0.0, weighted=False, n_positions=8, n_paths=60):
    """Positions of one asset, their book and its drivers."""
    rng = np.random.default_rng(seed)
    positions = [random_position(rng, steps=steps) for _ in range(n_positions)]
    # Closing costs more than the maintenance margin of none, if the two are told apart.
    positions = [replace(one, closing_fee=min(one.closing_fee, 0.0005)) for one in positions]
    drivers = drivers_of(
        {"BTC": [random_path(rng, jumps=float(rng.choice([0.2, 0.6]))) for _ in range(n_paths)]}
    )
    if weighted:
        weight = rng.exponential(size=n_paths)
        drivers = drivers.assign_coords(weight=("scenario", weight / weight.sum()))
    return positions, drivers


def posted(position, equity):
    """The position with collateral for another equity at the mark, USD."""
    unit = position.mark if position.inverse else 1.0
    more = equity / unit - position.equity(position.mark)
    return replace(position, wallet=position.wallet + more)


def chances(positions, drivers):
    """Probability of a deficit and of a liquidation of each position, one by one."""
    out = position_outcomes(book_of(positions), drivers)
    weight = drivers.weight.values
    return weight @ (out.deficit.values > 0), weight @ (out.outcome.values == 2)


@given(seed=seeds, target=targets, weighted=st.booleans())
@settings(max_examples=12, deadline=None)
def test_a_hair_less_is_too_little_and_nothing_above_ever_is(seed, target, weighted):
    """Stops, inverse contracts, both bases, several gaps in a path, weights or none."""
    positions, drivers = world(seed, weighted=weighted)
    book = book_of(positions)
    needs = required_margins(
        book, drivers, deficit_probability=target, liquidation_probability=target
    )
    rng = np.random.default_rng(seed)
    notional = book["notional_usd"].to_numpy()
    room = target + 1e-12
    for which, name in enumerate(("required_margin", "liquidation_required_margin")):
        need = needs[name].values
        for _ in range(3):
            more = need + notional * rng.exponential(0.03, len(need)) * rng.integers(0, 2)
            assert (chances(map_posted(positions, more), drivers)[which] <= room).all(), name
        less = [posted(p, e - 1e-6 * n) for p, e, n in zip(positions, need, notional, strict=True)]
        is_open = np.array([one.excess(one.mark) > 0 for one in less])
        found = chances([p for p, alive in zip(less, is_open, strict=True) if alive], drivers)
        # What is not open at the mark with a hair less stands at its floor.
        assert (found[which] > room - 2e-12).all(), name


def map_posted(positions, equity):
    return [posted(p, e) for p, e in zip(positions, equity, strict=True)]


@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_positions_cut_in_steps_are_liquidated_as_rarely_as_asked(seed):
    positions, drivers = world(seed, steps=1.0)
    needs = required_margins(book_of(positions), drivers, liquidation_probability=0.1)
    _, found = chances(map_posted(positions, needs.liquidation_required_margin.values), drivers)
    assert (found <= 0.1 + 1e-12).all()


@given(seed=seeds)
@settings(max_examples=12, deadline=None)
def test_rarer_targets_never_need_less(seed):
    positions, drivers = world(seed, steps=0.3)
    book = book_of(positions)
    strict, loose = (
        required_margins(book, drivers, deficit_probability=p, liquidation_probability=p)
        for p in (0.02, 0.1)
    )
    for name in strict.data_vars:
        assert (strict[name] >= loose[name]).all()


def test_a_requirement_a_person_can_count():
    """1000 falls, 12 of them jumps from 1 to 0.8, 28 drifts to 0.9; ten bitcoin at 100, 2 %.

    A deficit in no more than ten: the jumps to 0.8 must be paid for, 10 x 20 = 200. A liquidation
    in no more than 30: the 31st lowest is 0.9; equity there, 1000 - 100 less, must be 2 % of 900.
    """
    needs = required_margins(
        book_of([long()]), falls(12, 28), deficit_probability=0.01, liquidation_probability=0.03
    )
    assert needs.required_margin.item() == pytest.approx(200, abs=1e-5)
    assert needs.liquidation_required_margin.item() == pytest.approx(100 + 18, abs=1e-5)
    rare = required_margins(book_of([long()]), falls(10, 28), deficit_probability=0.01)
    # Ten are allowed: what keeps it open at the mark is enough.
    assert rare.required_margin.item() == pytest.approx(20, abs=1e-5)


def test_a_deficit_can_become_likelier_with_more_collateral_and_the_requirement_knows():
    """Drift to 0.9, then a jump to 0.7: whoever is closed on the way has no deficit.

    With 100 posted the trigger is 0.918 and the close comes before the jump. From 10 x 10 + 2 % of
    900 = 118 on the jump finds the position open, and its deficit ends at 10 x 30 = 300.
    """
    last = np.full((100, 1), 0.7)
    drivers = make_drivers(
        last, np.ones((100, 1)), last, assets=["BTC"], label=["fall"] * 100, source=["x"] * 100,
        gaps=fall_gaps(last, np.full((100, 1), 0.9)),
    )  # fmt: skip
    assert chances([posted(long(), 100.0)], drivers)[0] == 0
    assert chances([posted(long(), 119.0)], drivers)[0] == pytest.approx(1)
    needs = required_margins(book_of([posted(long(), 100.0)]), drivers)
    assert needs.required_margin.item() == pytest.approx(300, abs=1e-5)


def test_where_closing_costs_more_than_the_requirement_every_close_counts():
    positions, drivers = world(1)
    positions = [replace(one, closing_fee=0.2, stop=None) for one in positions]
    needs = required_margins(book_of(positions), drivers, deficit_probability=0.1)
    assert needs.attrs["thin"] == len(positions)
    short, _ = chances(map_posted(positions, needs.required_margin.values), drivers)
    assert (short <= 0.1 + 1e-12).all()


@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_a_book_with_other_collateral_is_the_book_of_the_positions_that_posted_it(seed):
    positions, _ = world(seed)
    equity = book_of(positions)["equity_usd"].to_numpy() * 1.3
    found = margins_with(book_of(positions), equity, ["BTC"])
    wanted = book_of(map_posted(positions, equity))
    for name in ("equity_usd", "exposure_usd", "trigger"):
        a, b = (table[name].to_numpy(zero_copy_only=False) for table in (found, wanted))
        np.testing.assert_allclose(a, b, rtol=1e-9, err_msg=name)


def test_rows_without_tiers_or_price_have_no_requirement():
    positions, drivers = world(2)
    book = book_of(positions)
    at = book.schema.get_field_index("requirement")
    texts = pa.array([*book["requirement"].to_pylist()[:-1], None])
    field = book.schema.field(at)
    book = book.set_column(at, field, texts.dictionary_encode().cast(field.type))
    needs = required_margins(book, drivers)
    assert np.isnan(needs.required_margin.values).tolist() == [False] * 7 + [True]


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_target_outside_zero_and_one_is_refused(target):
    positions, drivers = world(2)
    with pytest.raises(ConfigError, match="must lie in"):
        required_margins(book_of(positions), drivers, deficit_probability=target)
