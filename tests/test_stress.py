"""Stress files: what is refused, how the rules move the rest, and the figures behind the files."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
import yaml
from hypothesis import given
from hypothesis import strategies as st

from risk.errors import ConfigError
from risk.market.history import load_history
from risk.scenarios.stress import (
    load_stress,
    load_stresses,
    moves_by_asset,
    stress_drivers,
    stress_from_history,
    stress_rules,
)

LIBRARY = Path(__file__).parent.parent / "configs" / "stresses"
FILE = {
    "title": "Crash",
    "kind": "historical",
    "source": "by hand",
    "narrative": "A fall.",
    "start": "2020-03-12",
    "end": "2020-03-12",
    "price_kind": "last",
    "shocks": {
        "BTC": {"low": -0.4, "high": 0.01, "last": -0.3},
        "ETH": {"low": -0.5, "high": 0.0, "last": -0.45},
    },
    "others": "beta",
    "gap": 0.3,
}
BETAS = xr.DataArray(
    [1.0, 1.2, 2.0],
    dims="asset",
    coords={"asset": np.array(["BTC", "ETH", "SOL"], object)},
    attrs={"market": "BTC"},
)
ASSETS = ["BTC", "ETH", "SOL"]


def write(folder: Path, name: str = "crash.yaml", drop: tuple[str, ...] = (), **changes) -> Path:
    content = {key: value for key, value in (FILE | changes).items() if key not in drop}
    (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / name


def drivers_of(folder: Path, assets=ASSETS, **changes) -> xr.Dataset:
    return stress_drivers([load_stress(write(folder, **changes))], assets, BETAS)


def test_listed_assets_move_as_listed_and_others_by_beta(tmp_path):
    drivers = drivers_of(tmp_path)
    assert drivers["label"].values.tolist() == ["Crash"]
    assert drivers["source"].values.tolist() == ["by hand"]
    np.testing.assert_allclose(drivers["low"].values[0], [0.6, 0.5, 0.2], rtol=1e-12)
    np.testing.assert_allclose(drivers["high"].values[0], [1.01, 1.0, 1.02], rtol=1e-12)
    np.testing.assert_allclose(drivers["last"].values[0], [0.7, 0.55, 0.4], rtol=1e-12)
    moves = moves_by_asset(drivers)
    np.testing.assert_allclose(moves["low"].values[0], [-0.4, -0.5, -0.8], rtol=1e-12)
    rules = stress_rules([load_stress(write(tmp_path))], ASSETS)
    assert rules.tolist() == [["listed", "listed", "beta"]]


def test_the_worst_rule_takes_the_lowest_low_the_highest_high_and_the_furthest_last(tmp_path):
    sol = drivers_of(tmp_path, others="worst").sel(asset="SOL")
    assert [float(sol[name][0]) for name in ("low", "high", "last")] == [0.5, 1.01, 0.55]


def test_under_the_rule_none_the_others_stay(tmp_path):
    drivers = drivers_of(tmp_path, others="none")
    sol = drivers.sel(asset="SOL")
    assert [float(sol[name][0]) for name in ("low", "high", "last")] == [1, 1, 1]
    assert 2 not in drivers["gap_asset"].values


def test_each_stress_brings_its_own_gap(tmp_path):
    stresses = [
        load_stress(write(tmp_path, title="none", gap=0.0)),
        load_stress(write(tmp_path, title="half", gap=0.5)),
        load_stress(write(tmp_path, title="all", gap=1.0)),
    ]
    drivers = stress_drivers(stresses, ["ETH"], BETAS)
    assert drivers["gap_scenario"].values.tolist() == [1, 2]
    np.testing.assert_allclose(drivers["gap_before"].values, [0.75, 1.0], rtol=1e-12)
    np.testing.assert_allclose(drivers["gap_landing"].values, [0.5, 0.5], rtol=1e-12)


def test_an_asset_outside_the_universe_is_ignored_and_named(tmp_path):
    drivers = drivers_of(tmp_path, assets=["ETH", "SOL"])
    assert drivers.attrs["ignored"] == ["Crash: BTC"]
    # It still is the market the betas refer to.
    assert float(drivers["low"].sel(asset="SOL")[0]) == pytest.approx(0.2)


def test_a_stress_that_moves_nothing_in_the_universe_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="'Crash' moves none of this universe's assets"):
        drivers_of(tmp_path, assets=["XYZ"], others="none")


def shock(**changes: float) -> dict[str, dict[str, float]]:
    return {"BTC": {"low": -0.4, "high": 0.01, "last": -0.3} | changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shocks": shock(low=-1.2)}, r"crash.yaml: shocks.BTC.low: .*greater than -1"),
        ({"shocks": shock(low=0.1)}, r"shocks.BTC.low: .*less than or equal to 0"),
        ({"shocks": shock(high=-0.5)}, r"shocks.BTC.high: .*greater than or equal to 0"),
        ({"shocks": shock(last=0.2)}, r"shocks.BTC: .*last must lie between low and high"),
        ({"shocks": shock(last=float("nan"))}, "last must lie between low and high"),
        ({"shocks": shock(close=0.2)}, "shocks.BTC.close: Extra inputs are not permitted"),
        ({"shocks": {}}, "shocks: .*at least 1 item"),
        ({"source": ""}, "source: .*at least 1 character"),
        ({"drop": ("source",)}, "source: Field required"),
        ({"drop": ("gap",)}, "a historical stress needs gap"),
        ({"drop": ("start", "price_kind")}, "a historical stress needs start, price_kind"),
        ({"gap": 1.1}, "gap: .*less than or equal to 1"),
        ({"end": "2020-03-11"}, "end lies before start"),
        ({"others": "half"}, "others: Input should be 'beta', 'worst', 'none' or 'volatility'"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_stress(write(tmp_path, **changes))


def test_a_hypothetical_stress_needs_no_dates(tmp_path):
    drop = ("start", "end", "price_kind", "gap")
    assert load_stress(write(tmp_path, kind="hypothetical", drop=drop)).gap == 0


def test_text_that_is_not_yaml_an_empty_folder_and_a_title_used_twice_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no stress files"):
        load_stresses(tmp_path)
    write(tmp_path, "a.yaml")
    write(tmp_path, "b.yaml")
    with pytest.raises(ConfigError, match=r"b\.yaml: title 'Crash' is that of a\.yaml"):
        load_stresses(tmp_path)
    (tmp_path / "b.yaml").write_text("title: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"b\.yaml is not readable YAML"):
        load_stresses(tmp_path)
    (tmp_path / "b.yaml").write_text("- 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"b\.yaml holds no keys"):
        load_stresses(tmp_path)


@given(
    st.floats(-3, 5, allow_nan=False),
    st.sampled_from(["beta", "worst", "none"]),
    st.floats(-0.99, 0),
    st.floats(0, 3),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_any_valid_stress_gives_an_ordered_driver(
    tmp_path_factory, beta, others, low, high, at, gap
):
    last = min(max(low + at * (high - low), low), high)
    shocks = {"BTC": {"low": low, "high": high, "last": last}}
    file = write(tmp_path_factory.mktemp("stress"), shocks=shocks, others=others, gap=gap)
    betas = BETAS.copy(data=[1.0, 1.2, beta])
    # `make_drivers` refuses whatever is out of order.
    drivers = stress_drivers([load_stress(file)], ASSETS, betas)
    assert (drivers["low"] > 0).all()


LIBRARY_STRESSES = load_stresses(LIBRARY)
HISTORICAL = [stress for stress in LIBRARY_STRESSES if stress.kind == "historical"]
#: The data end here; later events hold published figures.
COVERED = [stress for stress in HISTORICAL if stress.end <= date(2025, 6, 30)]


def test_the_library_has_the_crises_and_the_designed_moves():
    starts = {str(stress.start) for stress in HISTORICAL}
    assert {"2020-03-12", "2021-05-19", "2022-11-08", "2024-08-05"} <= starts
    lows = {s.title: min(shock.low for shock in s.shocks.values()) for s in LIBRARY_STRESSES}
    assert lows["All crypto -50 %"] == -0.5
    squeeze = next(s for s in LIBRARY_STRESSES if s.title == "Short squeeze +40 %")
    assert squeeze.shocks["BTC"].high == 0.4
    assert all(stress.gap > 0 for stress in LIBRARY_STRESSES)
    assert len(LIBRARY_STRESSES) >= 25
    assert len(COVERED) >= 15
    for stress in HISTORICAL:
        assert stress in COVERED or "Precision" in stress.source


@pytest.mark.parametrize("stress", COVERED, ids=lambda stress: stress.title)
def test_the_figures_in_a_historical_file_are_those_of_the_data(stress, market_data):
    history = load_history(market_data / "ohlcv_daily.parquet", stress.end)
    found = stress_from_history(history, start=stress.start, end=stress.end)
    assert {name: shock.model_dump() for name, shock in stress.shocks.items()} == found


#: Every event of the literature the library is built on, and a day each lasted to or through.
EVENTS = {
    "China bans exchanges": "2017-09-14",
    "the two weeks around it": "2017-09-15",
    "hash war": "2018-11-14",
    "the week after it": "2018-11-20",
    "Black Thursday": "2020-03-12",
    "May crash": "2021-05-19",
    "December flush": "2021-12-04",
    "Terra": "2022-05-12",
    "Celsius": "2022-06-13",
    "Three Arrows": "2022-06-18",
    "FTX": "2022-11-08",
    "USDC": "2023-03-11",
    "yen carry": "2024-08-05",
    "tariffs": "2025-02-03",
    "Bybit hack": "2025-02-25",
    "tariff cascade": "2025-10-10",
    "February rout": "2026-02-05",
}


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_has_a_stress_that_covers_its_day(event):
    day = date.fromisoformat(EVENTS[event])
    assert any(stress.start <= day <= stress.end for stress in HISTORICAL)


@lru_cache
def volatility_index(folder: Path) -> dict[tuple[str, date], dict[str, float]]:
    rows = pq.read_table(folder / "dvol_daily.parquet").to_pylist()
    return {(row["asset"], row["ts"].date()): row for row in rows}


@pytest.mark.parametrize("stress", COVERED, ids=lambda stress: stress.title)
def test_the_volatility_in_a_historical_file_is_that_of_the_index(stress, market_data):
    """The highest value of the days over the close before, the mean of bitcoin and ether."""
    index = volatility_index(market_data)
    before = stress.start - timedelta(days=1)
    if ("BTC", before) not in index:
        assert stress.volatility is None
        return
    days = [stress.start + timedelta(days=n) for n in range(stress.days)]
    ratios = [
        max(index[asset, day]["high"] for day in days) / index[asset, before]["close"]
        for asset in ("BTC", "ETH")
    ]
    assert stress.volatility == pytest.approx(sum(ratios) / 2, abs=0.005 + 1e-9)


def test_a_daily_close_hides_the_december_flush_and_the_file_does_not():
    flush = next(s for s in HISTORICAL if str(s.start) == "2021-12-04")
    assert (flush.shocks["ETH"].low, flush.shocks["ETH"].last) == (-0.1689, -0.0234)
    assert (flush.shocks["BTC"].low, flush.shocks["BTC"].last) == (-0.2164, -0.083)


def test_a_bad_print_invents_a_low_that_the_file_does_not_hold(market_data):
    stress = next(s for s in HISTORICAL if str(s.start) == str(s.end) == "2020-03-12")
    raw = load_history(market_data / "ohlcv_daily.parquet", stress.end, wick_filter=False)
    printed = stress_from_history(raw, start=stress.start, end=stress.end, assets=["LINK"])
    # A last trade of 0.0001 dollars; no mark was near it.
    assert printed["LINK"]["low"] == -1.0
    assert stress.shocks["LINK"].low == -0.5429


#: A designed move for every kind of effect, and what must be set in it.
DESIGNED = {
    "outage": "Venue outage of 6 hours in a fall of 30 %",
    "breaker": "Circuit breaker from -10 % to -25 %, fall of 40 %",
    "volatility": "Volatility doubles, prices return",
    "peg": "Collateral stablecoin at 0.87",
}


def test_every_effect_of_the_format_is_used_by_a_stress_of_the_library():
    for key in ("outage", "breaker", "funding", "volatility", "peg", "depth"):
        assert any(getattr(stress, key) is not None for stress in LIBRARY_STRESSES), key
    for key, title in DESIGNED.items():
        (stress,) = (s for s in LIBRARY_STRESSES if s.title == title)
        assert getattr(stress, key) is not None
    depth = next(stress for stress in LIBRARY_STRESSES if stress.depth is not None)
    assert depth.depth == 0.2
    assert {stress.others for stress in LIBRARY_STRESSES} >= {"beta", "worst", "none", "volatility"}


def test_a_wick_goes_down_and_comes_back_and_lands_as_one_gap():
    (wick,) = (s for s in LIBRARY_STRESSES if s.title == "Wick -40 % and back")
    drivers = stress_drivers([wick], ["BTC", "ETH"], BETAS)
    assert drivers["low"].values.tolist() == [[0.6, 0.6]]
    assert drivers["last"].values.tolist() == [[1.0, 1.0]]
    assert drivers["gap_before"].values.tolist() == [1.0, 1.0]
    assert drivers["gap_landing"].values.tolist() == [0.6, 0.6]


def test_a_window_outside_the_history_and_an_asset_without_prices_are_refused(market_data):
    day = HISTORICAL[0].start
    history = load_history(market_data / "ohlcv_daily.parquet", day)
    with pytest.raises(ConfigError, match="is not inside the history"):
        stress_from_history(history, start=day, end=day + timedelta(days=1))
    with pytest.raises(ConfigError, match=r"no prices on every day .* for SOL"):
        stress_from_history(history, start=day, end=day, assets=["BTC", "SOL"])
