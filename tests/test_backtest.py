"""Backtests against hand-made numbers, slow twins, laws and simulated truth."""

from __future__ import annotations

import csv
import itertools
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from risk.backtest import (
    acerbi_szekely,
    binomial,
    christoffersen,
    du_escanciano,
    dynamic_quantile,
    exceedances,
    fissler_ziegel_loss,
    kupiec,
    pnl_attribution,
    quantile_loss,
    time_until_first_failure,
    traffic_light,
)
from risk.backtest.independence import _distribution
from risk.errors import DataError

COUNTS = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
LEVELS = st.sampled_from([0.9, 0.95, 0.975, 0.99, 0.995])


def forecasts(market_data):
    with (market_data / "reference_series" / "esback_risk_forecasts_1_3000.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in "rqe"}


# Exceedances


def test_no_exceedance_is_green_however_few_the_days():
    assert [traffic_light(0, n, 0.99).zone for n in (1, 4, 250)] == ["green"] * 3
    assert traffic_light(1, 4, 0.99).zone == "yellow"


def test_a_missing_day_counts_as_an_exceedance_and_an_equal_loss_does_not():
    pnl = [-2.0, -2.000001, 5.0, None, 1.0]
    var = [2.0, 2.0, 2.0, 2.0, math.nan]
    assert exceedances(pnl, var).tolist() == [False, True, False, True, True]


def test_labelled_days_are_matched_by_label_and_a_day_only_one_side_has_is_missing():
    pnl = xr.DataArray([-3.0, 1.0], dims="day", coords={"day": [1, 2]})
    var = xr.DataArray([2.0, 2.0], dims="day", coords={"day": [2, 3]})
    found = exceedances(pnl, var)
    assert found.day.values.tolist() == [1, 2, 3]
    assert found.values.tolist() == [True, False, True]
    assert exceedances(pnl, 2.0).values.tolist() == [True, False]


def test_series_of_different_length_are_refused():
    with pytest.raises(ValueError, match="series of one length"):
        exceedances([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="empty"):
        exceedances([], 1.0)


# Coverage


@given(counts=COUNTS, confidence=LEVELS)
def test_kupiecs_statistic_is_a_likelihood_ratio_of_binomials(counts, confidence):
    x, n = counts
    observed, expected = stats.binom.logpmf(x, n, x / n), stats.binom.logpmf(x, n, 1 - confidence)
    found = kupiec(x, n, confidence)
    assert found.statistic == pytest.approx(2 * (observed - expected), abs=1e-7 * n)
    assert 0 <= found.p_value <= 1


def test_kupiec_without_exceedance_has_its_closed_form():
    assert kupiec(0, 250, 0.99).statistic == pytest.approx(-500 * math.log(0.99))
    assert kupiec(250, 250, 0.99).statistic == pytest.approx(-500 * math.log(0.01))


def test_3_of_250_at_99_percent_is_not_twice_its_statistic():
    # A public page prints 0.189 for it, twice the ratio.
    assert kupiec(3, 250, 0.99).statistic == pytest.approx(0.0949, abs=5e-5)


def test_the_expected_number_of_exceedances_scores_zero():
    assert kupiec(25, 1000, 0.975).statistic == pytest.approx(0, abs=1e-9)
    assert binomial(25, 1000, 0.975).z_score == pytest.approx(0, abs=1e-9)
    assert time_until_first_failure(20, 0.95).statistic == pytest.approx(0, abs=1e-9)


def test_a_failure_on_the_first_day_has_its_closed_form():
    found = time_until_first_failure(1, 0.99)
    assert found.statistic == pytest.approx(-2 * math.log(0.01))


@given(counts=COUNTS, confidence=LEVELS)
def test_the_traffic_lights_probabilities_overlap_in_the_count_itself(counts, confidence):
    x, n = counts
    light = traffic_light(x, n, confidence)
    both = light.cumulative_probability + light.type_one_probability
    assert both == pytest.approx(1 + stats.binom.pmf(x, n, 1 - confidence))


def test_the_zones_of_750_days_at_99_5_percent_begin_where_the_rule_puts_them():
    zones = [traffic_light(x, 750, 0.995).zone for x in range(15)]
    assert zones.index("yellow") == 7
    assert zones.index("red") == 13


@pytest.mark.parametrize("test", [kupiec, binomial, traffic_light])
@pytest.mark.parametrize(("x", "n"), [(-1, 10), (11, 10), (0, 0), (1.5, 10)])
def test_impossible_counts_are_refused(test, x, n):
    with pytest.raises(ValueError, match="exceedances must be whole"):
        test(x, n, 0.99)
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        test(1, 10, 99)


def test_a_first_day_before_the_first_is_refused():
    with pytest.raises(ValueError, match="from 1 on"):
        time_until_first_failure(0, 0.99)


# Independence


def slow_ratios(hits, p):
    """Both statistics from the sequence, a day at a time."""

    def log_term(count, probability):
        return count * math.log(probability) if count else 0.0

    n = {pair: 0 for pair in itertools.product((0, 1), repeat=2)}
    for pair in itertools.pairwise(hits):
        n[pair] += 1
    ones = n[0, 1] + n[1, 1]
    share = ones / (len(hits) - 1)
    null = log_term(ones, share) + log_term(len(hits) - 1 - ones, 1 - share)
    free = 0.0
    for state in (0, 1):
        total = n[state, 0] + n[state, 1]
        for outcome in (0, 1):
            count = n[state, outcome]
            free += log_term(count, count / total if total else 1)
    independence = 2 * (free - null)
    x = sum(hits)
    rate = x / len(hits)
    coverage = 2 * (
        log_term(x, rate)
        + log_term(len(hits) - x, 1 - rate)
        - log_term(x, p)
        - log_term(len(hits) - x, 1 - p)
    )
    return independence, independence + coverage


@pytest.mark.parametrize("n", [2, 3, 9])
@pytest.mark.parametrize("confidence", [0.9, 0.75])
def test_exact_p_values_equal_the_enumeration_of_every_sequence(n, confidence):
    p = 1 - confidence
    every = list(itertools.product((0, 1), repeat=n))
    ratios = np.array([slow_ratios(hits, p) for hits in every])
    chance = np.array([p ** sum(hits) * (1 - p) ** (n - sum(hits)) for hits in every])
    for hits, ratio in list(zip(every, ratios, strict=True))[:: max(1, len(every) // 40)]:
        found = christoffersen(hits, confidence)
        for k, outcome in enumerate((found.independence, found.conditional_coverage)):
            assert outcome.statistic == pytest.approx(ratio[k], abs=1e-9)
            reached = chance[ratios[:, k] >= ratio[k] - 1e-9].sum()
            assert outcome.exact_p_value == pytest.approx(reached, abs=1e-9)


@pytest.mark.parametrize("n", [5, 250, 3000])
def test_the_exact_distribution_adds_up_to_one(n):
    assert _distribution(n, 0.05)[2].sum() == pytest.approx(1, abs=1e-9)


def test_the_asymptotic_p_value_can_flip_the_decision():
    hits = np.zeros(300)
    hits[5:54:7] = 1
    found = christoffersen(hits, 0.95).conditional_coverage
    assert found.exact_p_value < 0.05 < found.p_value
    assert found.p_value == pytest.approx(0.0527, abs=5e-5)


def test_hits_that_come_in_a_row_are_not_independent():
    hits = np.zeros(500, bool)
    hits[100:110] = True
    found = christoffersen(hits, 0.98)
    assert found.independence.p_value < 1e-6
    assert kupiec(10, 500, 0.98).p_value > 0.9


@pytest.mark.parametrize("hits", [[1], [0, 2, 1], [0.5, 0, 1]])
def test_hits_that_are_none_are_refused(hits):
    with pytest.raises(ValueError, match="two days of 0 or 1"):
        christoffersen(hits, 0.95)


def slow_dynamic_quantile(pnl, var, p, lags, square):
    """The quadratic form written out, with the regressors in a list."""
    hit = (-pnl > var) - p
    rows = []
    for t in range(lags, len(pnl)):
        row = [1.0, var[t], *(hit[t - k] for k in range(1, lags + 1))]
        rows.append(row + ([pnl[t - 1] ** 2] if square else []))
    x, h = np.array(rows), hit[lags:]
    return h @ x @ np.linalg.inv(x.T @ x) @ x.T @ h / (p * (1 - p)), x.shape[1]


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("lags", [1, 4])
def test_the_dynamic_quantile_statistic_is_its_quadratic_form(lags, square):
    rng = np.random.default_rng(1)
    sigma = np.exp(0.3 * rng.normal(size=600))
    pnl, var = sigma * rng.normal(size=600), 1.645 * sigma
    statistic, df = slow_dynamic_quantile(pnl, var, 0.05, lags, square)
    found = dynamic_quantile(pnl, var, 0.95, lags, lagged_square=square)
    assert found.statistic == pytest.approx(statistic, rel=1e-9)
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, df), rel=1e-8)
    # The unit of the money must not matter.
    in_cents = dynamic_quantile(pnl * 1e8, var * 1e8, 0.95, lags, lagged_square=square)
    assert in_cents.statistic == pytest.approx(statistic, rel=1e-9)


def test_a_constant_forecast_is_no_second_constant_in_the_dynamic_quantile_test():
    pnl = np.random.default_rng(2).normal(size=400)
    found = dynamic_quantile(pnl, np.full(400, 1.645), 0.95, 1)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, 2))


