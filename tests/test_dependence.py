"""Intervals of dependent and weighted scenarios: they cover, and they agree with resampling."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import xarray as xr
from arch.bootstrap import StationaryBootstrap
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from risk.config import Config
from risk.measures import (
    Independent,
    Overlapping,
    convergence,
    expected_shortfall_interval,
    measure_cube,
    mirrored_pairs,
    replications,
    value_at_risk_interval,
)
from risk.measures.dependence import bootstrap_variance, worth_of
from risk.measures.intervals import expected_shortfall_ends, value_at_risk_ends
from risk.pipeline.designs import sampling_designs

#: Seeds of the coverage tests; the figures of docs/methods/intervals.md are of 1,000.
N_SEEDS = int(os.environ.get("BULKHEAD_COVERAGE_SEEDS", "120"))

LEVELS = (0.95, 0.975)


def overlapping(rng, n, days):
    """P&L over windows of several days that begin every day; a day is Student's t with 5."""
    path = np.concatenate([[0.0], np.cumsum(rng.standard_t(5, n + days - 1))])
    return path[days:] - path[:-days]


def of_true(sample, level):
    """Value at risk and shortfall of a sample that is large enough to be the law."""
    losses = np.sort(-sample)
    rank = math.ceil(losses.size * level) - 1
    return losses[rank], losses[rank:].mean()


def coverage(draw, truth, level, **how):
    """Share of intervals that hold the truth, and how many were given, for both measures."""
    held, given_ = np.zeros(2), np.zeros(2)
    for seed in range(N_SEEDS):
        pnl, weights = draw(np.random.default_rng(seed))
        for at, function in enumerate((value_at_risk_interval, expected_shortfall_interval)):
            found = function(pnl, level, weights=weights, **how)
            if found.low is not None and found.high is not None:
                given_[at] += 1
                held[at] += found.low <= truth[at] <= found.high
    return held / np.maximum(given_, 1), given_


def assert_covers(shares, counts, floor=0.95):
    """Law 10: at least the stated share, less three standard errors."""
    assert (counts > 0.9 * N_SEEDS).all()
    assert (shares >= floor - 3 * np.sqrt(floor * (1 - floor) / counts)).all(), shares


@pytest.mark.parametrize(("n", "days"), [(1000, 5), (2500, 10)])
def test_intervals_of_overlapping_windows_cover(n, days):
    whole = overlapping(np.random.default_rng(1_000_003), 2_000_000, days)
    for level in LEVELS:
        shares, counts = coverage(
            lambda rng: (overlapping(rng, n, days), None),
            of_true(whole, level),
            level,
            design=Overlapping(),
        )
        print(f"{n} windows of {days} days, {level}: {shares}, given {counts}")
        assert_covers(shares, counts)


def test_taking_overlapping_windows_for_independent_ones_does_not_cover():
    """What the block bootstrap is for: the plain interval holds the truth far too rarely."""
    whole = overlapping(np.random.default_rng(1_000_003), 2_000_000, 10)
    shares, _ = coverage(lambda rng: (overlapping(rng, 2500, 10), None), of_true(whole, 0.95), 0.95)
    print(f"as if independent: {shares}")
    assert (shares < 0.75).all()


def test_intervals_of_weighted_scenarios_cover():
    """Age weights: 2,000 scenarios are worth 1 / sum of squares = 399 equal ones."""
    weight = 0.995 ** np.arange(1999, -1, -1)
    weight /= weight.sum()
    law = stats.t(5)
    for level in LEVELS:
        var = law.ppf(level)
        es = law.expect(lambda x: x, lb=var, conditional=True)
        shares, counts = coverage(lambda rng: (rng.standard_t(5, 2000), weight), (var, es), level)
        print(f"age weights, {level}: {shares}, given {counts}")
        assert_covers(shares, counts)


