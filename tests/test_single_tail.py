"""Tails of positions whose every scenario is known, against all their losses sorted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.drivers import slice_drivers
from risk.errors import DataError
from risk.liquidation import position_outcomes, position_tails
from risk.liquidation.options import load_valued, read_options, save_valued, value_options
from risk.liquidation.single import _keep_likely, measure_single
from risk.liquidation.tails import BookTerms, required_margins
from risk.liquidation.tails.weights import whole_weights
from risk.measures import expected_shortfall, value_at_risk
from tests.option_books import book_of, random_holding, random_option, random_paths, record_of
from tests.test_position_tails import world

seeds = st.integers(0, 2**32 - 1)
levels = st.sampled_from([(0.99, 0.975), (0.9, 0.97), (0.95, 0.95), (0.5, 0.3), (0.07, 0.999)])


def tail_of(pnl, weight, var_level, es_level):
    """By the compiled loop."""
    found, whole = whole_weights(weight, var_level, es_level)
    room = np.empty((2, len(pnl)))
    return measure_single(pnl, whole, bool(np.ptp(whole) == 0), tuple(found), *room)


def draw(rng, n, shape):
    """P&L with ties, with a line of its own, or with nothing special."""
    pnl = rng.standard_t(3, n)
    if shape == "ties":
        return np.round(pnl)
    if shape == "constant":
        return np.full(n, -1.5)
    return np.sort(pnl) if shape == "sorted" else pnl


@pytest.mark.parametrize("weighted", [False, True])
@given(
    seed=seeds, level=levels, n=st.sampled_from([1, 7, 400, 5000, 20_000]),
    shape=st.sampled_from(["plain", "ties", "constant", "sorted"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_fast_tail_is_that_of_all_losses_sorted(weighted, seed, level, n, shape):
    rng = np.random.default_rng(seed)
    pnl = draw(rng, n, shape)
    weight = rng.exponential(size=n) if weighted else np.ones(n)
    weight /= weight.sum()
    value, shortfall = tail_of(pnl, weight, *level)
    assert value == value_at_risk(pnl, level[0], weights=weight if weighted else None)
    expected = expected_shortfall(pnl, level[1], weights=weight if weighted else None)
    assert shortfall == pytest.approx(expected, rel=1e-9, abs=1e-9 * np.abs(pnl).max())


def test_a_sample_without_the_worst_scenarios_is_noticed():
    """The scenarios that are looked at first are the best: too few others seem worse than them."""
    n, stride = 20_000, 20_000 // 600 | 1
    rng = np.random.default_rng(4)
    pnl = rng.normal(size=n)
    at = np.zeros(n, bool)
    at[::stride] = True
    pnl = np.where(at, pnl, pnl + 1e3)  # only the sampled ones lose
    limit = 5 * len(pnl[::stride])
    assert 0 < _keep_likely(limit, pnl, np.empty(n)) <= limit
    weight = np.full(n, 1 / n)
    level = 1 - limit / n
    assert tail_of(pnl, weight, level, level)[0] == value_at_risk(pnl, level)


def test_a_first_look_leaves_few_scenarios_to_sort():
    """The fast path was taken: of a hundred thousand losses a few more than the tail are kept."""
    pnl = np.random.default_rng(4).standard_t(3, 100_000)
    assert 2500 < _keep_likely(2500, pnl, np.empty(100_000)) < 10_000


def option_world(seed, n_positions=60, n_paths=80):
    rng = np.random.default_rng(seed)
    options = [random_option(rng) for _ in range(5)]
    asset = ["BTC" if rng.integers(2) else "ETH" for _ in options]
    which = rng.integers(5, size=n_positions)
    book = book_of([random_holding(rng, options[k]) for k in which], [asset[k] for k in which])
    return book, record_of({name: random_paths(rng, n_paths, 6) for name in ("BTC", "ETH")})


@pytest.mark.parametrize("weighted", [False, True])
@given(seed=seeds, level=levels)
@settings(max_examples=15, deadline=None)
def test_an_options_tail_is_that_of_its_results_in_every_scenario(weighted, seed, level):
    book, drivers = option_world(seed)
    weight = np.full(80, 1 / 80)
    if weighted:
        weight = np.random.default_rng(seed).dirichlet(np.ones(80))
        drivers = drivers.assign_coords(weight=("scenario", weight))
    tails = position_tails(book, drivers, var_confidence=level[0], es_confidence=level[1])
    out = position_outcomes(book, drivers)
    pnl = out.pnl.values.T
    size = np.abs(pnl).max(axis=1)
    twin = {
        "value_at_risk": value_at_risk(pnl, level[0], weights=weight),
        "expected_shortfall": expected_shortfall(pnl, level[1], weights=weight),
        "expected_deficit": weight @ out.deficit.values,
        "liquidation_probability": weight @ (out.outcome.values == 2),
    }
    for name, expected in twin.items():
        difference = np.abs(tails[name].values[out.row.values] - expected)
        assert (difference <= 1e-9 * np.maximum(size, 1.0)).all(), name


def test_an_option_has_the_same_tail_in_any_book():
    book, drivers = option_world(9)
    keep = np.random.default_rng(1).permutation(book.num_rows)[:20]
    whole, part = position_tails(book, drivers), position_tails(book.take(keep), drivers)
    for name in whole.data_vars:
        np.testing.assert_array_equal(part[name].values, whole[name].values[keep])


def test_blocks_of_valued_options_join_to_the_whole(tmp_path):
    book, drivers = option_world(3)
    contracts, _ = read_options(book, ["BTC", "ETH"])
    whole = value_options(contracts, drivers)
    for number, (start, stop) in enumerate([(0, 30), (30, 31), (31, 80)]):
        part = value_options(contracts, slice_drivers(drivers, start, stop))
        save_valued(tmp_path, f"set-{number}", part)
    joined = load_valued(tmp_path, [f"set-{number}" for number in range(3)])
    for name, wanted, found in zip(whole._fields, whole, joined, strict=True):
        np.testing.assert_array_equal(found, wanted, err_msg=name)
        assert found.dtype == wanted.dtype, name


def test_a_book_read_once_has_the_bytes_of_one_read_every_time():
    book, drivers = world(3, n_positions=80)
    calm = drivers.isel(scenario=slice(0, 30), gap=slice(0, 0)).assign_coords(
        weight=("scenario", np.full(30, 1 / 30))
    )
    terms = BookTerms(book, ["BTC", "ETH"])
    for record in (drivers, calm):
        for measure in (position_tails, required_margins):
            wanted, found = measure(book, record), measure(book, record, terms=terms)
            assert wanted.identical(found)
    assert position_tails(book, drivers, others=False).identical(position_tails(book, drivers))
    with pytest.raises(DataError, match="not those the book was read for"):
        position_tails(book, drivers, terms=BookTerms(book, ["ETH", "BTC"]))
    options, record = option_world(3)
    assert np.isnan(position_tails(options, record, others=False).value_at_risk).all()