def test_too_few_days_for_the_regressors_are_refused():
    with pytest.raises(ValueError, match="too few"):
        dynamic_quantile([1.0, -1.0, 2.0], [1.0, 1.0, 1.0], 0.9, 4)
    with pytest.raises(ValueError, match="lags must be"):
        dynamic_quantile([1.0, -1.0, 2.0], [1.0, 1.0, 1.0], 0.9, 0)


# Size: a right forecast is rejected about as often as promised


def test_right_forecasts_are_rejected_about_as_often_as_the_level_says():
    seeds, n, p = 400, 1000, 0.05
    rejected = np.zeros(5)
    for seed in range(seeds):
        u = np.random.default_rng(seed).random(n)
        gain, var = stats.norm.ppf(u), np.full(n, -stats.norm.ppf(p))
        sigma = 1 + 0.3 * np.sin(np.arange(n))
        hits = exceedances(gain, var)
        values = (
            kupiec(int(hits.sum()), n, 1 - p).p_value,
            christoffersen(hits, 1 - p).conditional_coverage.exact_p_value,
            dynamic_quantile(gain * sigma, var * sigma, 1 - p, 2).p_value,
            du_escanciano(u, 1 - p).unconditional.p_value,
            du_escanciano(u, 1 - p, 2).conditional.p_value,
        )
        rejected += np.array(values) < 0.05
    # Three standard errors of 400 trials, and the asymptotic tests' own distortion.
    assert (rejected / seeds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / seeds) + 0.02).all(), rejected
    assert (rejected / seeds >= 0.01).all(), rejected


