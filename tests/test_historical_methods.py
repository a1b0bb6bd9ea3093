"""Weighted, scaled and filtered windows: laws, slow twins, and a GARCH fit that finds its model."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from risk.errors import ConfigError
from risk.market.calibration import calibrate
from risk.market.history import load_history, universe
from risk.market.volatility import ewma_model, garch_model, log_returns, variance_path
from risk.scenarios.historical import historical_drivers

NAMES = ["BTC", "ETH", "SOL"]


def history_of(moves: np.ndarray, names: list[str] = NAMES, wick: float = 0.01) -> xr.Dataset:
    """Bars whose close-to-close log moves are given (day, asset); NaN moves leave holes."""
    close = 100 * np.exp(np.vstack([np.zeros(len(names)), np.nancumsum(moves, axis=0)]))
    close[1:][np.isnan(moves)] = np.nan
    before = np.vstack([close[:1], close[:-1]])
    days = np.datetime64("2020-01-01", "D") + np.arange(len(close))
    return xr.Dataset(
        {
            "low": (("day", "asset"), np.fmin(close, before) * np.exp(-wick)),
            "high": (("day", "asset"), np.fmax(close, before) * np.exp(wick)),
            "close": (("day", "asset"), close),
        },
        coords={"day": days.astype("M8[ns]"), "asset": np.array(names, object)},
    )


def t_moves(seed: int, n: int, volatility: float = 0.04, n_assets: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 1))
    own = rng.standard_normal((n, n_assets))
    return volatility * (0.8 * common + 0.6 * own) * np.sqrt(3 / rng.chisquare(5, (n, 1)))


def garch_moves(seed: int, n: int, omega: float, alpha: float, beta: float, df: float):
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(df, n) * np.sqrt((df - 2) / df)
    moves, variance = np.empty(n), omega / (1 - alpha - beta)
    for day, shock in enumerate(shocks):
        moves[day] = shock * np.sqrt(variance)
        variance = omega + alpha * moves[day] ** 2 + beta * variance
    return moves, variance


BETAS = xr.DataArray(
    [1.0, 1.2, 1.5],
    dims="asset",
    coords={"asset": np.array(NAMES, object)},
    attrs={"market": "BTC"},
)


def replay(history: xr.Dataset, **changes) -> xr.Dataset:
    settings = {"windows": 5000, "horizon_days": 1, "gap": 0.3, "betas": BETAS}
    names = [str(name) for name in history["asset"].values]
    return historical_drivers(history, names, **(settings | changes))


MOVES = t_moves(1, 400)
HISTORY = history_of(MOVES)


def test_age_weights_fall_by_the_decay_and_move_no_price():
    plain, aged = replay(HISTORY), replay(HISTORY, method="age_weighted", age_decay=0.99)
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(plain[name], aged[name])
    weight = aged["weight"].values
    np.testing.assert_allclose(weight[:-1] / weight[1:], 0.99, rtol=1e-12)
    assert weight.sum() == pytest.approx(1, abs=1e-12)
    assert plain.attrs["effective_windows"] == pytest.approx(400)
    assert aged.attrs["effective_windows"] == pytest.approx(199, rel=0.05)


def test_a_day_that_nothing_traded_ages_the_days_before_it_all_the_same():
    moves = MOVES[:60].copy()
    moves[30] = np.nan
    weight = replay(history_of(moves), method="age_weighted", age_decay=0.9)["weight"].values
    # Gone are the hole and the day after it, whose reference is missing.
    assert weight[30] / weight[29] == pytest.approx(0.9**-3, rel=1e-12)


def test_constant_volatility_makes_scaled_and_filtered_windows_the_plain_ones():
    flat = ewma_model(HISTORY, NAMES)
    sigma = xr.full_like(flat["volatility"], 0.04)
    flat = flat.assign(
        volatility=sigma, next_volatility=xr.full_like(flat["next_volatility"], 0.04)
    )
    still = flat.assign(
        omega=xr.full_like(flat["omega"], 0.04**2),
        alpha=xr.zeros_like(flat["alpha"]),
        beta=xr.zeros_like(flat["beta"]),
    )
    plain = replay(HISTORY, horizon_days=3)
    for method in ("volatility_scaled", "filtered"):
        found = replay(HISTORY, horizon_days=3, method=method, volatility=still)
        for name in ("low", "high", "last"):
            np.testing.assert_allclose(found[name], plain[name], rtol=1e-12)


@pytest.mark.parametrize("method", ["volatility_scaled", "filtered"])
def test_rescaled_windows_equal_a_slow_obvious_loop(method):
    model = garch_model(HISTORY, NAMES)
    found = replay(HISTORY, horizon_days=3, method=method, volatility=model, windows=40)
    low, high, close = (HISTORY[name].values for name in ("low", "high", "close"))
    sigma = model["volatility"].values
    for scenario in range(40):
        end = len(close) - 40 + scenario
        for asset, name in enumerate(NAMES):
            own = model.sel(asset=name)
            at, bottom, top = 0.0, 0.0, 0.0
            variance = float(own["next_volatility"]) ** 2
            for day in range(end - 2, end + 1):
                factor = np.sqrt(variance) / sigma[day, asset]
                before = close[day - 1, asset]
                bottom = min(bottom, at + factor * np.log(low[day, asset] / before))
                top = max(top, at + factor * np.log(high[day, asset] / before))
                move = factor * np.log(close[day, asset] / before)
                at += move
                if method == "filtered":
                    variance = float(own["omega"] + own["alpha"] * move**2 + own["beta"] * variance)
            row = found.isel(scenario=scenario, asset=asset)
            expected = np.exp([bottom, top, at])
            got = [float(row[part]) for part in ("low", "high", "last")]
            np.testing.assert_allclose(got, expected, rtol=1e-12)


@given(
    st.integers(0, 10_000), st.integers(1, 4), st.sampled_from(["volatility_scaled", "filtered"])
)
def test_rescaled_windows_are_ordered_and_know_no_order_of_assets(seed, horizon, method):
    history = history_of(t_moves(seed, 60))
    model = ewma_model(history, NAMES)
    forward = replay(history, horizon_days=horizon, method=method, volatility=model)
    assert ((forward["low"] > 0) & (forward["low"] <= 1) & (forward["high"] >= 1)).all()
    assert ((forward["low"] <= forward["last"]) & (forward["last"] <= forward["high"])).all()
    assert forward["weight"].sum() == pytest.approx(1)
    turned = history.isel(asset=[2, 0, 1])
    backward = replay(turned, horizon_days=horizon, method=method, volatility=model)
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(forward[name], backward[name].sel(asset=NAMES))


def test_twice_the_volatility_tomorrow_doubles_every_log_move():
    model = ewma_model(HISTORY, NAMES)
    doubled = model.assign(next_volatility=2 * model["next_volatility"])
    one = replay(HISTORY, method="filtered", volatility=model)
    two = replay(HISTORY, method="filtered", volatility=doubled)
    for name in ("low", "high", "last"):
        np.testing.assert_allclose(np.log(two[name]), 2 * np.log(one[name]), rtol=1e-9)


def test_filtered_windows_stand_at_tomorrows_volatility_where_plain_ones_lag():
    calm, wild = t_moves(3, 500, 0.02), t_moves(4, 40, 0.08)
    history = history_of(np.vstack([calm, wild]))
    model = garch_model(history, NAMES)
    spread = {
        method: float(np.log(replay(history, method=method, **more)["last"]).std())
        for method, more in (("plain", {}), ("filtered", {"volatility": model}))
    }
    assert spread["plain"] < 0.04
    assert 0.05 < spread["filtered"] < 0.12


def test_a_garch_model_is_found_again_in_its_own_returns_within_four_standard_errors():
    truth = {"omega": 1e-4, "alpha": 0.1, "beta": 0.85, "df": 6.0}
    moves, variance = garch_moves(5, 5000, **truth)
    found = garch_model(history_of(moves[:, None], ["BTC"]), ["BTC"]).squeeze("asset")
    assert found["method"].item() == "garch"
    for name, true in (("omega", 1e-4), ("alpha", 0.1), ("beta", 0.85), ("degrees_of_freedom", 6)):
        assert abs(float(found[name]) - true) < 4 * float(found[f"{name}_se"]), name
    assert float(found["next_volatility"]) == pytest.approx(variance**0.5, rel=0.05)


def test_the_fits_own_volatilities_are_those_of_the_recursion():
    from arch.univariate import GARCH, StudentsT, ZeroMean

    moves, _ = garch_moves(6, 800, 1e-4, 0.1, 0.85, 6.0)
    history = history_of(moves[:, None], ["BTC"])
    own = garch_model(history, ["BTC"])["volatility"].values[1:, 0]
    moves = log_returns(history, ["BTC"])[:, 0]  # the same digits, or the optimiser goes astray
    model = ZeroMean(
        100 * moves, volatility=GARCH(1, 0, 1), distribution=StudentsT(), rescale=False
    )
    fitted = model.fit(disp="off").conditional_volatility / 100
    np.testing.assert_allclose(own, fitted, rtol=1e-9)


def test_a_hole_leaves_the_volatility_where_it_is():
    moves = np.array([[0.01], [np.nan], [0.02]])
    path, _ = variance_path(moves, *(np.array([x]) for x in (0.0, 0.06, 0.94)), np.array([1e-4]))
    assert path[2, 0] == path[1, 0] == pytest.approx(1e-4)


def test_a_young_asset_takes_exponential_weights_and_says_so():
    moves = t_moves(8, 400)
    moves[:300, 2] = np.nan
    model = garch_model(history_of(moves), NAMES)
    assert model["method"].values.tolist() == ["garch", "garch", "ewma"]
    assert np.isnan(model["degrees_of_freedom"].values[2])
    assert np.isfinite(model["next_volatility"].values[2])
    assert float(model["omega"][2]) == 0


def test_an_asset_without_a_volatility_is_proxied_in_every_rescaled_window():
    moves = t_moves(9, 200)
    moves[:190, 2] = np.nan  # ten returns are no volatility
    history = history_of(moves)
    model = ewma_model(history, NAMES)
    found = replay(history, method="filtered", volatility=model)
    assert found["proxied_share"].values.tolist() == [0, 0, 1]
    assert found["n_donors"].values.tolist() == [200, 200, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "filtered"}, "the method filtered needs volatilities"),
        ({"method": "age_weighted", "age_decay": 0.0}, "age_decay is 0"),
        ({"method": "age_weighted", "age_decay": 1.5}, "age_decay is 1.5"),
    ],
)
def test_a_method_without_what_it_needs_is_a_config_error(changes, message):
    with pytest.raises(ConfigError, match=message):
        replay(HISTORY, **changes)


def test_volatilities_of_another_history_are_refused():
    model = ewma_model(HISTORY.isel(day=slice(100, None)), NAMES)
    with pytest.raises(ConfigError, match="not on the history's days"):
        replay(HISTORY, method="filtered", volatility=model)


def test_a_decay_out_of_range_is_a_config_error():
    with pytest.raises(ConfigError, match="decay is 1"):
        ewma_model(HISTORY, NAMES, decay=1.0)


def test_on_real_prices_filtered_windows_have_todays_spread_and_standardised_tails(market_data):
    day = date(2022, 11, 7)
    history = load_history(market_data / "ohlcv_daily.parquet", day)
    assets = universe(history, day)
    model = garch_model(history, assets)
    assert (model["method"] == "garch").all()
    betas = calibrate(history, assets)["beta"]
    drivers = historical_drivers(
        history, assets, windows=1000, horizon_days=1, gap=0.3, betas=betas,
        method="filtered", volatility=model,
    )  # fmt: skip
    spread = np.log(drivers["last"].sel(asset="BTC").values).std()
    today = float(model["next_volatility"].sel(asset="BTC"))
    # The standardised returns have unit variance up to the fit's own idea of its tail.
    assert spread == pytest.approx(today, rel=0.15)
    # The day of the crash is still the worst, whatever today's level.
    worst = drivers["label"].values[drivers["low"].sel(asset="BTC").values.argmin()]
    assert worst == "2020-03-12"
