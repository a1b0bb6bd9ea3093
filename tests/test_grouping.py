"""Grouping by counting: the same as sorting, ties and all."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from risk.liquidation.grouping import distinct, sort_within

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, n=st.integers(0, 300), sparse=st.booleans())
def test_distinct_is_unique_with_its_inverse(seed, n, sparse):
    n_codes = 100_000 if sparse else 40
    codes = np.random.default_rng(seed).integers(n_codes, size=n)
    used, place = distinct(codes, n_codes)
    expected, inverse = np.unique(codes, return_inverse=True)
    assert used.tolist() == expected.tolist()
    assert place.tolist() == inverse.tolist()


@given(seed=seeds, n=st.integers(0, 300), n_values=st.sampled_from([2, 10, 10**6]))
def test_sorting_each_group_alone_is_one_stable_sort(seed, n, n_values):
    rng = np.random.default_rng(seed)
    group, value = rng.integers(5, size=n), rng.integers(n_values, size=n).astype("f8")
    value[rng.random(n) < 0.2] = np.inf
    order = sort_within(group, 5, value)
    assert order.tolist() == np.lexsort((np.arange(n), value, group)).tolist()