# Expected shortfall


def test_acerbi_and_szekely_by_hand():
    found = acerbi_szekely([3.0, 0.0, -1.0, 1.0], 2.0, 2.5, 0.75)
    assert found.z1 == pytest.approx(1 - 3 / 2.5)
    assert found.z2 == pytest.approx(1 - 3 / 2.5 / (4 * 0.25))


def test_without_an_exceedance_the_first_statistic_is_none():
    found = acerbi_szekely([0.0, 1.0], 2.0, 2.5, 0.75)
    assert found.z1 is None
    assert found.z2 == 1.0


def test_the_second_statistic_is_near_zero_when_right_and_negative_when_risk_is_low():
    losses = np.random.default_rng(3).normal(size=200_000)
    var, es = stats.norm.ppf(0.975), stats.norm.pdf(stats.norm.ppf(0.975)) / 0.025
    right = acerbi_szekely(losses, var, es, 0.975)
    assert right.z1 == pytest.approx(0, abs=0.01)
    assert right.z2 == pytest.approx(0, abs=0.05)
    low = acerbi_szekely(losses, var / 1.2, es / 1.2, 0.975)
    assert low.z2 < -0.5
    with pytest.raises(ValueError, match="above zero"):
        acerbi_szekely(losses, var, -es, 0.975)


def test_the_published_forecasts_underestimate_the_shortfall(market_data):
    data = forecasts(market_data)
    hits = exceedances(data["r"], -data["q"])
    found = acerbi_szekely(-data["r"], -data["q"], -data["e"], 0.975)
    severity = (data["r"] / data["e"])[hits].sum()
    assert found.z2 == pytest.approx(1 - severity / (3000 * 0.025))
    assert found.z2 < -0.35
    assert kupiec(int(hits.sum()), 3000, 0.975).p_value < 0.01


