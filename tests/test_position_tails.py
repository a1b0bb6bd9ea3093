"""Per-position tails against the obvious twin: every outcome priced, then measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk import pipeline
from risk.config import load_config
from risk.cube import open_drivers
from risk.drivers import fall_gaps, make_drivers
from risk.errors import ConfigError, DataError
from risk.liquidation import (
    liquidation_probability,
    position_outcomes,
    position_tails,
    square_root_impact,
)
from risk.measures import expected_shortfall, value_at_risk
from risk.sample import write_sample
from tests.books import book_of, drivers_of, random_path, random_position
from tests.brute import Position
from tests.test_pipeline import write_config

ROOT = Path(__file__).resolve().parents[1]

seeds = st.integers(0, 2**32 - 1)
levels = st.sampled_from([(0.99, 0.975), (0.9, 0.8), (0.5, 0.3), (0.07, 0.999)])


def world(seed, n_positions=40, n_paths=60, spread=0.06, weighted=False, steps=0.4):
    """A book over two assets and its drivers."""
    rng = np.random.default_rng(seed)
    positions = [random_position(rng, steps=steps) for _ in range(n_positions)]
    assets = [str(a) for a in rng.choice(["BTC", "ETH"], n_positions)]
    paths = {
        asset: [
            random_path(rng, jumps=float(rng.choice([0.0, 0.4])), spread=spread)
            for _ in range(n_paths)
        ]
        for asset in ("BTC", "ETH")
    }
    drivers = drivers_of(paths)
    if weighted:
        weight = rng.exponential(size=n_paths) * (rng.random(n_paths) < 0.9)
        drivers = drivers.assign_coords(weight=("scenario", weight / weight.sum()))
    return book_of(positions, assets), drivers


def assert_exact(book, drivers, var_level=0.99, es_level=0.975, impact=None):
    """Compare with all outcomes; return the tails."""
    tails = position_tails(
        book, drivers, var_confidence=var_level, es_confidence=es_level, impact=impact
    )
    out = position_outcomes(book, drivers, impact)
    weights = drivers.weight.values
    pnl, row = out.pnl.values.T, out.row.values
    size = sum(np.abs(book[name].to_numpy()) for name in ("notional_usd", "equity_usd"))[row]
    twin = {
        "value_at_risk": value_at_risk(pnl, var_level, weights=weights),
        "expected_shortfall": expected_shortfall(pnl, es_level, weights=weights),
        "expected_deficit": weights @ out.deficit.values,
        "liquidation_probability": weights @ (out.outcome.values == 2),
    }
    for name, expected in twin.items():
        scale = 1.0 if name == "liquidation_probability" else size
        assert (np.abs(tails[name].values[row] - expected) <= 1e-9 * scale).all(), name
    return tails


@pytest.mark.parametrize("weighted", [False, True])
@given(seed=seeds, level=levels)
@settings(max_examples=40)
def test_tails_equal_those_of_all_outcomes(weighted, seed, level):
    """Stops, inverse contracts, gaps, cuts through tiers, both leftover rules, weights or none."""
    assert_exact(*world(seed, weighted=weighted), *level)


@pytest.mark.parametrize(
    "effect",
    [
        {"slices": 4, "hours": 6.0, "adverse": 1.0},
        {"cascade": True},
        {"cascade": True, "permanent": 0.5},
    ],
)
@given(seed=seeds)
@settings(max_examples=15)
def test_tails_are_exact_where_closing_moves_the_price(effect, seed):
    """Own impact, a cascade, and a cascade that leaves its mark on the price at the horizon."""
    book, drivers = world(seed)
    gross = book["notional_usd"].to_numpy().sum()
    volumes = gross * np.random.default_rng(seed).uniform(0.5, 5, 2)
    impact = square_root_impact(np.array([0.04, 0.06]), volumes, coefficient=1.0, **effect)
    assert_exact(book, drivers, impact=impact)


@pytest.mark.parametrize("weighted", [False, True])
def test_every_sweep_is_really_taken(weighted):
    """A tail far smaller than the set, so that most scenarios are never sorted."""
    book, drivers = world(7, n_positions=400, n_paths=2500, spread=0.03, weighted=weighted)
    tails = assert_exact(book, drivers)
    assert tails.attrs["ordered"] > 100
    assert tails.attrs["merged"] > 50
    assert tails.attrs["stepped"] > 50


def long(**changes):
    """Ten bitcoin bought at 100 with ten times leverage, no fees, leftover kept by the fund."""
    values = {
        "inverse": False, "direction": 1, "size": 10.0, "entry": 100.0, "mark": 100.0,
        "wallet": 100.0, "tiers": ((0.0, 0.02, 0.0),), "fee_in_trigger": 0.0, "closing_fee": 0.0,
        "liquidation_fee": 0.0, "to_holder": False,
    }  # fmt: skip
    return Position(**values | changes)


def falls(n_jumps, n_hits):
    """1000 falls: some jump to 0.8, some drift to 0.9, number i of the others ends at 1 - i/20000.

    The trigger, 900/980, lies between the hits and the others.
    """
    n, i = 1000, np.arange(1000)
    last = np.where(i < n_jumps, 0.8, np.where(i < n_jumps + n_hits, 0.9, 1 - i / 20_000))[:, None]
    before = np.where(i[:, None] < n_jumps, 1.0, last)
    return make_drivers(
        last, np.ones((n, 1)), last, assets=["BTC"], label=["fall"] * n, source=["by hand"] * n,
        gaps=fall_gaps(last, before),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n_jumps", "n_hits", "value", "shortfall", "deficit", "probability"),
    [
        # A hit loses the equity, 100; a jump to 0.8 costs the venue 100 more. The others lose
        # 49.95, 49.90, 49.85 and so on. The 11th worst is the value at risk, the mean of the 25
        # worst the shortfall.
        (0, 0, 49.45, 49.35, 0.0, 0.0),
        (4, 3, 49.80, (7 * 100 + 18 * 49.525) / 25, 0.4, 0.007),
        (0, 12, 100.0, (12 * 100 + 13 * 49.65) / 25, 0.0, 0.012),
        (20, 5, 100.0, 100.0, 2.0, 0.025),
    ],
)
def test_a_tail_a_person_can_count(n_jumps, n_hits, value, shortfall, deficit, probability):
    tails = position_tails(book_of([long()]), falls(n_jumps, n_hits))
    assert tails.value_at_risk.item() == pytest.approx(value, abs=1e-9)
    assert tails.expected_shortfall.item() == pytest.approx(shortfall, abs=1e-9)
    assert tails.expected_deficit.item() == pytest.approx(deficit, abs=1e-9)
    assert tails.liquidation_probability.item() == pytest.approx(probability, abs=1e-12)


def test_only_returned_coin_needs_the_merge():
    """Whatever a linear position or the fund's leftover does, its losses come in order."""
    coin = {"inverse": True, "size": 1000.0, "wallet": 1.0}
    positions = [
        long(), long(to_holder=True), long(stop=95.0), long(stop=95.0, to_holder=True),
        long(**coin), long(**coin, to_holder=True), long(**coin, stop=95.0),
    ]  # fmt: skip
    rng = np.random.default_rng(5)
    drivers = drivers_of({"BTC": [random_path(rng) for _ in range(200)]})
    for i, position in enumerate(positions):
        tails = assert_exact(book_of([position]), drivers)
        assert tails.attrs["merged"] == int(i > 4), position


