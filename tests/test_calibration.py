"""Calibration: figures a person can check, and a model recovered from its own paths."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from risk.errors import ConfigError, DataError
from risk.market.calibration import calibrate, ewma_residuals, fit_degrees_of_freedom
from risk.market.dependence import shrunk_correlation
from risk.market.history import load_history, universe
from risk.market.jumps import calibrate_jumps


def history_of(returns: np.ndarray, names: list[str]) -> xr.Dataset:
    """Closes whose log returns are given (day, asset); NaN returns leave holes."""
    close = 100 * np.exp(np.vstack([np.zeros(len(names)), np.nancumsum(returns, axis=0)]))
    close[1:][np.isnan(returns)] = np.nan
    days = np.datetime64("2020-01-01", "D") + np.arange(len(close))
    return xr.Dataset(
        {"close": (("day", "asset"), close)},
        coords={"day": days.astype("M8[ns]"), "asset": np.array(names, object)},
    )


def t_returns(seed: int, n: int, df: float, correlation: float, n_assets: int) -> np.ndarray:
    """Multivariate Student-t of unit variance (day, asset)."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 1))
    own = rng.standard_normal((n, n_assets))
    normal = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    return normal * np.sqrt((df - 2) / rng.chisquare(df, (n, 1)))


NAMES = ["ADA", "BTC", "ETH", "SOL", "XRP"]


def test_ewma_follows_its_recursion_from_the_sample_variance():
    returns = np.array([[0.01], [-0.02], [0.03]])
    start = np.var(returns, ddof=1)
    second = 0.94 * start + 0.06 * 0.01**2
    third = 0.94 * second + 0.06 * 0.02**2
    end = 0.94 * third + 0.06 * 0.03**2
    residuals, volatility = ewma_residuals(returns, 0.94)
    assert volatility[0] == pytest.approx(np.sqrt(end), rel=1e-14)
    by_hand = [0.01 / np.sqrt(start), -0.02 / np.sqrt(second), 0.03 / np.sqrt(third)]
    np.testing.assert_allclose(residuals.ravel(), by_hand, rtol=1e-14)


def test_a_jump_enters_the_volatility_clipped_and_a_hole_not_at_all():
    calm = np.tile([0.01, -0.01], 100)
    returns = np.append(calm, [0.5, np.nan])[:, None]
    _, clipped = ewma_residuals(returns, 0.94, clip=4)
    _, plain = ewma_residuals(returns, 0.94)
    # 200 days later the start no longer matters: 0.94 + 0.06 * 4^2 of the calm variance.
    assert clipped[0] == pytest.approx(0.01 * np.sqrt(0.94 + 0.06 * 16), rel=1e-3)
    assert plain[0] == pytest.approx(0.01 * np.sqrt(0.94 + 0.06 * 50**2), rel=1e-3)


def test_a_model_is_recovered_from_its_own_returns_within_four_standard_errors():
    volatility = np.array([0.05, 0.03, 0.04, 0.06, 0.05])
    returns = t_returns(7, 3000, 6.0, 0.6, 5) * volatility
    found = calibrate(history_of(returns, NAMES), NAMES, correlation_days=3000, beta_days=3000)
    error = float(found["degrees_of_freedom_se"])
    # A standardising volatility that is itself estimated fattens the tail a little: one degree.
    assert abs(float(found["degrees_of_freedom"]) - 6) < 4 * error + 1
    assert (np.abs(found["volatility"] - volatility) < 4 * found["volatility_se"]).all()
    pairs = found["correlation"].values[np.triu_indices(5, 1)]
    assert np.abs(pairs - 0.6).max() < 0.08
    # Cov / var: beta to BTC is 0.6 * own / BTC's volatility.
    true_beta = 0.6 * volatility / volatility[1]
    true_beta[1] = 1
    assert (np.abs(found["beta"] - true_beta) <= 4 * found["beta_se"] + 0.05).all()
    # `found["beta"]` travels alone to the proxy rules and must say what it is a slope to.
    assert found["beta"].attrs["market"] == found.attrs["market"] == "BTC"


def test_without_jumps_none_are_found_beyond_what_the_tail_itself_shows():
    returns = t_returns(11, 4000, 5.0, 0.6, 5) * 0.04
    found = calibrate(history_of(returns, NAMES), NAMES)
    assert float(found["common_intensity"]) < 4 * float(found["common_intensity_se"])
    assert (found["own_intensity"] < 4 * found["own_intensity_se"]).all()
    assert float(found["own_intensity"].mean()) < 0.002


def test_planted_jumps_are_found_with_their_rate_and_size():
    rng = np.random.default_rng(3)
    returns = t_returns(5, 4000, 12.0, 0.5, 5) * 0.03
    crash = rng.random(4000) < 0.008
    returns[crash] += rng.normal(-0.35, 0.05, crash.sum())[:, None]
    own = rng.random((4000, 5)) < 0.006
    returns += own * rng.normal(0.4, 0.05, (4000, 5))
    found = calibrate(history_of(returns, NAMES), NAMES)
    assert abs(float(found["common_intensity"]) - crash.mean()) < 0.003
    assert float(found["common_mean"]) == pytest.approx(-0.35, abs=0.05)
    assert (np.abs(found["common_loading"] - 1) < 0.15).all()
    assert float(found["own_intensity"].mean()) == pytest.approx(0.006, abs=0.0015)
    assert float(found["own_mean"].mean()) == pytest.approx(0.4, abs=0.05)


