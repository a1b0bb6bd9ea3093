"""Past windows of tonight's book, its backtest, and the lines of the capital page."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.backtest import traffic_light
from risk.capital import Exceedances, MarketTails, has_real_prices, load_capital, page
from risk.errors import DataError
from risk.liquidation import position_outcomes, uncovered_losses
from risk.measures import expected_shortfall, value_at_risk
from risk.solvency import WATCH, WindowPnl, watch_book
from risk.solvency.tails import HORIZON_DAYS, YEAR_DAYS, Horizons, market_tails
from tests.books import book_of, drivers_of, random_path, random_position

CONFIGS = Path(__file__).parents[1] / "configs" / "capital"
AS_OF = dt.date(2025, 6, 29)
WANTED = Horizons(frozenset({"BTC"}), 20, 60, 20, 0.975, 0.75)


def windows_of(pnl, *, is_own=None, first="2023-01-01") -> WindowPnl:
    pnl = np.asarray(pnl, "f8")
    assets = ("BTC", "ETH", "NEW")[: pnl.shape[1]]
    return WindowPnl(
        day=np.datetime64(first, "D") + np.arange(len(pnl)),
        assets=assets,
        pnl=pnl,
        liquidations=np.zeros(pnl.shape, "i8"),
        is_own=np.ones(pnl.shape, bool) if is_own is None else is_own,
        last=np.full(pnl.shape, 0.9),
        drivers=xr.Dataset(),
    )


def bars_of(n_days, assets=("BTC", "ETH", "NEW"), holes=()) -> xr.Dataset:
    close = np.full((n_days, len(assets)), 100.0)
    for asset, days in holes:
        close[days, assets.index(asset)] = np.nan
    day = np.datetime64("2023-01-01", "ns") + np.arange(n_days) * np.timedelta64(1, "D")
    return xr.Dataset(
        {"close": (("day", "asset"), close)}, coords={"day": day, "asset": list(assets)}
    )


def test_the_worst_year_is_found_by_trying_every_year():
    rng = np.random.default_rng(5)
    pnl = rng.normal(0.0, 1.0, (900, 2)) * np.where(np.arange(900) < 500, 4.0, 1.0)[:, None]
    found = market_tails(windows_of(pnl), bars_of(910, ("BTC", "ETH")), WANTED)
    n = YEAR_DAYS - HORIZON_DAYS + 1
    total = pnl.sum(axis=1)
    losses = [float(expected_shortfall(total[i : i + n], 0.975)) for i in range(900 - n + 1)]
    assert found.reduced_stressed[10] == pytest.approx(max(losses), rel=1e-12)
    assert found.full_current[10] == pytest.approx(losses[-1], rel=1e-12)
    assert found.n_reduced == found.n_factors == 2


def test_a_longer_horizon_shocks_only_the_factors_that_have_it():
    rng = np.random.default_rng(6)
    pnl = rng.normal(0.0, 1.0, (400, 2))
    found = market_tails(windows_of(pnl), bars_of(410, ("BTC", "ETH")), WANTED)
    latest = pnl[-(YEAR_DAYS - HORIZON_DAYS + 1) :]
    assert sorted(found.full_current) == [10, 20, 60]
    assert found.full_current[60] == pytest.approx(expected_shortfall(latest[:, 1], 0.975))
    assert found.full_current[20] == found.full_current[10]


def test_a_young_asset_leaves_the_reduced_set_where_the_others_explain_enough():
    rng = np.random.default_rng(7)
    pnl = np.column_stack([rng.normal(0.0, 10.0, 900), rng.normal(0.0, 10.0, 900)])
    pnl = np.column_stack([pnl, rng.normal(0.0, 0.1, 900)])
    is_own = np.ones(pnl.shape, bool)
    is_own[:400, 2] = False
    found = market_tails(windows_of(pnl, is_own=is_own), bars_of(910), WANTED)
    assert (found.n_factors, found.n_reduced) == (3, 2)
    assert found.history_start == dt.date(2023, 1, 1)
    heavy = pnl * [1.0, 1.0, 1000.0]
    found = market_tails(windows_of(heavy, is_own=is_own), bars_of(910), WANTED)
    assert found.n_reduced == 3
    assert found.history_start == dt.date(2023, 1, 1) + dt.timedelta(days=400)


def test_a_factor_without_real_prices_is_not_modelled_but_stressed_alone():
    rng = np.random.default_rng(8)
    pnl = rng.normal(0.0, 1.0, (400, 3))
    holes = [("NEW", np.arange(45, 409))]
    found = market_tails(windows_of(pnl), bars_of(410, holes=holes), WANTED)
    assert list(found.not_modellable) == ["NEW"]
    assert found.n_factors == 2
    start = (found.stress_start - dt.date(2023, 1, 1)).days
    worst = float(expected_shortfall(pnl[start : start + 356, 2], 0.975))
    assert found.not_modellable["NEW"] == pytest.approx(worst * math.sqrt(6.0))
    assert found.value_at_risk == pytest.approx(float(value_at_risk(pnl[-356:].sum(axis=1), 0.99)))


def test_less_than_a_year_of_windows_is_refused():
    with pytest.raises(DataError, match="a year of ten-day windows"):
        market_tails(windows_of(np.zeros((300, 2))), bars_of(310, ("BTC", "ETH")), WANTED)


@pytest.mark.parametrize(
    ("seen", "passes"),
    [
        (np.arange(365) % 4 == 0, True),
        (np.arange(365) % 15 == 0, True),  # 25, six in every 90 days
        (np.arange(365) % 16 == 0, False),  # 23, one too few
        (np.arange(365) < 99, False),  # a long gap after
        (np.arange(365) < 100, True),  # enough by their number
        (np.arange(365) % 40 == 0, False),
        (np.zeros(365, bool), False),
    ],
)
def test_real_prices_need_enough_observations_without_a_long_gap(seen, passes):
    assert has_real_prices(seen) == passes


def test_a_day_is_judged_by_the_windows_before_it_alone():
    rng = np.random.default_rng(9)
    pnl = rng.normal(0.0, 1.0, (700, 2))
    found = watch_book(windows_of(pnl), most=300).to_pylist()
    total = pnl.sum(axis=1)
    assert len(found) == 250
    for at in (0, 100, 249):
        row, window = found[at], 450 + at
        var = float(value_at_risk(total[window - 300 : window], 0.99))
        assert row["value_at_risk_usd"] == pytest.approx(var, rel=1e-12)
        assert row["pnl_usd"] == total[window]
        assert row["is_exceedance"] == (-total[window] > var)
        assert (row["cause"] is not None) == row["is_exceedance"]


def test_a_lost_price_is_an_exceedance_with_its_reason():
    pnl = np.ones((600, 2))
    is_own = np.ones(pnl.shape, bool)
    is_own[590, 1] = False
    rows = watch_book(windows_of(pnl, is_own=is_own), most=300).to_pylist()
    hits = [row for row in rows if row["is_exceedance"]]
    assert [row["cause"] for row in hits] == ["no price of ETH"]
    assert hits[0]["pnl_usd"] is None


def test_too_short_a_history_gives_no_backtest():
    assert watch_book(windows_of(np.ones((200, 2))), most=300).equals(WATCH.empty_table())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_uncovered_losses_are_those_of_pricing_position_by_position(seed):
    rng = np.random.default_rng(seed)
    positions = [random_position(rng, steps=0.4) for _ in range(30)]
    assets = [str(name) for name in rng.choice(["BTC", "ETH"], 30)]
    paths = {
        name: [
            random_path(rng, jumps=float(rng.choice([0.0, 0.4])), spread=0.06) for _ in range(25)
        ]
        for name in ("BTC", "ETH")
    }
    book, drivers = book_of(positions, assets), drivers_of(paths)
    found, slow = uncovered_losses(book, drivers), position_outcomes(book, drivers).deficit.values
    scale = np.abs(book["notional_usd"].to_numpy()).sum()
    assert found.n_positions == slow.shape[1]
    assert (found.count == (slow > 0).sum(axis=1)).all()
    np.testing.assert_allclose(found.total, slow.sum(axis=1), rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(found.worst, slow.max(axis=1), rtol=0, atol=1e-12 * scale)


def test_a_jump_past_the_collateral_leaves_positions_uncovered():
    rng = np.random.default_rng(3)
    book = book_of([random_position(rng) for _ in range(60)], ["BTC"] * 60)
    crash = {"BTC": [random_path(rng, jumps=1.0, spread=0.3) for _ in range(5)]}
    assert uncovered_losses(book, drivers_of(crash)).count.sum() > 0


def tails(**changes) -> MarketTails:
    given = {
        "full_current": {10: 30.0, 20: 30.0, 60: 10.0},
        "reduced_current": {10: 30.0, 20: 30.0, 60: 10.0},
        "reduced_stressed": {10: 60.0, 20: 60.0, 60: 20.0},
        "value_at_risk": 25.0,
        "stressed_value_at_risk": 50.0,
        "not_modellable": {},
        "reduced_share": 1.0,
        "n_factors": 2,
        "n_reduced": 2,
        "stress_start": dt.date(2021, 1, 1),
        "stress_end": dt.date(2021, 12, 31),
        "history_start": dt.date(2020, 1, 1),
        "n_windows": 356,
    }
    return MarketTails(**(given | changes))


def by_line(section):
    return {row["line"]: row for row in section}


@pytest.mark.parametrize(
    ("count", "multiplier", "plus"), [(0, 1.5, 3.0), (5, 1.7, 3.4), (40, 2.0, 4.0)]
)
def test_the_backtest_sets_the_multipliers_of_both_market_rules(count, multiplier, plus):
    settings = load_capital(CONFIGS, AS_OF)
    zone = traffic_light(count, 250, 0.99).zone
    seen = Exceedances(count, 250, zone, "basis")
    model = by_line(page.internal_model(settings, AS_OF, tails(), seen))
    assert model["multiplier"]["value"] == pytest.approx(multiplier)
    cascade = math.sqrt(60.0**2 + 60.0**2 + 2 * 20.0**2 + 2 * 20.0**2)
    assert model["capital"]["value"] == pytest.approx(multiplier * cascade)
    assert model["rwa"]["value"] == pytest.approx(12.5 * multiplier * cascade)
    assert "not allowed for group 2" in model["capital"]["note"]
    old = by_line(page.value_at_risk_plus_stressed(settings, AS_OF, tails(), seen))
    assert old["multiplier"]["value"] == pytest.approx(plus)
    assert old["capital"]["value"] == pytest.approx(plus * 75.0)


def test_without_a_backtest_there_is_no_multiplier_and_no_capital():
    settings = load_capital(CONFIGS, AS_OF)
    model = by_line(page.internal_model(settings, AS_OF, tails(), None))
    assert model["multiplier"]["value"] is None
    assert model["capital"]["value"] is None


def test_a_line_that_rests_on_an_unverified_value_is_unverified_and_so_are_its_children():
    settings = load_capital(CONFIGS, AS_OF)
    seen = Exceedances(0, 250, "green", "basis")
    model = by_line(page.internal_model(settings, AS_OF, tails(), seen))
    assert not model["full_current"]["is_verified"]
    assert not model["capital"]["is_verified"]
    assert model["multiplier"]["is_verified"]


@pytest.mark.parametrize(
    ("as_of", "status"),
    [
        (dt.date(2025, 6, 29), "not in force on this date; from 2026-01-01"),
        (dt.date(2026, 6, 29), "in force from 2026-01-01"),
    ],
)
def test_a_rule_says_whether_it_is_in_force(as_of, status):
    settings = load_capital(CONFIGS, as_of)
    lines = by_line(page.crypto_exposures(settings, as_of, [("BTC", "x swap", 10.0)]))
    assert lines["group_2a"]["status"] == status
    assert ("with values in force from" in lines["group_2a"]["basis"]) == (as_of.year == 2025)
    assert (
        load_capital(CONFIGS, dt.date(2027, 1, 1))
        .rules["value_at_risk"]
        .status(dt.date(2027, 1, 1))
        == "no longer in force; ended 2026-12-31"
    )


def test_group_2_beyond_two_percent_of_tier_1_is_all_group_2b():
    settings = load_capital(CONFIGS, AS_OF)
    tier_1 = settings["tier_1"].value
    exposures = [("BTC", "x swap", 0.5 * tier_1), ("BTC", "y swap", -0.2 * tier_1)]
    lines = by_line(page.crypto_exposures(settings, AS_OF, exposures))
    weighted = 0.94 * (0.3 * tier_1) ** 2 + 0.06 * (0.5**2 + 0.2**2) * tier_1**2
    assert lines["group_2a"]["value"] == pytest.approx(12.5 * math.sqrt(weighted))
    assert lines["rwa"]["value"] == pytest.approx(12.5 * 0.5 * tier_1)
    small = [(name, "x swap", 0.004 * tier_1) for name in ("BTC", "DOGE")]
    lines = by_line(page.crypto_exposures(settings, AS_OF, small))
    assert lines["rwa"]["value"] == lines["group_2a"]["value"] + lines["group_2b"]["value"]
    middle = [("BTC", "x swap", 0.015 * tier_1)]
    lines = by_line(page.crypto_exposures(settings, AS_OF, middle))
    assert lines["excess"]["value"] == pytest.approx(0.005 * tier_1)
    assert lines["rwa"]["value"] == pytest.approx(12.5 * 0.015 * tier_1)


def test_isolated_positions_do_not_net_against_each_other():
    settings = load_capital(CONFIGS, AS_OF)
    both = by_line(
        page.counterparty(settings, AS_OF, np.array([100.0, 100.0]), np.array([5.0, 5.0]))
    )
    one = by_line(page.counterparty(settings, AS_OF, np.array([100.0]), np.array([5.0])))
    assert both["exposure"]["value"] == pytest.approx(2 * one["exposure"]["value"])
    shrunk = 0.05 + 0.95 * math.exp(-5.0 / (1.9 * 9.6))
    assert one["exposure"]["value"] == pytest.approx(1.4 * shrunk * 9.6)


def test_own_funds_are_held_against_the_larger_of_minimum_and_overheads():
    lines = by_line(page.own_funds_requirement(load_capital(CONFIGS, AS_OF), AS_OF))
    assert lines["required"]["value"] == 0.25 * 8.0e6
    assert lines["surplus"]["value"] == 25.0e6 - 2.0e6
