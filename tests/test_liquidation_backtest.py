"""Predicted against realised liquidations: counting paths, and a score whose units are days."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from risk.liquidation import build_ladders
from risk.market.history import load_history
from risk.replay import backtest, calibrate_liquidations, judge_liquidations, z_of_days
from risk.replay.forecast import day_drivers, day_ratios
from risk.replay.night import _liquidated
from risk.replay.shared import Inputs
from risk.replay.tables import BUCKETS, LIQUIDATIONS
from tests.books import book_of, random_position
from tests.makers import AS_OF, write_history
from tests.test_replay import make_config, move, table, write_bars

DAY = dt.timedelta(days=1)


def write_hours(folder, paths, *, first=dt.date(2025, 1, 1), missing=()):
    """Hourly mark prices of {asset: [(low, high, close), ...]}, one bar an hour from midnight."""
    rows = []
    for asset, bars in paths.items():
        before = bars[0][2]
        for hour, (low, high, close) in enumerate(bars):
            stamp = dt.datetime.combine(first, dt.time(), dt.UTC) + dt.timedelta(hours=hour)
            if (asset, hour) not in missing:
                rows.append(
                    {"ts": stamp, "asset": asset, "open": before, "high": max(high, before),
                     "low": min(low, before), "close": close, "volume": 0.0,
                     "interval": "1h", "price_kind": "mark"}
                )  # fmt: skip
            before = close
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.Table.from_pylist(rows).cast(
            pa.schema(
                [("ts", pa.timestamp("ms", tz="UTC")), ("asset", pa.string())]
                + [(name, pa.float64()) for name in ("open", "high", "low", "close", "volume")]
                + [("interval", pa.string()), ("price_kind", pa.string())]
            )
        ),
        folder / "prices.parquet",
    )
    return folder


def flat(price, n=24):
    return [(price, price, price)] * n


def test_the_counts_of_a_night_by_hand(tmp_path):
    """Three longs of 5, 10 and 20 times leverage; the marks fall 11 % in one hour and recover."""
    moves = [0.98, 0.85, 0.93, 1.0, 1.0]
    days = write_bars(tmp_path / "history", {"BTC": [move(x) for x in moves]})
    hours = flat(100.0) * 5 + flat(100.0, 13) + [(89.0, 100.0, 97.0)] + flat(97.0, 10)
    marks = write_hours(tmp_path / "marks", {"BTC": hours})
    positions = [{"leverage": x, "position_margin": 100_000 / x} for x in (5.0, 10.0, 20.0)]
    config = make_config(tmp_path, positions=positions, windows=4)
    run = backtest(config, days[4], days[4], marks=marks)
    (row,) = table(run, "liquidations").to_pylist()
    # Falls of 2, 15, 7 and 0 %: triggers near -19.6, -9.6 and -4.6 % are hit 0, 1 and 2 times.
    assert row["expected"] == pytest.approx(0 + 0.25 + 0.5)
    assert row["realised"] == 2  # the daily bar of the history did not move at all
    assert (row["realised_daily"], row["only_daily"], row["only_marks"]) == (0, 0, 2)
    assert row["n_positions"] == 3
    # Counts 0, 2, 1, 0: mean 0.75, variance 5/4 - 9/16; the rank ceil(4 x 0.99) is the worst.
    assert row["variance"] == pytest.approx(5 / 4 - 9 / 16)
    assert row["forecast_p99"] == 2.0
    buckets = {(r["lower"], r["upper"]): r for r in table(run, "calibration").to_pylist()}
    assert set(buckets) == {(0.0, 0.001), (0.1, 0.3), (0.3, 1.0)}
    middle = buckets[0.1, 0.3]
    assert (middle["n_position_days"], middle["expected"], middle["realised"]) == (1, 0.25, 1)
    assert middle["z_score"] == pytest.approx(0.75 / np.sqrt(0.25 * 0.75))


def test_a_day_of_marks_that_lacks_an_hour_is_not_counted(tmp_path):
    moves = [0.98, 0.85, 0.93, 1.0, 1.0]
    days = write_bars(tmp_path / "history", {"BTC": [move(x) for x in moves]})
    marks = write_hours(tmp_path / "marks", {"BTC": flat(100.0) * 6}, missing={("BTC", 5 * 24 + 3)})
    run = backtest(make_config(tmp_path), days[4], days[4], marks=marks)
    (row,) = table(run, "liquidations").to_pylist()
    assert (row["n_positions"], row["expected"], row["realised"]) == (0, 0.0, 0)


def closed_hour_by_hour(position, trigger, stop, ratios):
    """Walk the hours one after the other: liquidated if the margin trigger comes first."""
    for low, high in ratios:
        worst = low if position.direction > 0 else high
        for level, outcome in ((stop, False), (trigger, True)):
            if level is not None and (worst - level) * position.direction <= 0:
                return outcome
    return False


def test_the_count_of_a_day_is_that_of_its_hours_one_by_one(tmp_path):
    rng = np.random.default_rng(8)
    positions = [random_position(rng) for _ in range(400)]
    assets = [str(rng.choice(["BTC", "ETH"])) for _ in positions]
    book = book_of(positions, assets)
    n_days = 5
    paths = {}
    for asset in ("BTC", "ETH"):
        close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.03, 24 * n_days)))
        before = np.r_[close[0], close[:-1]]
        wick = 1 + np.abs(rng.normal(0, 0.01, (2, len(close))))
        low, high = np.minimum(before, close) / wick[0], np.maximum(before, close) * wick[1]
        paths[asset] = list(zip(low, high, close, strict=True))
    first = dt.date(2025, 1, 1)
    folder = write_hours(tmp_path, paths, first=first)
    marks = load_history(folder, first + (n_days - 1) * DAY)
    names = ["BTC", "ETH"]
    inputs = Inputs({}, marks, marks, book, build_ladders(book, names, ["asset"]))
    triggers, stops = book["trigger"].to_pylist(), book["stop_trigger"].to_pylist()
    n_hit = 0
    for day in range(n_days - 1):
        night = first + day * DAY
        found = _liquidated(
            inputs, day_drivers(day_ratios(marks, night, names), names, night, None)
        )
        for at, position in enumerate(positions):
            bars = paths[assets[at]]
            close = bars[24 * (day + 1) - 1][2]
            hours = [(lo / close, hi / close) for lo, hi, _ in bars[24 * (day + 1) :][:24]]
            expected = closed_hour_by_hour(position, triggers[at], stops[at], hours)
            assert found[at] == expected
            n_hit += expected
    assert n_hit > 100


def bucket(night, n, expected, variance, realised, lower=0.1, upper=0.3):
    return {
        "night": dt.date(2025, 1, night), "scenario_set": "historical", "lower": lower,
        "upper": upper, "n_position_days": n, "expected": expected, "variance": variance,
        "realised": realised,
    }  # fmt: skip


def test_the_calibration_scores_days_and_not_positions():
    rows = [bucket(1, 100, 20.0, 400.0, 60), bucket(2, 100, 20.0, 500.0, 10)]
    (row,) = calibrate_liquidations(pa.Table.from_pylist(rows, schema=BUCKETS)).to_pylist()
    assert (row["n_position_days"], row["expected"], row["realised"]) == (200, 40.0, 70)
    # 30 too many over a spread of sqrt(900): one standard deviation. Independent positions would
    # have a spread of sqrt(40 x 0.8) = 5.7 and make it five.
    assert row["z_score"] == pytest.approx(1.0)
    assert row["p_value"] == pytest.approx(0.3173, abs=1e-4)


def test_a_certain_forecast_is_right_or_refuted():
    nothing = np.zeros(3)
    assert z_of_days(nothing, nothing, nothing) == (None, None)
    assert z_of_days(np.array([0, 1, 0]), nothing, nothing) == (None, 0.0)


def test_nights_without_a_forecast_are_left_out_of_the_count():
    row = {"night": AS_OF, "day": AS_OF + DAY, "scenario_set": "historical", "n_positions": 5,
           "expected": 2.0, "variance": 1.0, "realised": 3, "forecast_p99": 2.0,
           "realised_daily": 4, "only_daily": 2, "only_marks": 1}  # fmt: skip
    rows = [row, row | {"expected": None, "variance": None, "forecast_p99": None, "realised": 99}]
    found = judge_liquidations(pa.Table.from_pylist(rows, schema=LIQUIDATIONS)).to_pylist()
    values = {one["test"]: one for one in found}
    assert values["liquidations.realised"]["statistic"] == 3.0
    assert values["liquidations.mean"]["statistic"] == pytest.approx(1.0)
    assert values["liquidations.p99"]["n_days"] == 1
    parts = ("daily_bars", "only_daily", "only_marks")
    assert [values[f"liquidations.{part}"]["statistic"] for part in parts] == [4.0, 2.0, 1.0]


def test_right_probabilities_are_calibrated(tmp_path):
    """Independent days: the windows are a fair sample of the day after."""
    n, windows = 200, 150
    write_history(tmp_path / "history", ["BTC"], n_days=n + windows + 2, seed=11)
    positions = [
        {"side": side, "leverage": x, "position_margin": 100_000 / x}
        for side in ("long", "short")
        for x in (8.0, 12.0, 18.0, 27.0, 40.0)
    ]
    config = make_config(tmp_path, positions=positions, windows=windows, levels=(0.9,))
    run = backtest(config, AS_OF - n * DAY, AS_OF - DAY)
    tests = {row["test"]: row for row in table(run, "tests").to_pylist()}
    assert tests["liquidations.expected"]["statistic"] > 100
    assert abs(tests["liquidations.mean"]["statistic"]) < 4
    scores = [row["z_score"] for row in table(run, "calibration").to_pylist()]
    assert len(scores) >= 3
    assert all(abs(score) < 4 for score in scores if score is not None)


def test_real_marks_are_counted_on_the_hours_of_the_crash(market_data, tmp_path):
    """2024-08-05: the mark of ETH fell 21 to 22 % in the day; the day before it fell 9 %."""
    parts = []
    for asset in ("BTC", "ETH"):
        bars = pq.read_table(market_data / f"perp_hourly_mark/{asset}.parquet")
        text = {"asset": asset, "interval": "1h", "price_kind": "mark"}
        for name, value in text.items():
            bars = bars.append_column(name, pa.array([value] * bars.num_rows))
        parts.append(bars.append_column("volume", pa.array(np.zeros(bars.num_rows))))
    (tmp_path / "marks").mkdir()
    pq.write_table(pa.concat_tables(parts), tmp_path / "marks/prices.parquet")
    positions = [
        {"symbol": "ETH/USDT:USDT", "leverage": x, "position_margin": 2_500.0 / x}
        for x in (4.0, 5.0, 8.0, 20.0)
    ]
    config = make_config(
        tmp_path, positions=positions, history=market_data / "ohlcv_daily.parquet", windows=1000
    )
    first = dt.date(2024, 8, 3)
    run = backtest(config, first, first + DAY, marks=tmp_path / "marks")
    counts = table(run, "liquidations").to_pylist()
    # Triggers near -24.6, -19.6, -12.1 and -4.6 %.
    assert [row["realised"] for row in counts] == [1, 3]
    assert [row["n_positions"] for row in counts] == [4, 4]
    assert 0.1 < counts[0]["expected"] < 0.5
