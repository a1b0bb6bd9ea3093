"""What stresses do beside moving prices: each effect against a figure a person can check."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from risk.drivers import FALL, RISE
from risk.errors import ConfigError
from risk.instruments import Instrument
from risk.scenarios.effects import pay_funding, stress_gaps, widen
from risk.scenarios.moves import Ratios, gap_rule
from risk.scenarios.stress import Shock, Stress, stress_drivers

ASSETS = ["BTC", "ETH", "SOL"]


def of_assets(values: list[float], **attrs) -> xr.DataArray:
    names = np.array(ASSETS, object)
    return xr.DataArray(values, dims="asset", coords={"asset": names}, attrs=attrs)


BETAS = of_assets([1.0, 1.2, 2.0], market="BTC")
VOLATILITY = of_assets([0.03, 0.045, 0.06])


def stress(low=-0.4, high=0.0, last=-0.4, **changes) -> Stress:
    content = {
        "title": "x",
        "kind": "hypothetical",
        "source": "by hand",
        "narrative": "A move.",
        "shocks": {"BTC": Shock(low=low, high=high, last=last)},
        "others": "worst",
        "gap": 0.3,
    }
    return Stress(**(content | changes))


SWAP = Instrument("BTC / perpetual USDT", "BTC", "USDT", False, 0.0001, 0.0, None)
OTHER = Instrument("BTC / perpetual USDC", "BTC", "USDC", False, 0.0001, 0.0, None)
COIN = Instrument("BTC / perpetual BTC", "BTC", "BTC", True, 0.0001, 0.0, None)
DATED = Instrument("BTC / 250926 USDT", "BTC", "USDT", False, None, 0.015, 89.0)


def drivers_of(
    *stresses: Stress,
    volatility: xr.DataArray | None = VOLATILITY,
    instruments: tuple[Instrument, ...] = (),
) -> xr.Dataset:
    return stress_drivers(stresses, ASSETS, BETAS, volatility, instruments)


def gaps_of(drivers: xr.Dataset, asset: int = 0, scenario: int = 0) -> list[tuple[float, float]]:
    mine = (drivers["gap_asset"] == asset) & (drivers["gap_scenario"] == scenario)
    columns = (
        drivers[name].values[mine].round(9).tolist() for name in ("gap_before", "gap_landing")
    )
    return list(zip(*columns, strict=True))


# -- outages and breakers ------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "share"), [(6, 0.5), (24, 1.0), (96, 1.0), (1, 0.3), (1.5, 0.3)])
def test_an_outage_lands_what_a_random_walk_covers_in_its_hours(hours, share):
    """The root of the share of the day; never less than the stress's own gap."""
    drivers = drivers_of(stress(outage={"hours": hours}))
    assert gaps_of(drivers) == [(pytest.approx(0.6 + share * 0.4), 0.6)]


def test_a_longer_stress_leaves_less_to_the_same_outage():
    drivers = drivers_of(stress(outage={"hours": 24}, start=date(2024, 1, 1), end=date(2024, 1, 4)))
    assert gaps_of(drivers) == [(pytest.approx(0.8), 0.6)]


def test_a_breaker_closes_who_stands_between_pause_and_resumption_at_the_resumption():
    drivers = drivers_of(stress(breaker={"pause": 0.1, "resume": 0.25}))
    # Then three tenths of what is left, 0.75 to 0.6.
    assert gaps_of(drivers) == [(0.9, 0.75), (0.645, 0.6)]


def test_a_fall_that_ends_inside_the_pause_lands_at_its_end():
    drivers = drivers_of(stress(low=-0.2, last=-0.2, breaker={"pause": 0.1, "resume": 0.25}))
    assert gaps_of(drivers) == [(0.9, 0.8)]


def test_a_move_that_never_reaches_the_pause_follows_the_gap_rule():
    drivers = drivers_of(
        stress(low=-0.08, high=0.05, last=0.0, breaker={"pause": 0.1, "resume": 0.25})
    )
    assert gaps_of(drivers) == [(0.944, 0.92), (1.035, 1.05)]


