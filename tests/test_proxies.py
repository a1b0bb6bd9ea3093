"""The proxy rule: beta to the factors plus a resampled residual, flagged and counted."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr

from risk.findings.quality import proxied
from risk.market.betas import factor_betas
from risk.market.calibration import calibrate
from risk.market.history import load_history, universe
from risk.scenarios.historical import historical_drivers
from risk.scenarios.moves import PROXY_FLOOR
from risk.scenarios.proxies import MIN_DONORS, proxy_summary

NAMES = ["BTC", "ETH", "SOL"]


def young_history(n: int = 400, listed: int = 250, seed: int = 1) -> xr.Dataset:
    """SOL is listed late; its last move is 0.5 BTC + 0.8 ETH + its own, in relative terms."""
    rng = np.random.default_rng(seed)
    btc, ether = 0.03 * rng.standard_normal((2, n))
    own = 0.02 * rng.standard_normal(n)
    moves = np.stack([btc, ether, 0.5 * btc + 0.8 * ether + own], axis=1)
    close = 100 * np.cumprod(np.vstack([np.ones(3), 1 + moves]), axis=0)
    before = np.vstack([close[:1], close[:-1]])
    bars = {
        "low": np.minimum(close, before) * 0.99,
        "high": np.maximum(close, before) * 1.01,
        "close": close,
    }
    for bar in bars.values():
        bar[:listed, 2] = np.nan
    days = np.datetime64("2020-01-01", "D") + np.arange(n + 1)
    return xr.Dataset(
        {name: (("day", "asset"), bar) for name, bar in bars.items()},
        coords={"day": days.astype("M8[ns]"), "asset": np.array(NAMES, object)},
    )


def betas_of(names=NAMES) -> xr.DataArray:
    return xr.DataArray(
        np.ones(len(names)),
        dims="asset",
        coords={"asset": np.array(names, object)},
        attrs={"market": "BTC"},
    )


FACTOR_BETAS = xr.DataArray(
    [[1.0, 0.0], [0.0, 1.0], [0.5, 0.8]],
    dims=("asset", "factor"),
    coords={"asset": np.array(NAMES, object), "factor": np.array(["BTC", "ETH"], object)},
)


def replay(history: xr.Dataset, names=NAMES, **changes) -> xr.Dataset:
    settings = {
        "windows": 5000,
        "horizon_days": 1,
        "gap": 0.3,
        "betas": betas_of(names),
        "factor_betas": FACTOR_BETAS,
        "seed": 5,
    }
    return historical_drivers(history, list(names), **(settings | changes))


HISTORY = young_history()
BEFORE = slice(0, 250)  # windows before SOL was listed


def test_without_a_seed_a_proxy_is_the_sum_of_beta_times_move():
    found = replay(HISTORY, seed=None).isel(scenario=BEFORE)
    by_hand = 1 + 0.5 * (found["last"][:, 0] - 1) + 0.8 * (found["last"][:, 1] - 1)
    np.testing.assert_allclose(found["last"][:, 2], by_hand, rtol=1e-12)
    low = 1 + 0.5 * (found["low"][:, 0] - 1) + 0.8 * (found["low"][:, 1] - 1)
    np.testing.assert_allclose(found["low"][:, 2], low, rtol=1e-12)


def test_a_negative_slope_swaps_low_and_high():
    short = FACTOR_BETAS.copy(data=[[1, 0], [0, 1], [0.0, -0.5]])
    found = replay(HISTORY, seed=None, factor_betas=short).isel(scenario=BEFORE)
    np.testing.assert_allclose(found["low"][:, 2] - 1, -0.5 * (found["high"][:, 1] - 1), rtol=1e-9)


def test_the_residual_of_a_proxied_day_is_one_the_asset_showed_on_another_day():
    found = replay(HISTORY)
    last = found["last"].values
    systematic = 1 + 0.5 * (last[:, 0] - 1) + 0.8 * (last[:, 1] - 1)
    residual = last[:, 2] - systematic
    shown, drawn = residual[250:], residual[BEFORE]
    nearest = np.abs(drawn[:, None] - shown).min(axis=1)
    np.testing.assert_allclose(nearest, 0, atol=1e-12)
    # Many of them, not one; and of the spread it has: without them its own risk would be gone.
    assert len(np.unique(np.abs(drawn[:, None] - shown).argmin(axis=1))) > 60
    assert drawn.std() == pytest.approx(0.02, rel=0.25)


def test_a_draw_knows_neither_the_other_windows_nor_the_other_assets():
    whole = replay(HISTORY)
    fewer = replay(HISTORY, windows=300)
    np.testing.assert_array_equal(fewer["low"], whole["low"][-300:])
    turned = replay(HISTORY, ["SOL", "ETH", "BTC"])
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(turned[name].sel(asset=NAMES), whole[name])


def test_another_seed_or_set_draws_other_residuals_and_moves_no_known_price():
    one, two, three = replay(HISTORY), replay(HISTORY, seed=6), replay(HISTORY, set_code=9)
    for other in (two, three):
        assert (one["last"][BEFORE, 2] != other["last"][BEFORE, 2]).mean() > 0.9
        np.testing.assert_array_equal(one["last"][250:], other["last"][250:])
        np.testing.assert_array_equal(one["last"][:, :2], other["last"][:, :2])


def test_an_asset_without_enough_days_of_its_own_draws_those_of_the_others():
    history = young_history(listed=401 - MIN_DONORS)  # one donor short: the first day has no move
    found = replay(history)
    assert found["n_donors"].values.tolist() == [400, 400, 0]
    residual = found["last"] @ xr.DataArray([-0.5, -0.8, 1.0], dims="asset")
    assert residual[:-MIN_DONORS].values.std() < 0.02
    mine = replay(young_history(listed=400 - MIN_DONORS))
    assert mine["n_donors"].values.tolist() == [400, 400, MIN_DONORS]


def test_a_proxied_path_keeps_its_order_and_stays_above_the_floor():
    wild = FACTOR_BETAS.copy(data=[[1, 0], [0, 1], [12.0, -9.0]])
    found = replay(HISTORY, factor_betas=wild)
    sol = found.sel(asset="SOL")
    assert (sol["low"] >= PROXY_FLOOR).all()
    assert (sol["low"] <= np.minimum(sol["last"], 1)).all()
    assert (sol["high"] >= np.maximum(sol["last"], 1)).all()


def test_where_a_factor_has_no_price_the_one_beta_to_the_market_stands_in():
    history = young_history()
    for name in ("low", "high", "close"):
        history[name].values[100, 1] = np.nan  # ether: the hole takes two windows
    found = replay(history, seed=None)
    np.testing.assert_allclose(found["last"][99:101, 2], found["last"][99:101, 0], rtol=1e-12)


def test_factor_betas_are_found_again_and_the_factors_are_their_own():
    moves = np.diff(np.log(HISTORY["close"].values), axis=0)
    factors, betas = factor_betas(moves, NAMES)
    assert factors == ["BTC", "ETH"]
    np.testing.assert_array_equal(betas[:2], np.eye(2))
    np.testing.assert_allclose(betas[2], [0.5, 0.8], atol=0.15)


def test_without_factors_there_are_no_factor_betas():
    factors, betas = factor_betas(np.zeros((50, 1)), ["SOL"])
    assert factors == []
    assert betas.shape == (1, 0)


def test_the_summary_names_each_proxied_asset_with_its_share_of_the_notional():
    table = proxy_summary(replay(HISTORY), {"BTC": 600.0, "ETH": 300.0, "SOL": 100.0})
    assert table.to_pylist() == [
        {
            "asset": "SOL",
            "windows_share": pytest.approx(250 / 400),
            "n_donors": 150,
            "notional_usd": 100.0,
            "notional_share": pytest.approx(0.1),
        }
    ]


def test_the_report_names_each_proxied_asset_with_its_share_of_the_notional():
    book = pa.table(
        {
            "status": ["ok", "ok", "ok", "unpriced"],
            "asset": ["BTC", "SOL", "UNI", "UNI"],
            "notional_usd": [890.0, 105.0, 5.0, 9000.0],
        }
    )
    market = {"proxied": ["NEW", "SOL", "UNI"], "proxied_share": {"SOL": 0.3, "UNI": 1.0}}
    checks = proxied(book, market)
    assert [(check.name.split(",")[0], check.value, check.state) for check in checks] == [
        ("SOL", 10.5, "warn"),
        ("UNI", 0.5, "pass"),
        ("NEW", 0.0, "pass"),
    ]
    assert {check.unit for check in checks} == {"%"}


def test_on_real_prices_a_proxied_solana_is_as_wild_as_the_real_one(market_data):
    day = date(2022, 11, 7)
    history = load_history(market_data / "ohlcv_daily.parquet", day)
    assets = universe(history, day)
    calibration = calibrate(history, assets)
    settings = {
        "windows": 1000,
        "horizon_days": 1,
        "gap": 0.3,
        "betas": calibration["beta"],
        "factor_betas": calibration["factor_beta"],
    }
    bare = historical_drivers(history, assets, **settings)
    full = historical_drivers(history, assets, seed=1, **settings)
    gone = (bare["label"] <= "2020-08-11").values
    # Solana beyond bitcoin, day by day: a proxy without residual never leaves it.
    own = {
        name: np.ptp(np.quantile(own_move(drivers)[gone], [0.1, 0.9]))
        for name, drivers in (("bare", bare), ("full", full))
    }
    real = np.ptp(np.quantile(own_move(full)[~gone], [0.1, 0.9]))
    assert own["bare"] < 0.5 * real
    assert own["full"] == pytest.approx(real, rel=0.2)


def own_move(drivers: xr.Dataset) -> np.ndarray:
    last = np.log(drivers["last"])
    return (last.sel(asset="SOL") - last.sel(asset="BTC")).values
