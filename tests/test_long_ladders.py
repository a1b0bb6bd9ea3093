"""Ladders long enough for an index give what counting rung by rung and plain counting give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.books import jumpy_day, large_book
from risk.liquidation import build_ladders, walk
from risk.liquidation.index import LONG, N_CODES, code_of, grain_of
from risk.liquidation.kernel import is_below
from risk.liquidation.terms import close_out_terms
from risk.schema import CUBE

ASSETS = ["asset0000000"]


def without_index(ladders):
    """The same ladders, each counted rung by rung."""
    plain, steps = (
        part._replace(sums=part.sums._replace(lower_start=np.zeros_like(part.sums.lower_start)))
        for part in (ladders.plain, ladders.steps)
    )
    return replace(ladders, plain=plain, steps=steps)


def rounded(day, decimals):
    """Paths that tie with each other, and some with the mark."""
    names = ("low", "high", "last")
    return day.assign({name: np.round(day[name], decimals) for name in names})


@pytest.fixture(scope="module")
def ladders():
    """A long and a short side, linear and inverse, a part of the positions in steps."""
    return build_ladders(large_book(50_000, 1, 1, inverse=0.3, steps=0.3, seed=5), ASSETS, ["book"])


@pytest.fixture(scope="module")
def longest():
    """Ladders too long for an index of two bytes that counts every rung."""
    return build_ladders(large_book(300_000, 1, 1, inverse=0.0, seed=7), ASSETS, ["book"])


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 300), decimals=st.sampled_from([2, 4, 17]))
@settings(max_examples=40, deadline=None)
def test_an_index_changes_no_byte(ladders, seed, n, decimals):
    day = rounded(jumpy_day(n, 1, seed=seed), decimals)
    ours, twin = walk(ladders, day), walk(without_index(ladders), day)
    for name in CUBE:
        assert ours[name].values.tobytes() == twin[name].values.tobytes(), name


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 300), decimals=st.sampled_from([2, 4, 17]))
@settings(max_examples=10, deadline=None)
def test_a_coarse_index_changes_no_byte_either(longest, seed, n, decimals):
    assert max(grain_of(size) for size in np.diff(longest.plain.sums.start).tolist()) > 0
    day = rounded(jumpy_day(n, 1, seed=seed), decimals)
    ours, twin = walk(longest, day), walk(without_index(longest), day)
    for name in CUBE:
        assert ours[name].values.tobytes() == twin[name].values.tobytes(), name


def test_a_price_of_nothing_closes_every_long(ladders):
    day = rounded(jumpy_day(3, 1, share=0.0), 3)
    day = day.assign(low=day.low * 0.0, last=day["last"] * [[0.0], [1.0], [1.0]])
    ours, twin = walk(ladders, day), walk(without_index(ladders), day)
    assert ours["liquidations"].values.sum() == twin["liquidations"].values.sum() > 0
    for sums in (ladders.plain.sums, ladders.steps.sums):
        assert ((np.repeat(sums.side, np.diff(sums.start)) == 1) == (sums.first > 0))[
            np.isfinite(sums.first)
        ].all()  # whole numbers are compared in place of these: they must be of one sign


@given(
    is_long=st.booleans(),
    prices=st.lists(st.floats(0, 1e12) | st.just(np.inf), min_size=2, max_size=2),
)
def test_bits_are_in_the_order_of_the_coordinates(is_long, prices):
    one, other = (-price if is_long and price < np.inf else price for price in prices)
    bits = [np.float64(each).view(np.uint64) for each in (one, other)]
    assert is_below(*bits, is_long) == (one < other)


def test_the_index_is_there_for_long_ladders_and_only_for_them(ladders):
    for sums in (ladders.plain.sums, ladders.steps.sums):
        is_long = np.diff(sums.start) >= LONG
        assert (np.diff(sums.lower_start) == np.where(is_long, N_CODES + 1, 0)).all()
    assert (np.diff(ladders.plain.sums.start) >= LONG).any()
    assert (np.diff(ladders.plain.sums.start) < LONG).any() or len(ladders.steps.sums.start) > 1


def test_every_trigger_that_a_path_reaches_is_closed_and_no_other():
    book = large_book(20_000, 1, 1, inverse=0.3, seed=6)
    day = rounded(jumpy_day(200, 1, share=0.0), 3)
    cube = walk(build_ladders(book, ASSETS, ["book"]), day)
    terms = close_out_terms(book, ASSETS).terms
    for i in range(day.sizes["scenario"]):
        extreme = np.where(terms.direction > 0, -day.low.values[i, 0], day.high.values[i, 0])
        hit = terms.first <= extreme
        assert cube["liquidations"].values[i, 0] == (hit & (terms.first == terms.margin)).sum()
        assert cube["stops"].values[i, 0] == (hit & (terms.first != terms.margin)).sum()


@given(
    side=st.sampled_from([0, 1]),
    prices=st.lists(st.floats(0, 8), min_size=2, max_size=2),
)
def test_a_code_never_falls_as_the_price_moves_against_the_holder(side, prices):
    near, far = sorted(-price if side == 0 else price for price in prices)
    assert 0 <= code_of(near, side) <= code_of(far, side) < N_CODES
    assert code_of(np.inf, side) == N_CODES - 1