def test_a_breaker_stops_rises_as_it_stops_falls():
    drivers = drivers_of(
        stress(low=0.0, high=0.6, last=0.6, breaker={"pause": 0.1, "resume": 0.25})
    )
    assert gaps_of(drivers) == [(1.1, 1.25), (1.495, 1.6)]
    assert (drivers["gap_direction"] == RISE).all()


ratio = st.floats(0.05, 1.0)
rise = st.floats(1.0, 4.0)


@given(ratio, rise, st.floats(0, 1), st.floats(0.01, 0.9), st.floats(0.01, 2))
def test_the_gaps_of_a_breaker_follow_each_other_outwards_without_overlap(
    low, high, gap, pause, extra
):
    one = np.array([[1.0]])
    found = stress_gaps(Ratios(low * one, high * one, one), gap, breaker=(pause, pause + extra))
    for direction, extreme in ((FALL, low), (RISE, high)):
        mine = found["gap_direction"] == direction
        before = direction * found["gap_before"][mine]
        landing = direction * found["gap_landing"][mine]
        assert (before < landing).all()
        assert (landing[:-1] <= before[1:] + 1e-12).all()
        if len(landing) and gap > 1e-6:
            assert landing[-1] == pytest.approx(direction * extreme)


@given(ratio, rise, st.floats(0, 1))
def test_without_effects_the_gaps_are_those_of_the_rule(low, high, gap):
    moves = Ratios(*(np.array([[x]]) for x in (low, high, 1.0)))
    plain, found = gap_rule(moves, gap), stress_gaps(moves, gap)
    for name in plain:
        np.testing.assert_array_equal(plain[name], found[name])


def test_every_stress_keeps_its_own_effects_in_a_set():
    drivers = drivers_of(
        stress(title="a"),
        stress(title="b", outage={"hours": 24}),
        stress(title="c", breaker={"pause": 0.1, "resume": 0.25}),
    )
    assert gaps_of(drivers, scenario=0) == [(0.72, 0.6)]
    assert gaps_of(drivers, scenario=1) == [(1.0, 0.6)]
    assert gaps_of(drivers, scenario=2) == [(0.9, 0.75), (0.645, 0.6)]


# -- funding, volatility, correlation ------------------------------------------------------------


def test_a_week_of_funding_costs_longs_21_payments_and_pays_shorts():
    week = stress(low=0.0, last=0.0, funding={"rate": 0.003, "hours": 168}, gap=0.05)
    drivers = drivers_of(week, instruments=(SWAP, COIN, DATED))
    paid = drivers.sel(asset=[SWAP.name])
    np.testing.assert_allclose(paid["last"], 1 - 21 * 0.003)
    np.testing.assert_allclose(paid["low"], 1 - 21 * 0.003)
    np.testing.assert_allclose(paid["high"], 1.0)
    # In coin the same share of the face: 1 / y = 1 + 21 x 0.003.
    np.testing.assert_allclose(drivers["last"].sel(asset=COIN.name), 1 / (1 + 21 * 0.003))
    for name in [*ASSETS, DATED.name]:
        np.testing.assert_array_equal(drivers["last"].sel(asset=name), 1.0)


def test_funding_received_by_longs_is_a_rise():
    one = np.array([[1.0]])
    low, high, last = pay_funding(Ratios(one, one, one), -0.001, 24)
    assert (low.item(), high.item(), last.item()) == (
        1.0,
        pytest.approx(1.003),
        pytest.approx(1.003),
    )


def test_funding_is_paid_on_the_value_of_the_day():
    move = Ratios(np.array([[0.5]]), np.array([[1.0]]), np.array([[0.6]]))
    paid = 0.01 * 3 * 0.8
    low, high, last = pay_funding(move, 0.01, 24)
    assert (low.item(), high.item(), last.item()) == (
        pytest.approx(0.5 - paid), 1.0, pytest.approx(0.6 - paid),
    )  # fmt: skip


