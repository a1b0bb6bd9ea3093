"""Laws of the tail measures, numbers a person can check by hand, and slow obvious twins."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from risk.errors import DataError
from risk.measures import (
    age_weights,
    cornish_fisher_value_at_risk,
    expected_shortfall,
    expected_shortfall_contributions,
    expected_shortfall_interval,
    expected_shortfall_standard_error,
    fit_tail,
    harrell_davis,
    incremental,
    normal_expected_shortfall,
    normal_value_at_risk,
    student_t_expected_shortfall,
    student_t_value_at_risk,
    value_at_risk,
    value_at_risk_contributions,
    value_at_risk_interval,
    value_at_risk_standard_error,
    volatility_scaled,
)
from risk.measures.intervals import interval_ranks
from risk.measures.samples import rank

AMOUNTS = st.floats(-1e9, 1e9, allow_subnormal=False)
LEVELS = st.sampled_from([0.07, 0.5, 0.9, 0.95, 0.975, 0.99, 0.999]) | st.floats(0.01, 0.999)
PNL = hnp.arrays("f8", st.integers(1, 200), elements=AMOUNTS)
TABLES = hnp.arrays("f8", st.tuples(st.integers(1, 60), st.integers(1, 8)), elements=AMOUNTS)


def slack(*arrays) -> float:
    """A billionth of the gross: what sums of floats may lose."""
    return 1e-9 * sum(float(np.abs(array).sum()) for array in arrays) + 1e-12


def weights_for(n: int, seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).random(n) + 1e-3
    return raw / raw.sum()


# The rank, by hand


@pytest.mark.parametrize(
    ("n", "confidence", "expected"),
    [(500, 0.99, 495), (100, 0.07, 7), (1, 0.5, 1), (4, 0.5, 2), (250, 0.99, 248)],
)
def test_the_rank_is_n_times_confidence_rounded_up_despite_floats(n, confidence, expected):
    assert rank(n, confidence) == expected


@given(n=st.integers(1, 5000), thousandths=st.integers(1, 999))
def test_the_rank_equals_exact_arithmetic(n, thousandths):
    assert rank(n, thousandths / 1000) == math.ceil(Fraction(thousandths, 1000) * n)
    assert rank(n, 1 - (1000 - thousandths) / 1000) == math.ceil(Fraction(thousandths, 1000) * n)


def test_value_at_risk_of_500_at_99_percent_is_the_6th_worst():
    assert value_at_risk(-np.arange(1.0, 501.0), 0.99) == 495.0


def test_expected_shortfall_takes_a_fraction_of_the_scenario_at_the_edge():
    losses = np.arange(1.0, 101.0)
    assert expected_shortfall(-losses, 0.975) == pytest.approx(99.2, abs=1e-12)
    assert expected_shortfall(-losses, 0.99) == 100.0


def test_a_sure_gain_has_a_negative_value_at_risk_and_nothing_has_zero_risk():
    assert value_at_risk([5.0] * 10, 0.99) == -5.0
    assert str(value_at_risk(np.zeros(10), 0.99)) == "0.0"
    assert str(expected_shortfall(np.zeros(10), 0.99)) == "0.0"


# Law 6


@given(pnl=PNL, confidence=LEVELS)
def test_shortfall_is_never_below_value_at_risk_nor_above_the_worst_loss(pnl, confidence):
    shortfall = expected_shortfall(pnl, confidence)
    assert value_at_risk(pnl, confidence) <= shortfall <= -pnl.min()


@given(table=TABLES, confidence=LEVELS)
def test_netting_books_never_adds_expected_shortfall(table, confidence):
    together = expected_shortfall(table.sum(axis=1), confidence)
    apart = sum(expected_shortfall(column, confidence) for column in table.T)
    # The tail's mean divides by 1 - c, and rounding with it.
    assert together <= apart + slack(table) / (1 - confidence)


@given(pnl=PNL, confidence=LEVELS, factor=st.floats(0, 1e3), cash=AMOUNTS)
def test_both_measures_scale_and_fall_by_added_cash(pnl, confidence, factor, cash):
    for measure in (value_at_risk, expected_shortfall):
        base = measure(pnl, confidence)
        room = (slack(pnl * factor) + slack(pnl, cash)) / (1 - confidence)
        assert measure(pnl * factor, confidence) == pytest.approx(base * factor, abs=room)
        assert measure(pnl + cash, confidence) == pytest.approx(base - cash, abs=room)


@given(pnl=PNL, confidence=LEVELS)
def test_measures_are_monotone_in_the_level_and_blind_to_order(pnl, confidence):
    higher = confidence + (1 - confidence) / 2
    for measure in (value_at_risk, expected_shortfall):
        assert measure(pnl, higher) >= measure(pnl, confidence) - slack(pnl)
        assert measure(pnl[::-1], confidence) == pytest.approx(
            measure(pnl, confidence), abs=slack(pnl) / (1 - confidence)
        )


# Slow, obvious twins


def slow_value_at_risk(pnl, confidence, weights):
    """The definition: try every loss, smallest first."""
    losses = -np.asarray(pnl)
    for loss in np.sort(losses):
        if math.fsum(weights[losses <= loss]) >= confidence - 1e-9:
            return loss
    return losses.max()


def slow_expected_shortfall(pnl, confidence, weights):
    """Take probability from the worst scenario on until 1 - c of it is used up."""
    left, total = 1 - confidence, 0.0
    for scenario in np.argsort(pnl):
        taken = min(weights[scenario], left)
        total, left = total - taken * pnl[scenario], left - taken
    return total / (1 - confidence)


@given(pnl=PNL, confidence=LEVELS, seed=st.integers(0, 99) | st.none())
def test_the_measures_equal_their_definitions_with_and_without_weights(pnl, confidence, seed):
    n = pnl.size
    chance = np.full(n, 1 / n) if seed is None else weights_for(n, seed)
    given_weights = None if seed is None else chance
    assert value_at_risk(pnl, confidence, weights=given_weights) == slow_value_at_risk(
        pnl, confidence, chance
    )
    assert expected_shortfall(pnl, confidence, weights=given_weights) == pytest.approx(
        slow_expected_shortfall(pnl, confidence, chance), abs=slack(pnl) / (1 - confidence)
    )


@given(pnl=PNL, confidence=LEVELS)
def test_equal_weights_change_nothing(pnl, confidence):
    equal = np.full(pnl.size, 1 / pnl.size)
    assert value_at_risk(pnl, confidence, weights=equal) == value_at_risk(pnl, confidence)
    assert expected_shortfall(pnl, confidence, weights=equal) == pytest.approx(
        expected_shortfall(pnl, confidence), abs=slack(pnl) / (1 - confidence)
    )


def test_equal_weights_of_a_hundred_thousand_scenarios_give_the_same_scenario():
    n = 100_000
    pnl = -np.random.default_rng(1).permutation(np.arange(float(n)))
    for confidence in (0.95, 0.975, 0.99, 0.999):
        weighted = value_at_risk(pnl, confidence, weights=np.full(n, 1 / n))
        assert weighted == value_at_risk(pnl, confidence)


def test_numpys_inverted_distribution_function_agrees():
    losses = np.random.default_rng(2).normal(size=777)
    for confidence in (0.9, 0.95, 0.975, 0.99):
        expected = np.quantile(losses, confidence, method="inverted_cdf")
        assert value_at_risk(-losses, confidence) == expected


# Labels


def test_labelled_measures_keep_the_other_dimensions_and_their_labels():
    values = np.random.default_rng(3).normal(size=(3, 50))
    pnl = xr.DataArray(values, dims=("venue", "scenario"), coords={"venue": ["a", "b", "c"]})
    for measure in (value_at_risk, expected_shortfall):
        found = measure(pnl, 0.9)
        assert found.dims == ("venue",)
        assert found.venue.values.tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(found.values, measure(values, 0.9))
        xr.testing.assert_equal(found, measure(pnl.T, 0.9))


def test_labelled_intervals_write_none_as_not_a_number():
    pnl = xr.DataArray(-np.arange(1.0, 101.0)[None], dims=("venue", "scenario"))
    interval = value_at_risk_interval(pnl, 0.99)
    assert math.isnan(interval.high.item())
    assert interval.low.item() == 97.0
    assert math.isnan(expected_shortfall_interval(pnl, 0.99).low.item())
    errors = expected_shortfall_standard_error(pnl, 0.9)
    assert errors.dims == ("venue",)


# Errors


@pytest.mark.parametrize("confidence", [0.0, 1.0, 99, -0.1, math.nan])
def test_a_level_outside_zero_to_one_is_refused(confidence):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        value_at_risk([1.0, 2.0], confidence)
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        normal_value_at_risk(0.0, 1.0, confidence)


@pytest.mark.parametrize(
    ("pnl", "message"),
    [
        ([], "empty"),
        (1.0, "empty"),
        ([1.0, math.nan], "1 values that are not finite of 2"),
        ([1.0, math.inf], "not finite"),
        (["x"], "must hold numbers"),
    ],
)
def test_a_sample_without_meaning_is_refused_as_both_kinds_of_error(pnl, message):
    for measure in (value_at_risk, expected_shortfall, value_at_risk_interval):
        with pytest.raises(ValueError, match=message) as caught:
            measure(pnl, 0.9)
        assert isinstance(caught.value, DataError)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([0.5, 0.4], "add up to 0.9"), ([1.5, -0.5], "not negative"), ([1.0], "one per scenario")],
)
def test_weights_that_are_no_probabilities_are_refused(weights, message):
    for measure in (value_at_risk, expected_shortfall):
        with pytest.raises(ValueError, match=message):
            measure([1.0, 2.0], 0.9, weights=weights)


def test_a_missing_dimension_is_named():
    pnl = xr.DataArray([1.0], dims="day")
    with pytest.raises(ValueError, match="no dimension 'scenario' in pnl: it has day"):
        value_at_risk(pnl, 0.9)
    assert value_at_risk(pnl, 0.9, dim="day").item() == -1.0


# Intervals


def test_the_interval_of_500_at_99_percent_ends_at_the_worst_loss():
    assert interval_ranks(500, 0.99, 0.95) == (490, 500)


@pytest.mark.parametrize(("n", "ends"), [(367, None), (368, 368)])
def test_the_upper_end_exists_from_368_scenarios_on(n, ends):
    assert interval_ranks(n, 0.99, 0.95)[1] == ends
    assert (0.99**n <= 0.025) == (ends is not None)


def test_a_lower_end_may_be_missing_too():
    assert interval_ranks(3, 0.5, 0.95) == (None, None)
    interval = value_at_risk_interval([1.0, 2.0, 3.0], 0.5)
    assert interval.low is None
    assert interval.high is None


@given(n=st.integers(1, 400), confidence=LEVELS, coverage=st.floats(0.5, 0.999))
def test_the_ranks_are_the_tightest_that_keep_each_side(n, confidence, coverage):
    low, high = interval_ranks(n, confidence, coverage)
    half, below = (1 - coverage) / 2, stats.binom(n, confidence).cdf
    candidates = [r for r in range(1, n + 1) if below(r - 1) <= half]
    assert low == (max(candidates) if candidates else None)
    candidates = [r for r in range(1, n + 1) if 1 - below(r - 1) <= half]
    # At the border itself cdf and survival function may differ in the last digit.
    border = any(abs(1 - below(r - 1) - half) < 1e-12 for r in range(1, n + 1))
    assert border or high == (min(candidates) if candidates else None)


@pytest.mark.parametrize("heavy", [False, True])
def test_a_95_percent_interval_covers_at_least_95_percent_less_three_errors(heavy):
    # Law 10. The expected shortfall's interval is asymptotic: docs/methods/intervals.md has the
    # coverage measured for heavier tails and smaller samples.
    law = stats.t(4) if heavy else stats.norm()
    n, seeds, confidence = 1000, 400, 0.975
    true_value = law.ppf(confidence)
    true_shortfall = (
        student_t_expected_shortfall(0, math.sqrt(2), 4, confidence)
        if heavy
        else normal_expected_shortfall(0, 1, confidence)
    )
    held = np.zeros(2)
    for seed in range(seeds):
        pnl = law.rvs(n, random_state=np.random.default_rng(seed))
        for k, (interval, truth) in enumerate(
            (
                (value_at_risk_interval(pnl, confidence), true_value),
                (expected_shortfall_interval(pnl, confidence), true_shortfall),
            )
        ):
            held[k] += interval.low <= truth <= interval.high
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / seeds)
    assert (held / seeds >= least).all(), held / seeds


def test_no_shortfall_interval_is_quoted_below_five_losses_in_the_tail():
    pnl = np.random.default_rng(4).normal(size=500)
    assert expected_shortfall_interval(pnl, 0.99).low is not None
    assert expected_shortfall_interval(pnl[:499], 0.99).low is None
    assert expected_shortfall_interval(pnl[:499], 0.99).high is None


@given(pnl=PNL, confidence=LEVELS)
def test_a_shortfall_interval_holds_its_estimate(pnl, confidence):
    interval = expected_shortfall_interval(pnl, confidence)
    if interval.low is not None:
        estimate = expected_shortfall(pnl, confidence)
        assert interval.low <= estimate + slack(pnl)
        assert interval.high >= estimate - slack(pnl)


def test_standard_errors_match_the_spread_over_many_samples():
    rng = np.random.default_rng(5)
    samples = rng.normal(size=(2000, 2000))
    confidence = 0.95
    shortfalls = expected_shortfall(samples, confidence)
    values = value_at_risk(samples, confidence)
    picked = samples[:100]
    shortfall_errors = [expected_shortfall_standard_error(pnl, confidence) for pnl in picked]
    assert np.mean(shortfall_errors) == pytest.approx(shortfalls.std(), rel=0.05)
    for density in ("kernel", "normal"):
        errors = [value_at_risk_standard_error(pnl, confidence, density) for pnl in picked]
        assert np.mean(errors) == pytest.approx(values.std(), rel=0.1)


def test_the_shortfall_error_is_the_formula_of_manistre_and_hancock():
    # A whole number of losses in the tail and population variances make the two forms equal.
    losses = np.sort(np.random.default_rng(6).standard_t(4, size=1000))
    q, n = 0.95, 1000
    tail, value = losses[950:], losses[949]
    formula = math.sqrt((tail.var() + q * (tail.mean() - value) ** 2) / (n * (1 - q)))
    ours = expected_shortfall_standard_error(-losses, q)
    assert ours * math.sqrt((n - 1) / n) == pytest.approx(formula, rel=1e-10)


def test_a_constant_sample_has_no_error_and_an_unknown_density_is_refused():
    assert value_at_risk_standard_error([2.0] * 9, 0.9) == 0.0
    assert value_at_risk_standard_error([2.0] * 9, 0.9, "normal") == 0.0
    with pytest.raises(ValueError, match="density must be"):
        value_at_risk_standard_error([1.0, 2.0], 0.9, "cauchy")
    with pytest.raises(ValueError, match="at least two"):
        expected_shortfall_standard_error([1.0], 0.9)


def test_the_harrell_davis_jackknife_equals_leaving_each_value_out():
    sample = np.random.default_rng(7).lognormal(size=40)
    n = sample.size
    values = np.array([harrell_davis(np.delete(sample, i), 0.9).value for i in range(n)])
    slow = math.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())
    assert harrell_davis(sample, 0.9).standard_error == pytest.approx(slow, rel=1e-10)


# Parametric


def test_parametric_measures_are_those_of_a_large_sample():
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    level = 0.975
    normal = 0.3 + 2 * stats.norm.ppf(u)
    assert normal_value_at_risk(0.3, 2, level) == pytest.approx(
        value_at_risk(normal, level), rel=1e-4
    )
    assert normal_expected_shortfall(0.3, 2, level) == pytest.approx(
        expected_shortfall(normal, level), rel=1e-3
    )
    student = 0.3 + 2 / math.sqrt(5 / 3) * stats.t.ppf(u, 5)
    assert student_t_value_at_risk(0.3, 2, 5, level) == pytest.approx(
        value_at_risk(student, level), rel=1e-4
    )
    assert student_t_expected_shortfall(0.3, 2, 5, level) == pytest.approx(
        expected_shortfall(student, level), rel=1e-3
    )


def test_students_t_at_the_same_deviation_is_below_the_normal_at_95_and_above_at_99():
    assert student_t_value_at_risk(0, 1, 4, 0.95) < normal_value_at_risk(0, 1, 0.95)
    assert student_t_value_at_risk(0, 1, 4, 0.99) > normal_value_at_risk(0, 1, 0.99)


def test_a_heavier_loss_tail_raises_the_cornish_fisher_value_at_risk():
    # By hand at z = -2.3263: (z^2 - 1) s / 6 = -0.3677 and so on, see the docstring.
    assert cornish_fisher_value_at_risk(0, 1, -0.5, 1, 0.99) == pytest.approx(2.8337, abs=5e-5)
    assert cornish_fisher_value_at_risk(0, 1, 0.5, 0, 0.99) < normal_value_at_risk(0, 1, 0.99)


def test_parametric_arguments_broadcast_and_are_checked():
    assert normal_value_at_risk([0.0, 1.0], 1.0, 0.99).shape == (2,)
    with pytest.raises(ValueError, match="sd must not be negative"):
        normal_expected_shortfall(0, -1, 0.99)
    with pytest.raises(ValueError, match="df must be finite and above 2"):
        student_t_value_at_risk(0, 1, 2, 0.99)


# Weights and volatility


@given(n=st.integers(1, 300), decay=st.floats(0.5, 1.0))
def test_age_weights_add_up_and_rise_to_the_latest(n, decay):
    weights = age_weights(n, decay)
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(weights) >= 0).all()
    assert weights[:-1] == pytest.approx(weights[1:] * decay)


def test_volatility_scaling_is_the_recursion_written_out():
    returns = np.array([0.01, -0.03, 0.02, 0.005])
    variance = [returns.var(ddof=1)]
    for r in returns:
        variance.append(0.9 * variance[-1] + 0.1 * r**2)
    expected = [r * math.sqrt(variance[-1] / v) for r, v in zip(returns, variance, strict=False)]
    assert volatility_scaled(returns, 0.9) == pytest.approx(expected)
    table = xr.DataArray(np.stack([returns, returns * 2]), dims=("asset", "scenario"))
    assert volatility_scaled(table, 0.9).values[1] == pytest.approx(2 * np.array(expected))
    assert volatility_scaled(np.zeros(3), 0.9).tolist() == [0, 0, 0]


@pytest.mark.parametrize("decay", [0.0, 1.1, math.nan])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match="decay must lie"):
        age_weights(5, decay)
    with pytest.raises(ValueError, match="decay must lie"):
        volatility_scaled([1.0, 2.0], decay)


# The fitted tail


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3, 0.7])
def test_a_tail_is_recovered_from_its_own_quantiles(shape):
    u = (np.arange(20_000) + 0.5) / 20_000
    losses = 10 + stats.genpareto.ppf(u, shape, scale=2.0)
    tail = fit_tail(np.concatenate([losses, np.zeros(180_000)]), 10.0)
    assert tail.tail_fraction == pytest.approx(0.1)
    assert tail.shape == pytest.approx(shape, abs=0.01)
    assert tail.scale == pytest.approx(2.0, rel=0.01)
    fitted = stats.genpareto(tail.shape, scale=tail.scale)
    assert tail.log_likelihood == pytest.approx(fitted.logpdf(losses - 10).sum(), rel=1e-9)
    assert tail.value_at_risk(0.99) == pytest.approx(10 + fitted.ppf(0.9), rel=1e-9)
    assert tail.exceedance_probability(tail.value_at_risk(0.999)) == pytest.approx(0.001, rel=1e-9)
    mean_beyond = fitted.expect(lambda y: y, lb=fitted.ppf(0.9)) / 0.1
    assert tail.expected_shortfall(0.99) == pytest.approx(10 + mean_beyond, rel=1e-4)


@given(seed=st.integers(0, 50))
def test_no_nearby_tail_is_more_likely_than_the_fitted_one(seed):
    excess = np.random.default_rng(seed).pareto(3, size=60)
    tail = fit_tail(excess + 1, 1.0)
    for shape in (tail.shape - 0.01, tail.shape + 0.01):
        for scale in (tail.scale * 0.99, tail.scale * 1.01):
            other = stats.genpareto.logpdf(excess, shape, scale=scale).sum()
            assert other <= tail.log_likelihood + 1e-9


def test_a_tail_says_where_it_knows_nothing():
    tail = fit_tail(np.random.default_rng(8).exponential(size=500), 1.0)
    with pytest.raises(ValueError, match="lies below the threshold"):
        tail.value_at_risk(0.5)
    with pytest.raises(ValueError, match="below the threshold"):
        tail.exceedance_probability(0.5)
    with pytest.raises(ValueError, match="only 4 losses exceed"):
        fit_tail([1.0, 2.0, 3.0, 4.0, 0.0], 0.5)
    with pytest.raises(ValueError, match="all losses above the threshold are the same"):
        fit_tail([2.0] * 10, 1.0)


# Contributions: law 7


@given(table=TABLES, confidence=LEVELS, seed=st.integers(0, 9) | st.none())
def test_contributions_add_up_to_the_measure_of_the_total(table, confidence, seed):
    weights = None if seed is None else weights_for(len(table), seed)
    total = table.sum(axis=1)
    for split, measure in (
        (expected_shortfall_contributions, expected_shortfall),
        (value_at_risk_contributions, value_at_risk),
    ):
        parts = split(table, confidence, weights=weights)
        whole = measure(total, confidence, weights=weights)
        assert parts.sum() == pytest.approx(whole, abs=1e-9 * max(1, np.abs(table).sum()))


@given(table=TABLES, confidence=LEVELS)
def test_contributions_of_a_roll_up_are_the_roll_up_of_contributions(table, confidence):
    halves = np.arange(table.shape[1]) % 2
    rolled = np.stack([table[:, halves == side].sum(axis=1) for side in (0, 1)], axis=1)
    parts = expected_shortfall_contributions(table, confidence)
    expected = [parts[halves == side].sum() for side in (0, 1)]
    # Adding up in another order may swap scenarios that tie in exact arithmetic, so only tables
    # without near ties are compared.
    losses = np.sort(table.sum(axis=1))
    if losses.size == 1 or np.diff(losses).min() > slack(table):
        found = expected_shortfall_contributions(rolled, confidence)
        assert found == pytest.approx(expected, abs=slack(table) / (1 - confidence))


def test_tied_scenarios_share_the_edge_of_the_tail_in_any_order():
    pnl = np.array([[-3.0, 0.0], [0.0, -3.0], [1.0, 0.0], [1.0, 1.0]])
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        assert expected_shortfall_contributions(pnl[order], 0.75).tolist() == [1.5, 1.5]


def test_value_at_risk_contributions_of_a_normal_book_are_the_covariance_shares():
    rng = np.random.default_rng(9)
    covariance = np.array([[1.0, 0.5, 0.0], [0.5, 4.0, -0.5], [0.0, -0.5, 2.0]])
    pnl = rng.multivariate_normal(np.zeros(3), covariance, size=400_000)
    deviation = math.sqrt(covariance.sum())
    expected = normal_value_at_risk(0, 1, 0.95) * covariance.sum(axis=1) / deviation
    # Some 10,000 scenarios are averaged, each with a deviation of about one.
    assert value_at_risk_contributions(pnl, 0.95) == pytest.approx(expected, abs=0.06)


def test_incremental_risk_is_the_difference_of_two_measures():
    rng = np.random.default_rng(10)
    pnl = xr.DataArray(
        rng.normal(size=(200, 3)), dims=("scenario", "cell"), coords={"cell": ["a", "b", "c"]}
    )
    for measure in (value_at_risk, expected_shortfall):
        found = incremental(pnl, 0.9, measure=measure.__name__)
        rest = pnl.sum("cell") - pnl.sel(cell="b")
        expected = measure(pnl.sum("cell"), 0.9) - measure(rest, 0.9)
        assert found.sel(cell="b").item() == pytest.approx(expected.item(), abs=1e-12)
    with pytest.raises(ValueError, match="measure must be"):
        incremental(pnl, 0.9, measure="variance")
    with pytest.raises(ValueError, match="no dimension 'asset'"):
        incremental(pnl, 0.9, over="asset")