@given(seed=seeds)
@settings(max_examples=15)
def test_a_position_has_the_same_bytes_in_any_book(seed):
    """Law 2: the state at a trigger depends on the scenarios alone."""
    book, drivers = world(seed)
    whole = position_tails(book, drivers)
    keep = np.random.default_rng(seed).permutation(book.num_rows)[:20]
    part = position_tails(book.take(keep), drivers)
    for name in whole.data_vars:
        np.testing.assert_array_equal(part[name].values, whole[name].values[keep])


@given(seed=seeds, weighted=st.booleans())
@settings(max_examples=20)
def test_the_probability_is_that_of_the_direct_count(seed, weighted):
    book, drivers = world(seed, weighted=weighted)
    found = position_tails(book, drivers).liquidation_probability.values
    np.testing.assert_allclose(found, liquidation_probability(book, drivers), atol=1e-12)


@given(seed=seeds)
@settings(max_examples=15)
def test_shortfall_is_at_least_value_at_risk_and_no_hit_costs_more_than_the_equity(seed):
    """Laws 1 and 6, at one level."""
    book, drivers = world(seed)
    tails = position_tails(book, drivers, var_confidence=0.9, es_confidence=0.9)
    assert (tails.expected_shortfall >= tails.value_at_risk).all()
    worst = position_outcomes(book, drivers).pnl.min("scenario").values
    size = book["equity_usd"].to_numpy() + book["notional_usd"].to_numpy()
    assert (tails.expected_shortfall.values <= -worst + 1e-12 * size).all()


