"""Laws every scenario set keeps, whatever the history, its holes and the order of its assets."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from risk.market.calibration import calibrate
from risk.market.gaps import calibrated_gap
from risk.market.volatility import ewma_model
from risk.scenarios.historical import historical_drivers
from risk.scenarios.stress import Shock, Stress, stress_drivers
from tests.test_calibration import history_of as closes_of
from tests.test_calibration import t_returns
from tests.test_historical_methods import BETAS, NAMES, history_of, t_moves

METHODS = ("plain", "age_weighted", "volatility_scaled", "filtered")
N_DAYS = 60


def drivers_of(history: xr.Dataset, names: list[str], method: str, **changes) -> xr.Dataset:
    settings = {"windows": 500, "horizon_days": 1, "gap": 0.3, "betas": BETAS, "seed": 4}
    if method in ("volatility_scaled", "filtered"):
        settings["volatility"] = ewma_model(history, names)
    return historical_drivers(history, names, method=method, **(settings | changes))


#: Days on which an asset has no price, up to one of the three each day.
holes = st.lists(
    st.tuples(st.integers(5, N_DAYS - 2), st.integers(0, 2)),
    max_size=20,
    unique_by=lambda hole: hole[0],
)


@given(
    st.integers(0, 99), holes, st.sampled_from(METHODS), st.integers(1, 4),
    st.permutations(NAMES),
)  # fmt: skip
def test_any_window_is_ordered_weighed_once_and_knows_no_order_of_assets(
    seed, missing, method, horizon, order
):
    moves = t_moves(seed, N_DAYS)
    for day, asset in missing:
        moves[day, asset] = np.nan
    history = history_of(moves)
    drivers = drivers_of(history, NAMES, method, horizon_days=horizon)
    assert drivers["weight"].values.sum() == pytest.approx(1, abs=1e-12)
    assert (drivers["weight"] > 0).all()
    low, high, last = (drivers[name].values for name in ("low", "high", "last"))
    assert ((low <= last) & (last <= high) & (low <= 1) & (high >= 1) & (low > 0)).all()
    again = drivers_of(history.sel(asset=list(order)), list(order), method, horizon_days=horizon)
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(again[name].sel(asset=NAMES).values, drivers[name].values)


shocks = st.dictionaries(
    st.sampled_from([*NAMES, "ABC"]),
    st.tuples(st.floats(-0.95, 0), st.floats(0, 2), st.floats(0, 1)),
    min_size=1,
)


@given(
    shocks, st.sampled_from(["beta", "worst", "volatility"]), st.permutations(NAMES),
    st.floats(0, 1),
)  # fmt: skip
def test_any_stress_is_ordered_and_knows_no_order_of_assets(moves, others, order, gap):
    one = Stress(
        title="x", kind="hypothetical", source="by hand", narrative="A move.",
        shocks={
            name: Shock(low=low, high=high, last=low + at * (high - low))
            for name, (low, high, at) in moves.items()
        },
        others=others, gap=gap,
    )  # fmt: skip
    volatility = xr.DataArray([0.03, 0.04, 0.06], coords={"asset": BETAS.asset.values})
    drivers = stress_drivers([one], NAMES, BETAS, volatility)
    low, high, last = (drivers[name].values for name in ("low", "high", "last"))
    assert ((low <= last) & (last <= high) & (low > 0)).all()
    again = stress_drivers([one], list(order), BETAS, volatility)
    for name in ("low", "high", "last"):
        np.testing.assert_array_equal(again[name].sel(asset=NAMES).values, drivers[name].values)


@pytest.mark.parametrize("method", METHODS)
def test_more_than_a_year_missing_gives_no_return_across_it(method):
    """Ether comes back after 400 days at ten times its price."""
    moves = t_moves(7, 700)
    moves[200:600, 1] = np.nan
    history = history_of(moves)
    jumped = history.copy(deep=True)
    behind = jumped["day"] > jumped["day"][600]
    for name in ("low", "high", "close"):
        there = jumped["asset"] == "ETH"
        jumped[name] = jumped[name] * xr.where(behind & there, 10.0, 1.0)
    # The bar behind the hole has no reference, so it may hold anything.
    before, after = (drivers_of(bars, NAMES, method, windows=700) for bars in (history, jumped))
    assert float(before["proxied_share"].sel(asset="ETH")) == pytest.approx(401 / 700)
    for name in ("low", "high", "last"):
        np.testing.assert_allclose(after[name].values, before[name].values, rtol=1e-9)


def test_more_than_a_year_missing_is_no_jump_of_the_calibration():
    returns = t_returns(1, 700, 8.0, 0.5, 2) * 0.03
    returns[200:600, 1] = np.nan
    history = closes_of(returns, ["BTC", "ETH"])
    found = calibrate(history, ["BTC", "ETH"])
    history["close"][601:, 1] *= 10
    again = calibrate(history, ["BTC", "ETH"])
    assert again["n_days"].values.tolist() == [700, 299]
    assert again["n_jumps"].equals(found["n_jumps"])
    np.testing.assert_allclose(again["volatility"], found["volatility"], rtol=1e-9)
    np.testing.assert_allclose(again["beta"], found["beta"], rtol=1e-6)


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30))
def test_a_calibrated_gap_covers_every_measured_share_and_no_more_than_a_hundredth_beyond(shares):
    found = calibrated_gap(
        xr.Dataset(
            {
                "share": ("episode", shares),
                "interval": ("episode", ["5m"] * len(shares)),
            }
        )
    )
    assert max(shares) - 1e-9 <= found <= max(shares) + 0.01 + 1e-9