def test_intervals_of_importance_sampling_cover_and_are_shorter():
    """Half of the draws from a wider normal, weighted back, as the tilted jumps are."""

    def draw(rng, n=2000):
        wide = np.where(np.arange(n) % 2, 2.0, 1.0)
        pnl = wide * rng.standard_normal(n)
        raw = stats.norm.pdf(pnl) / (0.5 * stats.norm.pdf(pnl) + 0.25 * stats.norm.pdf(pnl / 2))
        return pnl, raw / raw.sum()

    level = 0.99
    var = stats.norm.ppf(level)
    es = stats.norm.pdf(var) / (1 - level)
    shares, counts = coverage(draw, (var, es), level)
    print(f"importance sampling: {shares}, given {counts}")
    assert_covers(shares, counts)
    pnl, weights = draw(np.random.default_rng(5))
    assert worth_of(-pnl, level, weights, Independent()).effective > 2000


def test_intervals_of_mirrored_pairs_cover():
    """Both sides of a straddle lose together, so that a mirror doubles the loss, not the sample."""
    level = 0.95
    law = stats.chi2(1)
    var = law.ppf(level)
    es = law.expect(lambda x: x, lb=var, conditional=True)
    design = mirrored_pairs(1000, 1000, 256)

    def draw(rng):
        half = rng.standard_normal(design.group.max() + 1)
        return -(half[design.group] ** 2), None

    shares, counts = coverage(draw, (var, es), level, design=design)
    print(f"mirrored pairs: {shares}, given {counts}")
    assert_covers(shares, counts)
    wrong, _ = coverage(draw, (var, es), level)
    assert (wrong < shares).all()


def test_intervals_of_a_quasi_random_set_cover():
    from scipy.stats import qmc

    level = 0.975
    var = stats.norm.ppf(level)
    es = stats.norm.pdf(var) / (1 - level)
    design = replications(16 * 256, 256)

    def draw(rng):
        point = qmc.Sobol(2, scramble=True, rng=rng).random(16 * 256)
        return stats.norm.ppf(point).sum(axis=1) / math.sqrt(2), None

    shares, counts = coverage(draw, (var, es), level, design=design)
    print(f"quasi-random: {shares}, given {counts}")
    assert_covers(shares, counts)


def test_the_variance_is_that_of_arch_resampling():
    """The twin: blocks really drawn, by another library."""
    rng = np.random.default_rng(3)
    series = overlapping(rng, 400, 5)
    series -= series.mean()
    for length in (1.0, 4.0, 25.0):
        resampled = StationaryBootstrap(length, series, seed=np.random.default_rng(8))
        means = resampled.apply(np.mean, 4000)
        mine = bootstrap_variance(series, length)
        # A variance of 4,000 draws has a relative error of sqrt(2 / 4000).
        assert mine == pytest.approx(means.var(), rel=4 * math.sqrt(2 / 4000))


def test_the_variance_is_the_sum_over_all_pairs_of_days():
    """By hand: days i and j of a resampled year are lag k apart with chance (1 - k / n) q^k."""
    series = np.array([1.0, -2.0, 0.5, 3.0, -2.5])
    n, length = series.size, 2.0
    total = sum(
        (1 if lag == 0 else 2 * (1 - lag / n) * (1 - 1 / length) ** lag)
        * sum(series[i] * series[(i + lag) % n] for i in range(n)) / n
        for lag in range(n)
    )  # fmt: skip
    assert bootstrap_variance(series, length) == pytest.approx(total / n)


@given(st.lists(st.integers(-50, 50), min_size=10, max_size=80), st.sampled_from([0.5, 0.9, 0.95]))
def test_independent_scenarios_are_worth_their_number(values, level):
    losses = np.array(values, "f8")
    worth = worth_of(losses, level, None, Independent())
    # Ties share what is left of the tail, and a shared indicator has less variance.
    assert worth.effective >= losses.size * (1 - 1e-9)
    if len(set(values)) == len(values) and (losses.size * (1 - level)) % 1 == 0:
        assert worth.effective == pytest.approx(losses.size)


def test_the_ends_of_independent_scenarios_are_those_of_the_plain_interval():
    pnl = np.random.default_rng(2).standard_normal(1000)
    losses = np.sort(-pnl)
    for level in (0.9, 0.95, 0.975, 0.99):
        value = value_at_risk_interval(pnl, level, design=Independent())
        plain = value_at_risk_ends(losses, level, 0.95)
        assert (value.low, value.high or math.nan) == pytest.approx(plain, nan_ok=True)
        tail = expected_shortfall_interval(pnl, level, design=Independent())
        # The standard error of the plain one divides by n - 1.
        assert (tail.low, tail.high) == pytest.approx(
            expected_shortfall_ends(losses, level, 0.95), rel=1e-3
        )