def test_du_and_escanciano_on_a_published_garch_forecast(market_data):
    path = market_data / "reference_series" / "tstests_garch_pit_250.csv"
    with path.open() as file:
        u = [float(row["u"]) for row in csv.DictReader(file)]
    a, n = 0.05, 250
    violations = [max(a - x, 0) / a for x in u]
    z = math.sqrt(n) * (math.fsum(violations) / n - a / 2) / math.sqrt(a * (1 / 3 - a / 4))
    centred = [v - a / 2 for v in violations]
    gamma = [
        math.fsum(x * y for x, y in zip(centred[lag:], centred, strict=False)) / (n - lag)
        for lag in (0, 1, 2)
    ]
    found = du_escanciano(u, 0.95, 2)
    assert found.unconditional.statistic == pytest.approx(z)
    portmanteau = n * ((gamma[1] / gamma[0]) ** 2 + (gamma[2] / gamma[0]) ** 2)
    assert found.conditional.statistic == pytest.approx(portmanteau)
    assert found.unconditional.p_value > 0.05


def test_a_forecast_never_violated_has_no_autocorrelation():
    found = du_escanciano([0.5, 0.6, 0.7], 0.95)
    assert found.conditional.statistic == 0.0
    assert found.conditional.p_value == 1.0


def test_probabilities_outside_their_range_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        du_escanciano([0.5, 1.2], 0.95)
    with pytest.raises(ValueError, match="lags must be"):
        du_escanciano([0.5, 0.2], 0.95, 2)


# Scores


def test_scores_are_smallest_at_the_truth():
    pnl = np.random.default_rng(4).normal(size=100_000)
    var, es = stats.norm.ppf(0.975), stats.norm.pdf(stats.norm.ppf(0.975)) / 0.025
    best = quantile_loss(pnl, var, 0.975), fissler_ziegel_loss(pnl, var, es, 0.975)
    for factor in (0.85, 1.15):
        assert quantile_loss(pnl, var * factor, 0.975) > best[0]
        assert fissler_ziegel_loss(pnl, var * factor, es, 0.975) > best[1]
        assert fissler_ziegel_loss(pnl, var, es * factor, 0.975) > best[1]


def test_scores_by_hand():
    # r = -3 is beyond q = -2 by 1, weighed 0.9; r = 1 is above by 3, weighed 0.1.
    assert quantile_loss([-3.0, 1.0], 2.0, 0.9) == pytest.approx((0.9 + 0.3) / 2)
    beyond, day = 2 / (0.5 * 2), 1 / 2 + math.log(2) - 1
    assert fissler_ziegel_loss([-3.0, 1.0], 1.0, 2.0, 0.5) == pytest.approx(beyond / 2 + day)
    with pytest.raises(ValueError, match="above zero"):
        fissler_ziegel_loss([1.0], 1.0, 0.0, 0.9)


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf], ["x"], [[1.0]]])
def test_a_series_without_meaning_is_refused_as_both_kinds_of_error(bad):
    with pytest.raises(ValueError, match="pnl") as caught:
        quantile_loss(bad, 1.0, 0.9)
    assert isinstance(caught.value, DataError)
    with pytest.raises(ValueError, match="shape"):
        quantile_loss([1.0, 2.0], [1.0, 2.0, 3.0], 0.9)


# Attribution


def test_attribution_equals_scipy_on_data_with_ties():
    rng = np.random.default_rng(5)
    book = rng.normal(size=250).round(1)
    model = (0.9 * book + 0.4 * rng.normal(size=250)).round(1)
    found = pnl_attribution(book, model)
    assert found.spearman == pytest.approx(stats.spearmanr(book, model).statistic)
    expected = stats.ks_2samp(book, model, method="asymp").statistic
    assert found.kolmogorov_smirnov == pytest.approx(expected)


@pytest.mark.parametrize(
    ("moved", "zone"), [(22, "green"), (23, "amber"), (30, "amber"), (31, "red")]
)
def test_a_distance_of_exactly_the_limit_is_on_its_amber_side(moved, zone):
    # Shifting a ladder of 250 steps by m of them parts the distributions by m / 250.
    book = np.arange(250.0)
    found = pnl_attribution(book, book + moved)
    assert found.kolmogorov_smirnov == moved / 250
    assert found.spearman == 1.0
    assert found.zone == zone


def test_a_model_that_moves_against_the_book_is_red():
    book = np.arange(250.0)
    assert pnl_attribution(book, book[::-1]).zone == "red"
    with pytest.raises(ValueError, match="two series that move"):
        pnl_attribution(book, np.zeros(250))
