"""Grids of moves: exact per entry, with the cells behind each number."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from risk.errors import ConfigError
from risk.scenarios.grids import asset_ladders, heat_table, move_drivers
from risk.scenarios.monte_carlo import draw_block

ASSETS = ["BTC", "ETH"]
VOLATILITY = xr.DataArray([0.04, 0.06], dims="asset", coords={"asset": np.array(ASSETS, object)})


def toy(drivers: xr.Dataset) -> xr.Dataset:
    """Three cells: long BTC, long ETH (liquidated at 0.8), short ETH."""
    last, low = drivers["last"].values - 1, drivers["low"].values
    hit = low[:, 1] <= 0.8
    pnl = np.stack([100 * last[:, 0], np.where(hit, -20, 100 * last[:, 1]), -50 * last[:, 1]], 1)
    deficit = np.stack(
        [0 * last[:, 0], np.where(hit, 100 * (0.8 - low[:, 1]), 0), 0 * last[:, 0]], 1
    )
    count = np.stack([0 * hit, hit, 0 * hit], 1)
    dims = ("scenario", "cell")
    return xr.Dataset(
        {
            "pnl": (dims, pnl, {"units": "USD"}),
            "deficit": (dims, deficit, {"units": "USD"}),
            "liquidations": (dims, count, {"units": "1"}),
            "liquidated_notional": (dims, 100.0 * count, {"units": "USD"}),
        }
    )


def test_a_straight_move_reaches_its_end_without_turning():
    drivers = move_drivers(ASSETS, np.array([[-0.3, 0.2]]), gap=0.5, label=["x"])
    np.testing.assert_allclose(drivers["low"].values, [[0.7, 1.0]])
    np.testing.assert_allclose(drivers["high"].values, [[1.0, 1.2]])
    np.testing.assert_allclose(drivers["gap_before"].values, [0.85, 1.1])


def test_each_entry_is_the_price_of_its_own_scenario():
    moves, multiples = [-0.3, -0.1, 0.0, 0.2], [0.0, 1.0, 3.0]
    table = heat_table(toy, ASSETS, moves, multiples, VOLATILITY, gap=0.3)
    assert table["pnl"].dims == ("move", "volatility")
    for move in moves:
        straight = move_drivers(ASSETS, np.array([[move, move]]), gap=0.3, label=["x"])
        alone = toy(straight).sum("cell")
        at = table.sel(move=move, volatility=0.0)
        for name in ("pnl", "deficit", "liquidations", "liquidated_notional"):
            assert float(at[name]) == pytest.approx(float(alone[name][0]), abs=1e-12)
    assert table["pnl"].attrs["units"] == "USD"


def test_more_volatility_strays_further_and_ends_at_the_same_price():
    table = heat_table(toy, ASSETS, [-0.1], [0.0, 1.0, 5.0], VOLATILITY, gap=0.3)
    assert table["liquidations"].values.tolist() == [[0, 0, 1]]


def test_the_wandering_low_is_the_median_of_simulated_paths_with_that_end():
    """Against Monte Carlo paths of one normal day that end near the asked price."""
    names = np.array(["BTC"], object)
    day = xr.Dataset(
        {
            "volatility": ("asset", [0.05]),
            "correlation": (("asset", "asset_2"), [[1.0]]),
            "degrees_of_freedom": ((), 5.0),
        },
        coords={"asset": names, "asset_2": names},
    )
    paths = draw_block(
        day, seed=1, set_code=2, block=0, n=60_000, steps=24, horizon_days=1, model="normal",
        jumps=False,
    )  # fmt: skip
    last, low = paths["last"].values[:, 0], paths["low"].values[:, 0]
    near = np.abs(last - 0.97) < 0.002
    grid = move_drivers(["BTC"], np.array([[-0.03]]), gap=0.0, label=["x"],
                        wander=np.array([[0.05]]))  # fmt: skip
    # The median of 1,900 lows of spread 0.02: standard error 0.0006.
    assert near.sum() > 1500
    assert float(grid["low"][0, 0]) == pytest.approx(np.median(low[near]), abs=0.0025)


def test_a_ladder_moves_one_asset_and_leaves_the_others():
    moves = [-0.5, -0.25, -0.1, 0.1]
    table = asset_ladders(toy, ASSETS, moves, gap=0.3)
    assert table["pnl"].dims == ("asset", "move")
    np.testing.assert_allclose(table["pnl"].sel(asset="BTC"), [-50, -25, -10, 10], atol=1e-12)
    np.testing.assert_allclose(table["liquidations"].sel(asset="BTC"), 0)
    np.testing.assert_allclose(table["liquidations"].sel(asset="ETH"), [1, 1, 0, 0])
    np.testing.assert_allclose(table["deficit"].sel(asset="ETH"), [30, 5, 0, 0], atol=1e-9)


def test_the_leaders_are_the_cells_behind_the_number_worst_first():
    table = asset_ladders(toy, ASSETS, [-0.5, 0.2], gap=0.3, leaders=2)
    fall = table.sel(asset="ETH", move=-0.5)
    # The short gains, so only the long stands behind the loss.
    assert fall["pnl_leader"].values.tolist() == [1, -1]
    assert fall["pnl_led"].values.tolist() == [-20, 0]
    rise = table.sel(asset="ETH", move=0.2)
    assert rise["pnl_leader"].values.tolist() == [2, -1]
    assert rise["deficit_leader"].values.tolist() == [-1, -1]


@given(st.lists(st.floats(-0.9, 2), min_size=1, max_size=5), st.floats(0, 1), st.floats(0, 0.5))
def test_grid_drivers_are_ordered_and_every_gap_ends_at_its_extreme(moves, gap, wander):
    grid = np.array([[move, -move / 3] for move in moves])
    drivers = move_drivers(
        ASSETS, grid, gap=gap, label=["x"] * len(grid), wander=np.full(grid.shape, wander)
    )
    np.testing.assert_allclose(drivers["last"] - 1, grid, atol=1e-12)
    ends = np.concatenate([drivers["low"].values.ravel(), drivers["high"].values.ravel()])
    assert np.isin(drivers["gap_landing"].values, ends).all()


@pytest.mark.parametrize("move", [-1.0, -2.0, np.nan])
def test_a_price_below_zero_is_a_config_error(move):
    with pytest.raises(ConfigError, match="above -1"):
        move_drivers(ASSETS, np.array([[move, 0.0]]), gap=0.3, label=["x"])
