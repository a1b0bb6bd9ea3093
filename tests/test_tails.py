"""Margins, copula and tail exponents found again in data drawn from them."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from risk.market.calibration import calibrate
from risk.market.history import load_history, universe
from risk.market.tails import (
    fit_copula_degrees_of_freedom,
    margin_degrees_of_freedom,
    tail_exponents,
)

CORRELATION = np.array([[1.0, 0.6, 0.4], [0.6, 1.0, 0.5], [0.4, 0.5, 1.0]])
MARGINS = np.array([3.5, 5.0, 10.0])


def copula_sample(n: int, copula_df: float, seed: int = 1) -> np.ndarray:
    """Unit-variance margins of `MARGINS` degrees of freedom under a t-copula (day, asset)."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((n, 3)) @ np.linalg.cholesky(CORRELATION).T
    joint = normal * np.sqrt(copula_df / rng.chisquare(copula_df, (n, 1)))
    uniform = stats.t.cdf(joint, copula_df)
    return stats.t.ppf(uniform, MARGINS) * np.sqrt((MARGINS - 2) / MARGINS)


def history_of(returns: np.ndarray) -> xr.Dataset:
    close = 100 * np.exp(np.vstack([np.zeros(3), np.cumsum(returns, axis=0)]))
    days = np.datetime64("2015-01-01", "D") + np.arange(len(close))
    return xr.Dataset(
        {"close": (("day", "asset"), close)},
        coords={"day": days.astype("M8[ns]"), "asset": np.array(["BTC", "ETH", "SOL"], object)},
    )


def test_margins_are_found_again_within_four_standard_errors():
    found, error = margin_degrees_of_freedom(copula_sample(8000, 5.0), pooled=5.0)
    # The pull towards the pooled value is 250 days in 8,250.
    assert (np.abs(found - MARGINS) < 4 * error + 0.35).all()
    assert found[0] < found[1] < found[2]


def test_a_short_history_is_pulled_towards_the_pooled_fit():
    sample = copula_sample(4000, 5.0)
    few, _ = margin_degrees_of_freedom(sample[:100], pooled=4.0)
    none, error = margin_degrees_of_freedom(sample[:10], pooled=4.0)
    np.testing.assert_array_equal(none, 4.0)
    assert np.isnan(error).all()
    assert (np.abs(1 / few - 1 / 4) < 0.08).all()


@pytest.mark.parametrize("truth", [3.0, 8.0])
def test_the_copula_is_found_again_within_four_standard_errors(truth):
    sample = copula_sample(5000, truth, seed=2)
    found, error = fit_copula_degrees_of_freedom(sample, MARGINS, CORRELATION)
    assert abs(found - truth) < 4 * error
    assert error < truth / 8


def test_holes_take_pairs_out_of_the_fit_and_not_the_fit_apart():
    sample = copula_sample(5000, 4.0, seed=3)
    sample[:2500, 2] = np.nan
    found, error = fit_copula_degrees_of_freedom(sample, MARGINS, CORRELATION)
    assert abs(found - 4) < 4 * error
    alone, _ = fit_copula_degrees_of_freedom(sample[:, :1], MARGINS[:1], CORRELATION[:1, :1])
    assert np.isnan(alone)


def test_hills_estimate_finds_a_paretos_exponent():
    rng = np.random.default_rng(4)
    sample = rng.pareto(3.0, (20_000, 1)) + 1
    sample *= rng.choice([-1, 1], sample.shape)
    falls, rises, error = tail_exponents(sample)
    assert abs(falls[0] / 3 - 1) < 4 * error[0]
    assert abs(rises[0] / 3 - 1) < 4 * error[0]
    assert np.isnan(tail_exponents(sample[:50])[0]).all()


@pytest.mark.parametrize("volatility", ["ewma", "garch"])
def test_a_calibration_with_a_copula_holds_margins_and_a_better_fit_of_each(volatility):
    history = history_of(0.03 * copula_sample(2500, 4.0, seed=5))
    plain = calibrate(history, ["BTC", "ETH", "SOL"], volatility=volatility)
    full = calibrate(history, ["BTC", "ETH", "SOL"], volatility=volatility, copula=True)
    assert "copula_df" not in plain
    assert abs(float(full["copula_df"]) - 4) < 4 * float(full["copula_df_se"]) + 0.5
    assert full["margin_df"].values[0] < full["margin_df"].values[2]
    assert full["pit_statistic"].values.max() < plain["pit_statistic"].values.max() + 1e-3
    for name in ("volatility", "correlation", "common_intensity"):
        np.testing.assert_array_equal(plain[name], full[name])


def test_garch_volatilities_stand_at_the_diffusions_level_and_know_their_reversion():
    history = history_of(0.03 * copula_sample(2500, 4.0, seed=6))
    found = calibrate(history, ["BTC", "ETH", "SOL"], volatility="garch")
    np.testing.assert_allclose(found["volatility"], 0.03, rtol=0.2)
    settled = np.sqrt(found["omega"] / (1 - found["persistence"]))
    reverts = found["persistence"].values < 0.999
    np.testing.assert_allclose(settled.values[reverts], 0.03, rtol=0.25)
    flat = calibrate(history, ["BTC", "ETH", "SOL"])
    assert (flat["persistence"] == 1).all()
    assert (flat["omega"] == 0).all()


def test_thirty_assets_over_five_years_of_real_shape_have_plausible_tails(market_data):
    day = date(2025, 6, 29)
    history = load_history(market_data / "ohlcv_daily.parquet", day)
    found = calibrate(history, universe(history, day), copula=True)
    # The power law of daily crypto returns is near three; a t-copula is fatter than Gaussian.
    assert 2.0 < float(found["tail_exponent_falls"].median()) < 4.0
    assert 2.5 < float(found["copula_df"]) < 6.0
    assert (found["pit_statistic"] < 0.06).all()
