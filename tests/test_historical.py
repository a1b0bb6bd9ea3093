"""Historical windows: figures a person can check, holes, proxies, the gap rule."""

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
from risk.scenarios.historical import historical_drivers


def history_of(bars: dict[str, list[tuple[float, float, float] | None]]) -> xr.Dataset:
    """(low, high, close) per day and asset; None is a hole."""
    none = (np.nan,) * 3
    data = np.array([[bar or none for bar in column] for column in bars.values()], "f8")
    days = np.datetime64("2024-01-01", "D") + np.arange(data.shape[1])
    names = ("low", "high", "close")
    return xr.Dataset(
        {name: (("day", "asset"), data[:, :, k].T) for k, name in enumerate(names)},
        coords={"day": days.astype("M8[ns]"), "asset": np.array(list(bars), object)},
    )


def betas_of(market: str = "BTC", **values: float) -> xr.DataArray:
    return xr.DataArray(
        list(values.values()),
        dims="asset",
        coords={"asset": np.array(list(values), object)},
        attrs={"market": market},
    )


BARS = {
    "BTC": [(90.0, 110.0, 100.0), (80.0, 105.0, 90.0), (90.0, 99.0, 99.0), (95.0, 120.0, 110.0)],
    "ETH": [(9.0, 11.0, 10.0), (7.0, 10.5, 8.0), (8.0, 10.0, 10.0), (9.5, 12.0, 11.0)],
}
BETAS = betas_of(BTC=1.0, ETH=1.5)


def replay(history: xr.Dataset, assets=("BTC", "ETH"), betas=BETAS, **changes) -> xr.Dataset:
    settings = {"windows": 100, "horizon_days": 1, "gap": 0.3}
    return historical_drivers(history, list(assets), betas=betas, **(settings | changes))


def test_one_day_windows_are_the_days_bars_over_the_close_before():
    drivers = replay(history_of(BARS))
    assert drivers["label"].values.tolist() == ["2024-01-02", "2024-01-03", "2024-01-04"]
    assert drivers["source"].values[0] == "history 2024-01-02..2024-01-02"
    btc = drivers.sel(asset="BTC")
    np.testing.assert_allclose(btc["low"], [0.8, 1.0, 95 / 99], rtol=1e-15)
    np.testing.assert_allclose(btc["high"], [1.05, 1.1, 120 / 99], rtol=1e-15)
    np.testing.assert_allclose(btc["last"], [0.9, 1.1, 110 / 99], rtol=1e-15)
    assert drivers["proxied"].values.tolist() == [False, False]
    assert (drivers.attrs["n_windows"], drivers.attrs["windows_asked"]) == (3, 100)


def test_longer_windows_overlap_and_keep_the_extremes_of_all_their_days():
    drivers = replay(history_of(BARS), horizon_days=2).sel(asset="BTC")
    assert drivers["label"].values.tolist() == ["2024-01-03", "2024-01-04"]
    assert drivers["source"].values[0] == "history 2024-01-02..2024-01-03"
    np.testing.assert_allclose(drivers["low"], [0.8, 1.0], rtol=1e-15)
    np.testing.assert_allclose(drivers["high"], [1.05, 120 / 90], rtol=1e-15)
    np.testing.assert_allclose(drivers["last"], [0.99, 110 / 90], rtol=1e-15)


def test_only_the_last_windows_are_taken():
    assert replay(history_of(BARS), windows=1)["label"].values.tolist() == ["2024-01-04"]


def test_the_gap_rule_lands_its_share_of_each_excursion_at_the_extreme():
    drivers = replay(history_of(BARS), ["BTC"], windows=3, gap=0.3)
    rows = list(
        zip(
            drivers["gap_scenario"].values,
            drivers["gap_direction"].values,
            drivers["gap_before"].values.round(12),
            drivers["gap_landing"].values,
            strict=True,
        )
    )
    # The second day's low is its start: no fall, so no gap.
    assert [row[:2] for row in rows] == [(0, -1), (0, 1), (1, 1), (2, -1), (2, 1)]
    assert rows[0][2:] == (0.86, 0.8)
    assert rows[1][2:] == (1.035, 1.05)


@pytest.mark.parametrize(("gap", "n_gaps"), [(0.0, 0), (1.0, 5)])
def test_a_gap_of_zero_has_no_jumps_and_a_gap_of_one_starts_at_the_mark(gap, n_gaps):
    drivers = replay(history_of(BARS), ["BTC"], gap=gap)
    assert drivers.sizes["gap"] == n_gaps
    assert (drivers["gap_before"] == 1).all()


def test_a_window_that_touches_a_hole_is_proxied_by_beta_times_the_market():
    bars = BARS | {"ETH": [BARS["ETH"][0], None, BARS["ETH"][2], BARS["ETH"][3]]}
    drivers = replay(history_of(bars)).sel(asset="ETH")
    # Both the hole's own day and the day after it, whose reference is missing.
    np.testing.assert_allclose(drivers["low"][:2], [1 - 1.5 * 0.2, 1.0], rtol=1e-12)
    np.testing.assert_allclose(drivers["high"][:2], [1 + 1.5 * 0.05, 1.15], rtol=1e-12)
    np.testing.assert_allclose(drivers["last"][:2], [1 - 1.5 * 0.1, 1.15], rtol=1e-12)
    assert float(drivers["low"][2]) == 0.95
    assert bool(drivers["proxied"])
    assert float(drivers["proxied_share"]) == pytest.approx(2 / 3)