def test_twice_the_volatility_strays_as_far_as_the_median_walk_and_returns():
    drivers = drivers_of(stress(low=0.0, last=0.0, others="none", volatility=2.0))
    # A bridge back to its start: the median low lies sqrt(2 ln 2) / 2 deviations down.
    reach = np.sqrt(2 * np.log(2)) / 2 * 2.0 * VOLATILITY.values
    np.testing.assert_allclose(drivers["low"].values[0], np.exp(-reach))
    np.testing.assert_allclose(drivers["high"].values[0], np.exp(reach))
    np.testing.assert_allclose(drivers["last"].values[0], 1.0)


@given(ratio, rise, st.floats(0.1, 3), st.floats(0, 0.3))
def test_a_wider_way_never_narrows_and_never_moves_the_end(low, high, last, wander):
    last = min(max(last, low), high)
    moves = Ratios(*(np.array([[x]]) for x in (low, high, last)))
    wide = widen(moves, np.array([wander]))
    assert wide.low <= moves.low
    assert wide.high >= moves.high
    assert wide.last == moves.last


def test_under_correlation_one_assets_move_by_the_ratio_of_their_volatilities():
    drivers = drivers_of(stress(low=-0.3, last=-0.3, others="volatility"))
    np.testing.assert_allclose(drivers["last"].values[0], [0.7, 0.55, 0.4])


def test_peg_and_depth_go_with_their_scenario():
    still = {"low": 0.0, "last": 0.0, "gap": 0.5}
    drivers = drivers_of(
        stress(title="a", peg={"USDC": 0.87}, **still),
        stress(title="b", depth=0.2, **still),
        stress(title="c", peg=0.9, **still),
        instruments=(SWAP, OTHER, COIN),
    )
    assert drivers["settle"].values.tolist() == ["USDC", "USDT"]
    assert drivers["peg"].values.tolist() == [[0.87, 1.0], [1.0, 1.0], [0.9, 0.9]]
    assert drivers["depth"].values.tolist() == [1.0, 0.2, 1.0]
    # Prices in the coin rise by what it lost; prices in dollars and in coin do not.
    expected = {SWAP.name: [1, 1, 1 / 0.9], OTHER.name: [1 / 0.87, 1, 1 / 0.9], COIN.name: [1] * 3}
    for name, last in expected.items():
        np.testing.assert_allclose(drivers["last"].sel(asset=name), last)
    np.testing.assert_array_equal(drivers["last"].sel(asset="BTC"), 1.0)


def test_without_a_peg_the_record_says_nothing_of_it():
    assert "peg" not in drivers_of(stress(depth=0.2), instruments=(SWAP,))


@pytest.mark.parametrize("changes", [{"volatility": 2.0}, {"others": "volatility"}])
def test_a_stress_that_needs_volatilities_is_refused_without(changes):
    with pytest.raises(ConfigError, match="needs volatilities"):
        drivers_of(stress(**changes), volatility=None)


def test_the_volatility_of_a_past_stress_moves_options_and_no_price():
    past = {"kind": "historical", "start": date(2024, 1, 1), "end": date(2024, 1, 1),
            "price_kind": "last"}  # fmt: skip
    calm, wild = drivers_of(stress(**past)), drivers_of(stress(**past, volatility=2.0))
    for name in ("low", "high", "last"):
        assert (calm[name].values == wild[name].values).all()
    assert (calm.volatility.values == 1).all()
    assert (wild.volatility.values == 2).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"breaker": {"pause": 0.2, "resume": 0.1}}, "resume must be a larger move"),
        ({"breaker": {"pause": 0.1, "resume": 0.2}, "outage": {"hours": 1}}, "not both"),
        ({"outage": {"hours": 0}}, "greater than 0"),
        ({"funding": {"rate": 0.003}}, "hours"),
    ],
)  # fmt: skip
def test_effects_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        stress(**changes)