def test_a_sample_worth_too_little_has_no_interval():
    """A thousand windows of ten days: a hundred that share no day, and 99 % needs 368."""
    pnl = overlapping(np.random.default_rng(0), 1000, 10)
    assert value_at_risk_interval(pnl, 0.99).high is not None
    assert value_at_risk_interval(pnl, 0.99, design=Overlapping()).high is None
    assert expected_shortfall_interval(pnl, 0.99, design=Overlapping()).high is None


def test_too_few_replications_have_no_interval():
    pnl = np.random.default_rng(0).standard_normal(3 * 4096)
    for function in (value_at_risk_interval, expected_shortfall_interval):
        found = function(pnl, 0.95, design=replications(pnl.size, 4096))
        assert (found.low, found.high) == (None, None)


@pytest.mark.parametrize("design", [None, Independent(), Overlapping(), replications(64, 4)])
def test_losses_that_are_all_equal_have_no_width(design):
    for function in (value_at_risk_interval, expected_shortfall_interval):
        found = function(np.full(64, -3.0), 0.9, design=design)
        for end in (found.low, found.high):
            assert end in (None, 3.0)


def test_the_cube_names_the_method_of_every_set():
    rng = np.random.default_rng(1)

    def one(pnl):
        return xr.Dataset(
            {"pnl": (("scenario", "cell"), pnl[:, None])}, coords={"venue": ("cell", ["a"])}
        )

    rolling = overlapping(rng, 1000, 5)
    tree = xr.DataTree.from_dict(
        {"historical": one(rolling), "monte_carlo": one(rng.standard_normal(1000))}
    )
    found = measure_cube(
        tree, confidences=[0.95], levels=["venue"], designs={"historical": Overlapping()}
    )
    total = found["total"].dataset
    interval = value_at_risk_interval(rolling, 0.95, design=Overlapping())
    at = total.sel(scenario_set="historical", confidence=0.95).squeeze()
    assert (at.value_at_risk_low, at.value_at_risk_high) == (interval.low, interval.high)
    text = total.value_at_risk_low.attrs["interval"]
    assert "historical: stationary block bootstrap" in text
    assert "monte carlo: independent scenarios" in text
    assert found["venue"].expected_shortfall_high.attrs["interval"].startswith("asymptotic")


def test_convergence_uses_the_same_intervals():
    pnl = overlapping(np.random.default_rng(4), 2000, 5)
    last = convergence(pnl, 0.95, 0.95, design=Overlapping()).to_pylist()[-1]
    interval = value_at_risk_interval(pnl, 0.95, design=Overlapping())
    assert (last["value_at_risk_low"], last["value_at_risk_high"]) == (interval.low, interval.high)


def make_config(tmp_path, **changes):
    scenarios = {
        "historical": {"windows": 10, "gap": 0.3, "also": ["filtered"]},
        "monte_carlo": {"paths": 600, "steps": 12, "block": 256},
    }
    for name in ("historical", "monte_carlo"):
        scenarios[name] |= changes.pop(name, {})
    where = dict.fromkeys(("snapshot", "history", "venues", "out"), tmp_path)
    return Config.model_validate({"seed": 1, "scenarios": scenarios} | where | changes)


def test_a_night_knows_which_of_its_sets_are_dependent(tmp_path):
    assert sampling_designs(make_config(tmp_path)) == {}
    several = sampling_designs(make_config(tmp_path, horizon_days=10))
    assert several == {"historical": Overlapping(), "historical_filtered": Overlapping()}
    apart = {"step_hours": 240}
    assert sampling_designs(make_config(tmp_path, horizon_days=10, historical=apart)) == {}
    hours = {"interval": "1h", "step_hours": 6, "also": []}
    assert list(sampling_designs(make_config(tmp_path, historical=hours))) == ["historical"]
    for sampling, n_groups in (("antithetic", 128 + 128 + 88), ("sobol", 3)):
        found = sampling_designs(make_config(tmp_path, monte_carlo={"sampling": sampling}))
        assert found["monte_carlo"].group.max() + 1 == n_groups