def test_degrees_of_freedom_match_scipys_own_fit():
    values = stats.t.rvs(5, size=(4000, 1), random_state=2) * np.sqrt(3 / 5)
    df, error = fit_degrees_of_freedom(values)
    free, _, _ = stats.t.fit(values, floc=0)
    assert abs(df - free) < 1.0  # scipy fits the scale too
    assert abs(df - 5) < 4 * error


def test_a_young_asset_takes_the_medians_and_is_flagged():
    returns = t_returns(1, 500, 6.0, 0.6, 5) * 0.04
    returns[:470, 3] = np.nan
    found = calibrate(history_of(returns, NAMES), [*NAMES, "NEW"])
    assert found["asset"].values[found["proxied"].values].tolist() == ["NEW", "SOL"]
    others = found["volatility"].sel(asset=["ADA", "BTC", "ETH", "XRP"])
    assert float(found["volatility"].sel(asset="SOL")) == float(others.median())
    assert np.linalg.eigvalsh(found["correlation"].values)[0] > 1e-3
    np.testing.assert_array_equal(np.diag(found["correlation"]), 1)
    assert 0.4 < float(found["correlation"].sel(asset="NEW", asset_2="ETH")) < 0.9


def test_a_universe_without_a_common_factor_is_calibrated():
    """Neither bitcoin nor ether: slopes refer to the mean of all, and there is no factor table."""
    returns = t_returns(3, 300, 6.0, 0.6, 3) * 0.04
    found = calibrate(history_of(returns, ["ADA", "SOL", "XRP"]), ["ADA", "NEW", "SOL", "XRP"])
    assert found.attrs["market"] == "equal_weight"
    assert dict(found["factor_beta"].sizes) == {"asset": 4, "factor": 0}
    assert np.isfinite(found["volatility"]).all()


def test_a_return_across_a_hole_is_not_a_return():
    returns = t_returns(1, 300, 8.0, 0.5, 2) * 0.03
    holed = returns.copy()
    holed[100:140, 1] = np.nan
    names = ["BTC", "ETH"]
    history = history_of(holed, names)
    found = calibrate(history, names)
    # 40 days gone, and the day behind the hole.
    assert found["n_days"].values.tolist() == [300, 259]
    # Were the return across the hole used, a price halved behind it would be a jump.
    history["close"][141:, 1] *= 0.5
    again = calibrate(history, names)
    assert again["n_jumps"].equals(found["n_jumps"])
    # Halved prices round differently, and a maximum is found to half the digits at most.
    xr.testing.assert_allclose(again, found, rtol=1e-6)


def test_identical_series_still_give_a_positive_definite_matrix():
    values = np.random.default_rng(0).standard_normal((400, 1)) @ np.ones((1, 6))
    correlation, intensity = shrunk_correlation(values, 60)
    np.linalg.cholesky(correlation)
    assert intensity >= 0.01
    np.testing.assert_allclose(np.diag(correlation), 1)


def test_shrinkage_grows_as_the_sample_shrinks():
    values = np.random.default_rng(4).standard_normal((2000, 8))
    values[:, :4] += values[:, [0]]
    _, long = shrunk_correlation(values, 60)
    _, short = shrunk_correlation(values[:80], 60)
    assert 0.01 <= long < short <= 1


def test_the_order_of_assets_changes_nothing():
    returns = t_returns(9, 400, 6.0, 0.5, 5) * 0.04
    first = calibrate(history_of(returns, NAMES), NAMES)
    order = [3, 1, 4, 0, 2]
    second = calibrate(
        history_of(returns[:, order], [NAMES[k] for k in order]), [NAMES[k] for k in order[::-1]]
    )
    xr.testing.assert_equal(first, second)


def test_too_short_a_history_a_frozen_price_and_a_bad_setting_are_refused():
    returns = t_returns(1, 100, 6.0, 0.5, 2) * 0.03
    names = ["BTC", "ETH"]
    with pytest.raises(ConfigError, match="no asset has 60 daily returns"):
        calibrate(history_of(returns[:40], names), names)
    with pytest.raises(ConfigError, match="decay is 1"):
        calibrate(history_of(returns, names), names, decay=1.0)
    returns[:, 1] = 0
    with pytest.raises(DataError, match="the price of ETH never moves"):
        calibrate(history_of(returns, names), names)


def test_real_prices_give_a_plausible_model_that_fits(market_data):
    day = date(2025, 6, 29)
    history = load_history(market_data / "ohlcv_daily.parquet", day)
    found = calibrate(history, universe(history, day))
    assert 3.5 < float(found["degrees_of_freedom"]) < 7
    # 1.63 / sqrt(n) would be the 1 % point of independent days; the pooled days are not.
    assert float(found["pit_statistic_pooled"]) < 0.02
    assert float(found["n_common_jumps"]) >= 10
    assert float(found["common_mean"]) < 0
    assert float(found["volatility"].sel(asset="BTC")) < float(found["volatility"].sel(asset="UNI"))
    assert np.linalg.eigvalsh(found["correlation"].values)[0] > 0.01


def test_a_single_own_jump_has_no_spread_and_stays_a_number():
    rng = np.random.default_rng(0)
    for size in np.linspace(0.3, 0.9, 40):
        returns = rng.normal(0, 0.01, (300, 3))
        returns[100, 1] = -size
        big = np.zeros(returns.shape, bool)
        big[100, 1] = True
        jumps = calibrate_jumps(returns, big, np.zeros(300, bool), (0.0, 0.0))
        assert np.isfinite(jumps["own_sd"]).all()
        assert (jumps["own_sd"] >= 0).all()
