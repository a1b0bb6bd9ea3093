"""Reverse stress: against closed forms where there are any, against brute force where not."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from risk.scenarios.joint import Bounds
from risk.scenarios.profiles import Profiles
from risk.scenarios.reverse import SEARCHES, reverse_stress

ASSETS = ["BTC", "ETH", "SOL"]
SD = np.array([0.03, 0.04, 0.06])
CORRELATION = np.array([[1, 0.8, 0.6], [0.8, 1, 0.7], [0.6, 0.7, 1.0]])
COVARIANCE = CORRELATION * np.outer(SD, SD)


def search(exhaustion, targets=("fund",), **changes) -> xr.Dataset:
    return reverse_stress(exhaustion, targets, ASSETS, COVARIANCE, **({"gap": 0.3} | changes))


def linear(weights: np.ndarray, limit: float):
    """A loss that is linear in log prices: everything about it is known."""
    return lambda drivers: (-np.log(drivers["last"].values) @ weights / limit)[:, None]


WEIGHTS = np.array([3.0, 1.0, 0.5])


def test_the_most_plausible_move_of_a_linear_loss_is_the_closed_form():
    found = search(linear(WEIGHTS, 0.5)).sel(target="fund")
    risk = WEIGHTS @ COVARIANCE @ WEIGHTS
    joint = found.sel(search="joint")
    assert float(joint["distance"]) == pytest.approx(0.5 / np.sqrt(risk), rel=2e-3)
    nearest = -0.5 * COVARIANCE @ WEIGHTS / risk
    np.testing.assert_allclose(np.log1p(joint["move"]), nearest, atol=0.05 * np.abs(nearest).max())


def test_the_smallest_common_and_single_moves_of_a_linear_loss_are_the_closed_form():
    found = search(linear(WEIGHTS, 0.5)).sel(target="fund")
    common = found.sel(search="common_fall")["move"].values
    np.testing.assert_allclose(common, np.expm1(-0.5 / 4.5), rtol=1e-4)
    single = found.sel(search="single_fall")
    assert single["asset_moved"].item() == "BTC"
    np.testing.assert_allclose(single["move"], [np.expm1(-0.5 / 3), 0, 0], rtol=1e-4)
    # A long book is not hurt by a rise.
    assert not found["found"].sel(search="common_rise")
    assert not found["found"].sel(search="single_rise")


def test_a_short_in_one_asset_is_found_by_rises_and_by_the_right_one():
    found = search(linear(np.array([0.5, -2.0, 0.1]), 0.3)).sel(target="fund")
    rise = found.sel(search="single_rise")
    assert rise["asset_moved"].item() == "ETH"
    np.testing.assert_allclose(rise["move"], [0, np.expm1(0.15), 0], rtol=1e-4)


def test_no_move_within_the_bounds_is_an_answer():
    found = search(lambda drivers: np.zeros((drivers.sizes["scenario"], 1)))
    assert not found["found"].any()
    for name in ("move", "exhaustion", "distance", "probability"):
        assert found[name].isnull().all()
    near = search(linear(WEIGHTS, 3.0), bounds=Bounds(fall=-0.3, rise=0.3))
    assert not near["found"].any()
    assert search(linear(WEIGHTS, 3.0))["found"].sel(search="common_fall").all()


def test_the_first_breach_is_found_although_a_deeper_fall_is_harmless():
    def window(drivers: xr.Dataset) -> np.ndarray:
        last = drivers["last"].values[:, :1]
        return ((last <= 0.75) & (last >= 0.70)).astype("f8")

    found = search(window).sel(target="fund", search="single_fall")
    assert float(found["move"].sel(asset="BTC")) == pytest.approx(-0.25, abs=1e-5)


def test_each_target_has_an_answer_of_its_own():
    def two(drivers: xr.Dataset) -> np.ndarray:
        loss = -np.log(drivers["last"].values)
        return np.stack([loss[:, 0] / 0.2, loss[:, 2] / 0.9], axis=1)

    found = search(two, targets=("small", "large"))
    single = found.sel(search="single_fall")
    assert single["asset_moved"].values.tolist() == ["BTC", "SOL"]
    np.testing.assert_allclose(
        np.diag(single["move"].sel(asset=["BTC", "SOL"])), np.expm1([-0.2, -0.9]), rtol=1e-4
    )


def test_every_answer_breaches_and_a_hundredth_less_does_not():
    exhaustion = linear(WEIGHTS, 0.5)
    found = search(exhaustion).sel(target="fund")
    assert (found["exhaustion"].where(found["found"], 1) >= 1).all()
    assert (found["exhaustion"].where(found["found"], 1) < 1.01).all()


def gappy(trigger: np.ndarray, size: np.ndarray, limit: float):
    """Deficits of positions closed at the landing of each asset's gap."""

    def exhaustion(drivers: xr.Dataset) -> np.ndarray:
        low = drivers["low"].values
        before = low + 0.3 * (1 - low)
        hit = (low <= trigger) & (before > trigger)
        return (np.where(hit, trigger - low, 0) @ size / limit)[:, None]

    return exhaustion