def test_rows_without_a_price_have_no_tail():
    book, drivers = world(2)
    status = ["unpriced" if i % 3 == 0 else "ok" for i in range(book.num_rows)]
    index = book.schema.get_field_index("status")
    tails = position_tails(book.set_column(index, book.schema.field(index), [status]), drivers)
    for column in tails.data_vars.values():
        np.testing.assert_array_equal(np.isnan(column), np.array(status) == "unpriced")
    assert sum(tails.attrs.values()) == status.count("ok")


def test_a_book_without_priced_positions_is_no_error():
    book, drivers = world(2, n_positions=3)
    assert position_tails(book.slice(0, 0), drivers).sizes["position"] == 0


@pytest.mark.parametrize("level", [0.0, 1.0, 99.0, float("nan")])
def test_a_level_outside_zero_and_one_is_refused(level):
    book, drivers = world(2, n_positions=3)
    with pytest.raises(ConfigError, match="must lie in"):
        position_tails(book, drivers, es_confidence=level)


def test_weights_that_are_no_probabilities_are_refused():
    book, drivers = world(2, n_positions=3)
    with pytest.raises(DataError, match="add up to 1"):
        position_tails(book, drivers.assign_coords(weight=drivers.weight * 2))
    nothing = drivers.isel(scenario=slice(0, 0), gap=slice(0, 0))
    with pytest.raises(DataError, match="no scenario"):
        position_tails(book, nothing)


def test_a_night_publishes_the_tails_of_its_positions(tmp_path):
    """Every sampled set has them for every priced row; designed stresses have no probabilities."""
    write_sample(tmp_path, positions=300, seed=3, venue_rules=ROOT / "configs/venues")
    run = pipeline.run(load_config(write_config(tmp_path, tmp_path)))
    names = (
        "value_at_risk", "expected_shortfall", "expected_deficit", "liquidation_probability",
    )  # fmt: skip
    for scenario_set in ("historical", "monte_carlo", "stress"):
        rows = run.positions.filter(pc.equal(run.positions["scenario_set"], scenario_set))
        priced = pc.equal(rows["status"], "ok").to_numpy(zero_copy_only=False)
        assert priced.sum() > 200
        expected = priced & (scenario_set != "stress")
        for name in names:
            np.testing.assert_array_equal(rows[name].is_valid().to_numpy(), expected, name)
    drawn = run.positions.filter(pc.equal(run.positions["scenario_set"], "monte_carlo"))
    drivers = open_drivers(run.path, instruments=True)["monte_carlo"].to_dataset().load()
    book = pq.read_table(run.path / "book.parquet")
    assert book["position_id"].equals(drawn["position_id"])
    pnl = position_outcomes(book, drivers).pnl
    value = value_at_risk(pnl.values.T, 0.99, weights=drivers.weight.values)
    # Options see the steps of a path, which are not stored: other tests judge them.
    kinds = np.array(book["kind"].cast("string").to_pylist(), object)
    plain = kinds[pnl.row.values] != "option"
    # So do account pools.
    plain &= ~book["pool_holdings"].is_valid().to_numpy()[pnl.row.values]
    assert 250 < plain.sum() < len(plain)
    found = drawn["value_at_risk"].to_numpy(zero_copy_only=False)[pnl.row.values]
    np.testing.assert_allclose(found[plain], value[plain], rtol=1e-9, atol=1e-6)
