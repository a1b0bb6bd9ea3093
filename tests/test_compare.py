"""Estimators beside each other, convergence, and the error of a part of the value at risk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.measures import (
    ESTIMATES,
    SampleError,
    compare_estimators,
    convergence,
    expected_shortfall,
    value_at_risk,
    value_at_risk_contribution_errors,
    value_at_risk_contributions,
)


def by_name(table):
    return {(row["measure"], row["estimator"]): row for row in table.to_pylist()}


def test_every_estimator_is_near_the_truth_on_a_normal_sample():
    pnl = np.random.default_rng(1).normal(0.0, 1.0, 40_000)
    found = compare_estimators(pnl, 0.99, 0.975)
    assert found.schema == ESTIMATES
    for row in found.to_pylist():
        if row["value"] is None:
            assert row["estimator"].startswith("Student-t")
            continue
        truth = 2.3263 if row["measure"] == "value_at_risk" else 2.3378
        assert row["value"] == pytest.approx(truth, abs=0.06), row


def test_a_fat_tail_is_seen_by_the_tail_fit_and_missed_by_the_normal():
    pnl = np.random.default_rng(2).standard_t(3, 40_000)
    rows = by_name(compare_estimators(pnl, 0.999, 0.999))
    truth = 10.2145  # the quantile of t(3) at 99.9 %
    tail = rows["value_at_risk", "generalised Pareto tail"]["value"]
    assert tail == pytest.approx(truth, rel=0.1)
    assert rows["value_at_risk", "normal"]["value"] < 0.65 * truth


def test_what_a_sample_cannot_give_is_a_reason_and_not_a_number():
    few = by_name(compare_estimators(np.arange(50.0), 0.99, 0.975))
    row = few["value_at_risk", "generalised Pareto tail"]
    assert row["value"] is None
    assert "needs 30 losses" in row["note"]
    weighted = by_name(compare_estimators(np.arange(50.0), 0.9, 0.9, weights=np.full(50, 0.02)))
    assert weighted["value_at_risk", "Harrell-Davis"]["note"] == "needs equally likely scenarios"
    assert weighted["value_at_risk", "empirical, rank ceil(n c)"]["value"] is not None


@pytest.mark.parametrize("pnl", [np.zeros(200), np.full(200, -3.0)])
def test_equal_outcomes_have_one_value_whatever_the_estimator(pnl):
    for row in compare_estimators(pnl, 0.99, 0.975).to_pylist():
        assert row["value"] is None or row["value"] == pytest.approx(-pnl[0], abs=1e-12)


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 1.0], []])
def test_a_sample_with_a_hole_is_refused(bad):
    with pytest.raises(SampleError):
        compare_estimators(bad, 0.99, 0.975)
    with pytest.raises(SampleError):
        convergence(bad, 0.99, 0.975)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 99.0])
def test_a_level_outside_zero_and_one_is_refused(level):
    with pytest.raises(ValueError, match="confidence"):
        compare_estimators([1.0, 2.0], level, 0.975)
    with pytest.raises(ValueError, match="confidence"):
        convergence([1.0, 2.0], 0.99, level)


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_convergence_ends_at_the_whole_sample(n, seed):
    pnl = np.random.default_rng(seed).normal(0.0, 1.0, n)
    rows = convergence(pnl, 0.99, 0.975).to_pylist()
    assert [row["n"] for row in rows] == sorted({row["n"] for row in rows})
    last = rows[-1]
    assert last["n"] == n
    assert last["value_at_risk"] == value_at_risk(pnl, 0.99)
    assert last["expected_shortfall"] == pytest.approx(expected_shortfall(pnl, 0.975), rel=1e-12)
    for row in rows:
        if row["value_at_risk_high"] is not None and row["value_at_risk_low"] is not None:
            assert row["value_at_risk_low"] <= row["value_at_risk"] <= row["value_at_risk_high"]


def test_one_scenario_has_no_upper_end():
    (row,) = convergence([-5.0], 0.99, 0.975).to_pylist()
    assert (row["n"], row["value_at_risk"]) == (1, 5.0)
    assert row["value_at_risk_high"] is None


def test_the_error_of_a_part_is_the_spread_around_the_value_at_risk():
    rng = np.random.default_rng(4)
    parts = [value_at_risk_contributions(rng.normal(0.0, 1.0, (4000, 2)), 0.95) for _ in range(200)]
    pnl = rng.normal(0.0, 1.0, (4000, 2))
    error = value_at_risk_contribution_errors(pnl, 0.95)
    # The ranks are taken together, so the error of the value at risk itself is not in it.
    spread = np.std([part[0] - part.sum() / 2 for part in parts])
    assert error[0] == pytest.approx(spread, rel=0.2)
    assert np.isnan(value_at_risk_contribution_errors(pnl[:30], 0.95)).all()