def test_against_brute_force_on_a_loss_that_is_neither_linear_nor_monotone():
    exhaustion = gappy(np.array([0.9, 0.85, 0.8]), np.array([1.0, 2.0, 4.0]), 0.15)
    found = search(exhaustion).sel(target="fund", search="joint")
    factor = np.linalg.cholesky(COVARIANCE)
    # A dense sample of the sphere, each ray scanned: no cleverness, only patience.
    rng = np.random.default_rng(1)
    rays = rng.standard_normal((4000, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    radius = np.linspace(0.1, 20, 400)
    logs = (rays @ factor.T)[:, None, :] * radius[:, None]
    low = np.exp(np.minimum(logs, 0)).reshape(-1, 3)
    breach = exhaustion(xr.Dataset({"low": (("scenario", "asset"), low)})) >= 1
    best = radius[breach.reshape(4000, 400).any(axis=0)].min()
    assert float(found["distance"]) <= best * 1.02
    assert float(found["exhaustion"]) >= 1


@settings(max_examples=15)
@given(
    st.lists(st.floats(-2, 2), min_size=3, max_size=3).filter(lambda w: max(map(abs, w)) > 0.2),
    st.floats(0.05, 0.4),
)
def test_the_joint_move_is_at_least_as_plausible_as_the_simple_ones(weights, limit):
    found = search(linear(np.array(weights), limit)).sel(target="fund")
    distance = found["distance"].sel(search=list(SEARCHES))
    simple = distance.drop_sel(search="joint")
    if found["found"].sel(search="joint"):
        assert (simple.isnull() | (simple >= distance.sel(search="joint") * (1 - 1e-9))).all()
    else:
        assert simple.isnull().all()


def test_the_answer_does_not_depend_on_the_run():
    one, two = (search(linear(WEIGHTS, 0.5)) for _ in range(2))
    xr.testing.assert_identical(one, two)


def test_a_probability_is_that_of_a_day_as_far_out():
    found = search(linear(WEIGHTS, 0.5), df=5.0).sel(target="fund", search="joint")
    distance = float(found["distance"])
    rng = np.random.default_rng(2)
    days = rng.standard_normal((400_000, 3)) * np.sqrt(3 / rng.chisquare(5, (400_000, 1)))
    share = (np.linalg.norm(days, axis=1) >= distance).mean()
    error = np.sqrt(share / 400_000)
    assert float(found["probability"]) == pytest.approx(share, abs=4 * error)


def test_the_closed_form_is_what_an_optimiser_finds():
    """The formula of the first test, checked once by other means."""
    fit = optimize.minimize(
        lambda m: m @ np.linalg.solve(COVARIANCE, m),
        x0=-0.1 * np.ones(3),
        constraints={"type": "eq", "fun": lambda m: -WEIGHTS @ m - 0.5},
    )
    assert np.sqrt(fit.fun) == pytest.approx(
        0.5 / np.sqrt(WEIGHTS @ COVARIANCE @ WEIGHTS), rel=1e-6
    )


# -- the table of own moves ----------------------------------------------------------------------


def own_gappy(trigger: np.ndarray, size: np.ndarray, limit: float):
    """As `gappy`, asset by asset."""

    def own(drivers: xr.Dataset) -> np.ndarray:
        low = drivers["low"].values
        before = low + 0.3 * (1 - low)
        hit = (low <= trigger) & (before > trigger)
        return (np.where(hit, trigger - low, 0) * size / limit)[:, :, None]

    return own


@settings(max_examples=15)
@given(
    st.lists(st.floats(0.6, 0.97), min_size=3, max_size=3),
    st.lists(st.floats(0.2, 4), min_size=3, max_size=3),
    st.floats(0.05, 0.4),
)
def test_a_search_on_the_table_finds_what_the_search_without_it_does(trigger, size, limit):
    own = own_gappy(np.array(trigger), np.array(size), limit)
    asked = []

    def exhaustion(drivers: xr.Dataset) -> np.ndarray:
        asked.append(drivers.sizes["scenario"])
        return own(drivers).sum(axis=1)

    slow = search(exhaustion)
    n_slow, asked[:] = sum(asked), []
    quick = search(exhaustion, own=own)
    assert sum(asked) < n_slow / 4
    np.testing.assert_array_equal(quick["found"], slow["found"])
    simple = [name for name in SEARCHES if name != "joint"]
    np.testing.assert_allclose(
        quick["move"].sel(search=simple), slow["move"].sel(search=simple), atol=1e-6
    )
    # Rounding alone may part a sum over assets from itself.
    assert (quick["exhaustion"].where(quick["found"], 1) >= 1 - 1e-12).all()
    joint = {"target": "fund", "search": "joint"}
    if slow["found"].sel(joint):
        distance = float(slow["distance"].sel(joint))
        assert float(quick["distance"].sel(joint)) <= 1.02 * distance


def test_the_table_reads_between_its_steps_and_at_the_bounds():
    own = lambda drivers: np.log(drivers["last"].values)[:, :, None] * WEIGHTS[:, None]  # noqa: E731
    profiles = Profiles(own, ASSETS, fall=-0.9, rise=2.0, gap=0.3)
    moves = np.array([[-0.9, 2.0, 0.0], [0.011, -0.5, 1.3]])
    np.testing.assert_allclose(profiles(moves)[:, 0], np.log1p(moves) @ WEIGHTS, atol=1e-9)