def test_an_asset_without_any_data_is_proxied_everywhere_and_never_falls_below_zero():
    drivers = replay(history_of(BARS), ["BTC", "NEW"], betas_of(BTC=1.0, NEW=9.0))
    new = drivers.sel(asset="NEW")
    assert float(new["proxied_share"]) == 1
    assert float(new["low"][0]) == 0.01
    assert (drivers["low"] > 0).all()


def test_without_the_market_asset_the_mean_of_the_others_stands_in():
    betas = betas_of("equal_weight", BTC=1.0, ETH=1.0, NEW=1.0)
    drivers = replay(history_of(BARS), ["BTC", "ETH", "NEW"], betas)
    mean = drivers["low"].sel(asset=["BTC", "ETH"]).mean("asset")
    np.testing.assert_allclose(drivers["low"].sel(asset="NEW"), mean, rtol=1e-15)


def test_a_day_on_which_nothing_has_a_price_is_dropped_and_counted():
    bars = {name: [column[0], None, *column[2:]] for name, column in BARS.items()}
    drivers = replay(history_of(bars))
    assert drivers["label"].values.tolist() == ["2024-01-04"]
    assert drivers.attrs["n_windows_dropped"] == 2


@given(st.data())
def test_windows_equal_a_slow_obvious_loop(data):
    price = st.floats(0.5, 2.0)
    n_days, horizon = data.draw(st.integers(3, 8)), data.draw(st.integers(1, 2))
    column = st.lists(st.none() | st.tuples(price, price, price), min_size=n_days, max_size=n_days)
    first = [tuple(sorted(data.draw(st.tuples(price, price, price)))) for _ in range(n_days)]
    other = [bar and tuple(sorted(bar)) for bar in data.draw(column)]
    order = {"BTC": first, "ETH": other}
    bars = {name: [b and (b[0], b[2], b[1]) for b in column] for name, column in order.items()}
    drivers = replay(history_of(bars), horizon_days=horizon, gap=0.5)
    for k, end in enumerate(range(horizon, n_days)):
        days = range(end - horizon + 1, end + 1)
        base = first[end - horizon][1]
        low = min(1.0, *(first[d][0] / base for d in days))
        high = max(1.0, *(first[d][2] / base for d in days))
        last = first[end][1] / base
        if any(other[d] is None for d in [end - horizon, *days]):
            expected = [max(1 + 1.5 * (part - 1), 0.01) for part in (low, high, last)]
        else:
            base = other[end - horizon][1]
            expected = [
                min(1.0, *(other[d][0] / base for d in days)),
                max(1.0, *(other[d][2] / base for d in days)),
                other[end][1] / base,
            ]
        at = drivers.isel(scenario=k)
        for name, one, two in zip(
            ("low", "high", "last"), (low, high, last), expected, strict=True
        ):
            np.testing.assert_allclose(at[name].values, [one, two], rtol=1e-12)


def test_the_order_of_assets_changes_no_assets_move():
    history = history_of(BARS)
    forward, backward = replay(history), replay(history, ["ETH", "BTC"])
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(forward[name], backward[name].sel(asset=["BTC", "ETH"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon_days": 4}, "needs 5 days of history, there are 4"),
        ({"windows": 0}, "must be at least 1"),
        ({"horizon_days": 0}, "must be at least 1"),
        ({"gap": 1.5}, "it is a share"),
        ({"gap": float("nan")}, "it is a share"),
    ],
)
def test_a_setting_that_cannot_be_served_is_a_config_error(changes, message):
    with pytest.raises(ConfigError, match=message):
        replay(history_of(BARS), **changes)


def test_real_windows_hold_the_crashes_the_closes_hide(market_data):
    day = date(2022, 11, 7)
    history = load_history(market_data / "ohlcv_daily.parquet", day)
    assets = universe(history, day)
    betas = calibrate(history, assets)["beta"]
    drivers = historical_drivers(
        history, assets, windows=1000, horizon_days=1, gap=0.3, betas=betas
    )
    assert drivers.attrs["n_windows"] == 1000
    flush = drivers.isel(scenario=list(drivers["label"].values).index("2021-12-04"))
    # ETH closed 2.3 % down, BTC 8.3 %; their lows were 16.9 % and 21.6 % under the day before.
    eth, btc = flush.sel(asset="ETH"), flush.sel(asset="BTC")
    assert [round(float(part) - 1, 3) for part in (eth["last"], eth["low"])] == [-0.023, -0.169]
    assert [round(float(part) - 1, 3) for part in (btc["last"], btc["low"])] == [-0.083, -0.216]
    # Younger than the thousand days: proxied before they were listed, and only then.
    young = [str(name) for name in drivers["asset"].values[drivers["proxied"].values]]
    assert young == ["AVAX", "DOT", "FIL", "SOL", "UNI"]
    n_before = int((drivers["label"] <= "2020-08-11").sum())
    assert float(drivers["proxied_share"].sel(asset="SOL")) == pytest.approx(n_before / 1000)
    # Proxied by its beta to bitcoin, not to the mean of all.
    march = drivers.isel(scenario=list(drivers["label"].values).index("2020-03-12"))
    bitcoin, solana = (float(march["low"].sel(asset=name)) for name in ("BTC", "SOL"))
    assert solana == pytest.approx(1 + float(betas.sel(asset="SOL")) * (bitcoin - 1), rel=1e-12)
