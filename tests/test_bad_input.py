"""No public function of measures, backtest and capital gives a plausible number for bad input.

Two tables: functions of a sample, fed every kind of broken sample, and functions of plain numbers,
fed every number that is none. A function added to a package without a row here fails a test.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import xarray as xr

from risk import backtest, capital, measures
from risk.errors import DataError

NAN, INF = math.nan, math.inf
GOOD = np.random.default_rng(0).standard_normal(300)
ERRORS = (ValueError, DataError)


def two(pnl):
    return np.stack([np.asarray(pnl, "f8")] * 2, axis=-1)


def cube_of(pnl, confidence, **coords):
    table = xr.Dataset(
        {"pnl": (("scenario", "cell"), np.asarray(pnl, "f8").reshape(-1, 1))},
        coords={"venue": ("cell", ["a"])} | coords,
    )
    tree = xr.DataTree.from_dict({"historical": table})
    return measures.measure_cube(tree, confidences=[confidence], levels=["venue"])


def paired(pnl, level, weights=None):
    """Of the sample and of a good book of its length."""
    from risk.measures.paired import paired_mean, paired_shortfall

    paired_mean(pnl, np.zeros(np.shape(pnl)), weights)
    return paired_shortfall(pnl, np.zeros(np.shape(pnl)), level, weights)


#: Function of (sample, level): the name it has in the package, and how to call it.
OF_SAMPLE = {
    "value_at_risk": measures.value_at_risk,
    "expected_shortfall": measures.expected_shortfall,
    "value_at_risk_interval": measures.value_at_risk_interval,
    "expected_shortfall_interval": measures.expected_shortfall_interval,
    "value_at_risk_standard_error": measures.value_at_risk_standard_error,
    "value_at_risk_standard_error, normal": lambda x, level: measures.value_at_risk_standard_error(
        x, level, "normal"
    ),
    "expected_shortfall_standard_error": measures.expected_shortfall_standard_error,
    "harrell_davis": measures.harrell_davis,
    "expected_shortfall_contributions": lambda x, level: measures.expected_shortfall_contributions(
        two(x), level
    ),
    "value_at_risk_contributions": lambda x, level: measures.value_at_risk_contributions(
        two(x), level
    ),
    "value_at_risk_contribution_errors": lambda x, level: (
        measures.value_at_risk_contribution_errors(two(x), level)
    ),
    "incremental": lambda x, level: measures.incremental(two(x), level),
    "compare_estimators": lambda x, level: measures.compare_estimators(x, level, level),
    "convergence": lambda x, level: measures.convergence(x, level, level),
    "measure_cube": cube_of,
    "paired": paired,
    "acerbi_szekely": lambda x, level: backtest.acerbi_szekely(x, 1.0, 1.5, level),
    "dynamic_quantile": lambda x, level: backtest.dynamic_quantile(x, 1.0, level, 2),
    "du_escanciano": lambda x, level: backtest.du_escanciano(x, level, 2),
    "quantile_loss": lambda x, level: backtest.quantile_loss(x, 1.0, level),
    "fissler_ziegel_loss": lambda x, level: backtest.fissler_ziegel_loss(x, 1.0, 1.5, level),
    "christoffersen": backtest.christoffersen,
}

#: The same, of functions that take no level.
WITHOUT_LEVEL = {
    "fit_tail": lambda x: measures.fit_tail(x, 0.0),
    "volatility_scaled": lambda x: measures.volatility_scaled(x, 0.94),
    "pnl_attribution": lambda x: backtest.pnl_attribution(x, x),
}

BROKEN = {
    "empty": [],
    "not a number": [*GOOD, NAN],
    "infinite": [*GOOD, INF],
    "minus infinite": [*GOOD, -INF],
    "text": ["a", "b"],
}


def sample_calls():
    for name, function in OF_SAMPLE.items():
        for kind, sample in BROKEN.items():
            yield pytest.param(function, (sample, 0.975), id=f"{name}-{kind}")
        for level in (0.0, 1.0, -0.1, 99, NAN):
            sample = (GOOD > 0.5).astype(float) if name in ("christoffersen",) else GOOD
            sample = np.full(300, 0.5) if name == "du_escanciano" else sample
            yield pytest.param(function, (sample, level), id=f"{name}-level {level}")
    for name, function in WITHOUT_LEVEL.items():
        for kind, sample in BROKEN.items():
            yield pytest.param(function, (sample,), id=f"{name}-{kind}")


@pytest.mark.parametrize(("function", "arguments"), list(sample_calls()))
def test_a_broken_sample_or_level_is_one_clear_sentence(function, arguments):
    with pytest.raises(ERRORS) as raised:
        function(*arguments)
    assert len(str(raised.value).split()) >= 4


WEIGHTED = {
    "value_at_risk": lambda x, w: measures.value_at_risk(x, 0.95, weights=w),
    "expected_shortfall": lambda x, w: measures.expected_shortfall(x, 0.95, weights=w),
    "expected_shortfall_contributions": lambda x, w: measures.expected_shortfall_contributions(
        two(x), 0.95, weights=w
    ),
    "value_at_risk_contributions": lambda x, w: measures.value_at_risk_contributions(
        two(x), 0.95, weights=w
    ),
    "incremental": lambda x, w: measures.incremental(two(x), 0.95, weights=w),
    "compare_estimators": lambda x, w: measures.compare_estimators(x, 0.95, 0.95, weights=w),
    "paired": lambda x, w: paired(x, 0.95, w),
    "measure_cube": lambda x, w: cube_of(x, 0.95, weight=("scenario", np.resize(w, len(x)))),
}
BAD_WEIGHTS = {
    "do not add up": np.full(300, 0.9 / 300),
    "negative": np.r_[-1 / 300, np.full(299, (1 + 1 / 300) / 299)],
    "not a number": np.r_[NAN, np.full(299, 1 / 299)],
    "too few": np.full(299, 1 / 299),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_that_are_no_probabilities_are_refused(name, kind):
    if name == "measure_cube" and kind == "too few":
        pytest.skip("a labelled weight has the length of its dimension")
    with pytest.raises(ERRORS, match="weights"):
        WEIGHTED[name](GOOD, BAD_WEIGHTS[kind])


#: One scenario: an error, or nothing but the loss itself and no word on its precision.
@pytest.mark.parametrize("name", [*OF_SAMPLE, *WITHOUT_LEVEL])
def test_one_scenario_has_no_precision(name):
    sample = [-3.0]
    try:
        if name in WITHOUT_LEVEL:
            WITHOUT_LEVEL[name](sample)
            pytest.fail("a fit to one value is no fit")
        found = OF_SAMPLE[name](sample, 0.975)
    except ERRORS:
        return
    if isinstance(found, measures.Interval):
        assert found.high is None
    elif name == "measure_cube":
        total = found["total"].dataset
        assert total.value_at_risk.item() == 3.0
        for key in ("value_at_risk_high", "expected_shortfall_low", "expected_shortfall_high"):
            assert np.isnan(total[key].item())
    elif name == "value_at_risk_contribution_errors":
        assert np.isnan(found).all()
    elif name == "compare_estimators":
        rows = found.to_pylist()
        assert {row["standard_error"] for row in rows} == {None}
    elif name == "convergence":
        (row,) = found.to_pylist()
        assert row["value_at_risk_high"] is row["expected_shortfall_high"] is None
    elif name == "paired":
        assert found.standard_error == 0.0
    elif name == "acerbi_szekely":
        assert found.z1 is None or np.isfinite(found.z1)
    else:
        assert name in {
            "value_at_risk", "expected_shortfall", "expected_shortfall_contributions",
            "value_at_risk_contributions", "incremental", "quantile_loss", "fissler_ziegel_loss",
        }  # fmt: skip
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", OF_SAMPLE)
def test_an_all_equal_sample_has_its_value_and_no_spread(name):
    sample = np.zeros(300) if name == "christoffersen" else np.full(300, -2.5)
    if name in ("du_escanciano", "dynamic_quantile", "acerbi_szekely", "christoffersen"):
        # Days that are all alike: a statistic or a sentence, but no exception of another kind.
        try:
            OF_SAMPLE[name](sample, 0.975)
        except ERRORS:
            return
        return
    found = OF_SAMPLE[name](sample, 0.975)
    if name.endswith(("standard_error", "normal", "errors")):
        np.testing.assert_allclose(found, 0.0, atol=1e-12)
    elif isinstance(found, measures.Interval):
        assert found.low == found.high == 2.5
    elif name in ("value_at_risk", "expected_shortfall"):
        assert found == 2.5
    elif name == "harrell_davis":
        assert (found.value, found.standard_error) == pytest.approx((-2.5, 0.0))
    elif name == "measure_cube":
        assert found["total"].expected_shortfall.item() == 2.5


@pytest.mark.parametrize("n", [1, 2, 30, 100, 367])
def test_a_sample_too_small_for_an_end_says_none(n):
    pnl = GOOD[np.arange(n) % 300] + np.arange(n) * 1e-9
    assert measures.value_at_risk_interval(pnl, 0.99).high is None
    assert n >= 500 or measures.expected_shortfall_interval(pnl, 0.99).high is None
    total = cube_of(pnl, 0.99)["total"].dataset
    assert np.isnan(total.value_at_risk_high.item())
    assert np.isnan(total.expected_shortfall_low.item())


#: Function of one number that is to be refused; and the ones of NaN, +-inf, -1 that are not.
OF_NUMBER = {
    "mirrored_pairs": (lambda v: measures.mirrored_pairs(v, 4, 4), ()),
    "mirrored_pairs, block": (lambda v: measures.mirrored_pairs(8, v, 4), ()),
    "mirrored_pairs, tile": (lambda v: measures.mirrored_pairs(8, 4, v), ()),
    "replications": (lambda v: measures.replications(v, 4), ()),
    "replications, block": (lambda v: measures.replications(8, v), ()),
    "backtest_multiplier": (capital.backtest_multiplier, ()),
    "backtest_multiplier, part": (lambda v: capital.backtest_multiplier(v + 0.5), ()),
    "plus_factor": (capital.plus_factor, ()),
    "cover": (lambda v: capital.cover([v, 1.0], 1), ()),
    "cover, n": (lambda v: capital.cover([1.0], v), ()),
    "crypto_group_2a": (lambda v: capital.crypto_group_2a([v], [1.0]), (-1.0,)),
    "crypto_group_2a, correlation": (
        lambda v: capital.crypto_group_2a([1.0], [1.0], v),
        (-1.0,),
    ),
    "crypto_group_2b": (lambda v: capital.crypto_group_2b([v], [1.0]), (-1.0,)),
    "exposure_at_default": (lambda v: capital.exposure_at_default([v], [1.0]), (-1.0,)),
    "exposure_at_default, add-on": (lambda v: capital.exposure_at_default([1.0], [v]), ()),
    "exposure_at_default, alpha": (
        lambda v: capital.exposure_at_default([1.0], [1.0], alpha=v),
        (),
    ),
    "exposure_at_default, floor": (
        lambda v: capital.exposure_at_default([1.0], [1.0], floor=v),
        (),
    ),
    "group_2_limit": (lambda v: capital.group_2_limit(v, 1.0), ()),
    "group_2_limit, tier 1": (lambda v: capital.group_2_limit(1.0, v), ()),
    "group_2a_capital": (lambda v: capital.group_2a_capital([[v]]), (-1.0,)),
    "group_2a_capital, correlation": (lambda v: capital.group_2a_capital([[1.0]], v), (-1.0,)),
    "has_real_prices": (lambda v: capital.has_real_prices(np.full(365, v)), ()),
    "internal_model_capital": (
        lambda v: capital.internal_model_capital(v, 1.0, 1.0, 1.0, 1.5),
        (),
    ),
    "internal_model_capital, ses": (
        lambda v: capital.internal_model_capital(1.0, 1.0, 1.0, v, 1.5),
        (),
    ),
    "internal_model_capital, multiplier": (
        lambda v: capital.internal_model_capital(1.0, 1.0, 1.0, 1.0, v),
        (),
    ),
    "liquidity_horizon_expected_shortfall": (
        lambda v: capital.liquidity_horizon_expected_shortfall({10: v}),
        (),
    ),
    "margined_add_on": (lambda v: capital.margined_add_on([v], 0.32, 10), (-1.0,)),
    "margined_add_on, factor": (lambda v: capital.margined_add_on([1.0], v, 10), ()),
    "margined_add_on, days": (lambda v: capital.margined_add_on([1.0], 0.32, v), ()),
    "margined_add_on, year": (lambda v: capital.margined_add_on([1.0], 0.32, 10, v), ()),
    "model_capital": (lambda v: capital.model_capital(v, [1.0]), ()),
    "model_capital, class": (lambda v: capital.model_capital(1.0, [v]), ()),
    "model_capital, correlation": (lambda v: capital.model_capital(1.0, [1.0], v), ()),
    "non_modellable_add_on": (lambda v: capital.non_modellable_add_on([v]), ()),
    "non_modellable_add_on, correlation": (lambda v: capital.non_modellable_add_on([1.0], v), ()),
    "stressed_expected_shortfall": (
        lambda v: capital.stressed_expected_shortfall(v, 1.0, 1.0),
        (),
    ),
    "stressed_expected_shortfall, full": (
        lambda v: capital.stressed_expected_shortfall(1.0, v, 1.0),
        (),
    ),
    "stressed_expected_shortfall, reduced": (
        lambda v: capital.stressed_expected_shortfall(1.0, 1.0, v),
        (),
    ),
    "value_at_risk_capital": (
        lambda v: capital.value_at_risk_capital(v, 1.0, 3.0, 1.0, 1.0, 3.0),
        (),
    ),
    "value_at_risk_capital, multiplier": (
        lambda v: capital.value_at_risk_capital(1.0, 1.0, v, 1.0, 1.0, 3.0),
        (),
    ),
    "kupiec": (lambda v: backtest.kupiec(v, 250, 0.99), ()),
    "kupiec, n": (lambda v: backtest.kupiec(1, v, 0.99), ()),
    "kupiec, level": (lambda v: backtest.kupiec(1, 250, v), ()),
    "binomial": (lambda v: backtest.binomial(v, 250, 0.99), ()),
    "binomial, level": (lambda v: backtest.binomial(1, 250, v), ()),
    "traffic_light": (lambda v: backtest.traffic_light(v, 250, 0.99), ()),
    "traffic_light, level": (lambda v: backtest.traffic_light(1, 250, v), ()),
    "time_until_first_failure": (lambda v: backtest.time_until_first_failure(v, 0.99), ()),
    "time_until_first_failure, level": (lambda v: backtest.time_until_first_failure(9, v), ()),
    # A missing day is an exceedance; an infinite one is a mistake.
    "exceedances": (lambda v: backtest.exceedances([v, -2.0], [1.0, 1.0]), (NAN, -1.0)),
    "exceedances, forecast": (lambda v: backtest.exceedances([1.0, -2.0], [v, 1.0]), (NAN, -1.0)),
    "quantile_loss": (lambda v: backtest.quantile_loss([1.0, 2.0], [v, 1.0], 0.99), (-1.0,)),
    "pnl_attribution": (
        lambda v: backtest.pnl_attribution([1.0, 2.0, v], [1.0, 2.0, 3.0]),
        (-1.0,),
    ),
    "age_weights": (lambda v: measures.age_weights(v, 0.9), ()),
    "age_weights, decay": (lambda v: measures.age_weights(3, v), ()),
    "volatility_scaled, decay": (lambda v: measures.volatility_scaled(GOOD, v), ()),
    "normal_value_at_risk": (lambda v: measures.normal_value_at_risk(v, 1.0, 0.99), (-1.0,)),
    "normal_value_at_risk, sd": (lambda v: measures.normal_value_at_risk(0.0, v, 0.99), ()),
    "normal_value_at_risk, level": (lambda v: measures.normal_value_at_risk(0.0, 1.0, v), ()),
    "normal_expected_shortfall": (lambda v: measures.normal_expected_shortfall(0.0, v, 0.99), ()),
    "normal_expected_shortfall, level": (
        lambda v: measures.normal_expected_shortfall(0.0, 1.0, v),
        (),
    ),
    "student_t_value_at_risk": (
        lambda v: measures.student_t_value_at_risk(0.0, 1.0, v, 0.99),
        (),
    ),
    "student_t_expected_shortfall": (
        lambda v: measures.student_t_expected_shortfall(0.0, 1.0, v, 0.99),
        (),
    ),
    "cornish_fisher_value_at_risk": (
        lambda v: measures.cornish_fisher_value_at_risk(0.0, 1.0, v, 0.0, 0.99),
        (-1.0,),
    ),
    "cornish_fisher_value_at_risk, level": (
        lambda v: measures.cornish_fisher_value_at_risk(0.0, 1.0, 0.0, 0.0, v),
        (),
    ),
    "fit_tail, threshold": (lambda v: measures.fit_tail(GOOD, v), (-1.0,)),
    "Tail, shape": (lambda v: measures.Tail(v, 1.0, 0.0, 0.1, 0.0), (-1.0,)),
    "Tail, scale": (lambda v: measures.Tail(0.1, v, 0.0, 0.1, 0.0), ()),
    "Tail, fraction": (lambda v: measures.Tail(0.1, 1.0, 0.0, v, 0.0), ()),
    "Tail, level": (lambda v: measures.Tail(0.1, 1.0, 0.0, 0.1, 0.0).value_at_risk(v), ()),
    "Tail, loss": (
        lambda v: measures.Tail(0.1, 1.0, 0.0, 0.1, 0.0).exceedance_probability(v),
        (INF,),
    ),
}


def number_calls():
    for name, (function, allowed) in OF_NUMBER.items():
        for value in (NAN, INF, -INF, -1.0):
            if not any(value is one or value == one for one in allowed):
                yield pytest.param(function, value, id=f"{name}-{value}")


@pytest.mark.parametrize(("function", "value"), list(number_calls()))
def test_a_number_that_is_none_is_one_clear_sentence(function, value):
    with pytest.raises(ERRORS) as raised:
        function(value)
    assert len(str(raised.value).split()) >= 4


def test_every_public_function_has_a_row():
    rows = {name.split(",")[0] for name in (*OF_SAMPLE, *WITHOUT_LEVEL, *OF_NUMBER)}
    # Files and tables: their own tests break them.
    elsewhere = {"adequacy", "load_capital", "not_available", "table_of"}
    for package in (measures, backtest, capital):
        for name in package.__all__:
            thing = getattr(package, name)
            if callable(thing) and not inspect.isclass(thing):
                assert name in rows | elsewhere, name
