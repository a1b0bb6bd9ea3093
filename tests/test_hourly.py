"""Hourly bars: windows that begin at any hour, and the gap rule measured on the finest bars."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from risk import pipeline
from risk.config import Historical
from risk.errors import ConfigError
from risk.market.gaps import calibrated_gap, gap_shares, has_fine_bars
from risk.market.history import load_history
from risk.scenarios.historical import historical_drivers

DAY = date(2024, 1, 3)
START = datetime(2024, 1, 1, tzinfo=UTC)
LENGTH = {"1d": timedelta(days=1), "1h": timedelta(hours=1), "5m": timedelta(minutes=5)}


def rows_of(asset: str, closes, interval: str = "1h", kind: str = "last", start=START, wick=0.0):
    """Bars that open at the close before; low and high lie `wick` beyond the body."""
    opens = [closes[0], *closes[:-1]]
    return [
        {
            "ts": start + place * LENGTH[interval],
            "asset": asset,
            "open": float(o),
            "high": float(max(o, c)) + wick,
            "low": float(min(o, c)) - wick,
            "close": float(c),
            "volume": 1.0,
            "interval": interval,
            "price_kind": kind,
        }
        for place, (o, c) in enumerate(zip(opens, closes, strict=True))
    ]


def write(folder: Path, *parts) -> Path:
    rows = [row for part in parts for row in part]
    schema = pa.schema(
        [("ts", pa.timestamp("ms", tz="UTC")), ("asset", "string")]
        + [(name, "f8") for name in ("open", "high", "low", "close", "volume")]
        + [("interval", "string"), ("price_kind", "string")]
    )
    path = folder / "prices.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


WALK = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 72)))
BETAS = xr.DataArray(
    [1.0, 1.0],
    dims="asset",
    coords={"asset": np.array(["BTC", "ETH"], object)},
    attrs={"market": "BTC"},
)


def replay(bars: xr.Dataset, **changes) -> xr.Dataset:
    settings = {"windows": 500, "horizon_days": 1, "gap": 0.3, "betas": BETAS, "step_hours": 1}
    return historical_drivers(bars, ["BTC"], **(settings | changes))


def test_hourly_bars_keep_their_hours_and_prefer_the_mark(tmp_path):
    last = rows_of("BTC", WALK, wick=5.0)
    mark = rows_of("BTC", WALK[:30], kind="mark", wick=1.0)
    bars = load_history(write(tmp_path, last, mark), DAY, interval="1h")
    assert bars["close"].dims == ("hour", "asset")
    np.testing.assert_allclose(bars["close"].values[:, 0], WALK)
    reach = (bars["high"] - bars[["open", "close"]].to_dataarray().max("variable")).values[:, 0]
    np.testing.assert_allclose(reach[:30], 1.0)
    np.testing.assert_allclose(reach[30:], 5.0)
    assert bars["price_kind"].values.tolist() == ["mixed"]


def test_five_minute_bars_make_hours_and_daily_rows_make_none(tmp_path):
    five = rows_of("BTC", np.linspace(100, 110, 36), interval="5m")
    daily = rows_of("ETH", [10.0, 11.0, 12.0], interval="1d")
    bars = load_history(write(tmp_path, five, daily), DAY, interval="1h")
    assert bars["asset"].values.tolist() == ["BTC"]
    np.testing.assert_allclose(bars["close"].values[:3, 0], np.linspace(100, 110, 36)[11::12])
    assert np.isnan(bars["close"].values[3:]).all()
    with pytest.raises(ConfigError, match="no bars of an hour or less"):
        load_history(write(tmp_path, daily), DAY, interval="1h")


def test_a_window_may_begin_at_any_hour(tmp_path):
    bars = load_history(write(tmp_path, rows_of("BTC", WALK)), DAY, interval="1h")
    drivers = replay(bars)
    assert drivers.attrs["n_windows"] == 72 - 24
    assert drivers["label"].values[-1] == "2024-01-04T00:00Z"
    assert drivers["label"].values[0] == "2024-01-02T01:00Z"
    for k in (0, 17, 47):
        span = WALK[k : k + 25]
        at = drivers.isel(scenario=k, asset=0)
        expected = [min(span) / span[0], max(span) / span[0], span[-1] / span[0]]
        got = [float(at[name]) for name in ("low", "high", "last")]
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_every_24th_hourly_window_is_a_daily_one(tmp_path):
    path = write(tmp_path, rows_of("BTC", WALK, wick=0.5))
    daily = replay(load_history(path, DAY), step_hours=24)
    hourly = replay(load_history(path, DAY, interval="1h"), step_hours=24)
    assert daily.sizes["scenario"] == hourly.sizes["scenario"] == 2
    for name in ("low", "high", "last"):
        np.testing.assert_allclose(daily[name], hourly[name], rtol=1e-12)


def test_age_weights_count_hours_as_parts_of_days(tmp_path):
    bars = load_history(write(tmp_path, rows_of("BTC", WALK)), DAY, interval="1h")
    weight = replay(bars, method="age_weighted", age_decay=0.9)["weight"].values
    assert weight[-1] / weight[-25] == pytest.approx(1 / 0.9)
    assert weight.sum() == pytest.approx(1)


def test_a_missing_hour_takes_out_every_window_that_touches_it(tmp_path):
    btc, eth = rows_of("BTC", WALK), rows_of("ETH", WALK)
    del eth[40]
    bars = load_history(write(tmp_path, btc, eth), DAY, interval="1h")
    assert bars["n_holes"].sel(asset="ETH").item() == 1
    drivers = historical_drivers(
        bars, ["BTC", "ETH"], windows=500, horizon_days=1, gap=0.3, betas=BETAS, step_hours=1
    )
    # Windows that hold the hour, and the one whose reference it is.
    assert float(drivers["proxied_share"].sel(asset="ETH")) == pytest.approx(25 / 48)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "filtered"}, "rescales days"),
        ({"step_hours": 0}, "take at least 1"),
        ({"horizon_days": 3}, "needs 73 hours of history, there are 72"),
    ],
)
def test_hourly_windows_that_cannot_be_made_are_refused(tmp_path, changes, message):
    bars = load_history(write(tmp_path, rows_of("BTC", WALK)), DAY, interval="1h")
    with pytest.raises(ConfigError, match=message):
        replay(bars, **changes)


def test_daily_bars_have_no_windows_of_part_days(tmp_path):
    bars = load_history(write(tmp_path, rows_of("BTC", WALK)), DAY)
    with pytest.raises(ConfigError, match="36 hours apart need hourly bars"):
        replay(bars, step_hours=36)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interval": "1h", "method": "filtered"}, "rescales days"),
        ({"step_hours": 12}, "whole days"),
        ({"gap": "measured"}, "calibrated"),
    ],
)
def test_the_config_refuses_hours_where_days_are_meant(values, message):
    with pytest.raises(ValueError, match=message):
        Historical(**({"windows": 5, "gap": 0.3} | values))


def test_the_night_takes_hourly_windows_and_a_measured_gap_from_the_config(tmp_path):
    closes = np.concatenate([np.full(288, 100.0), np.linspace(100, 80, 288)])
    write(tmp_path, rows_of("BTC", closes, interval="5m"))
    wanted = Historical(windows=10, gap="calibrated", interval="1h", step_hours=6)
    config = SimpleNamespace(
        scenarios=SimpleNamespace(historical=wanted), horizon_days=1, seed=1, history=tmp_path
    )
    day = date(2024, 1, 2)
    history = load_history(tmp_path, day)
    bars = pipeline.window_bars(config, history, day)
    assert "hour" in bars.dims
    calibration = xr.Dataset({"beta": BETAS, "factor_beta": BETAS.expand_dims(factor=["BTC"]).T})
    calibration["beta"].attrs["market"] = "BTC"
    shares = gap_shares(tmp_path, day)
    records = pipeline.historical_records(config, bars, ["BTC"], calibration, shares)
    with pytest.raises(ConfigError, match="needs five-minute bars"):
        pipeline.historical_records(config, bars, ["BTC"], calibration)
    record = records["historical"]
    assert record.attrs["gap"] == 0.01
    assert record["label"].values.tolist() == [
        "2024-01-02T06:00Z", "2024-01-02T12:00Z", "2024-01-02T18:00Z", "2024-01-03T00:00Z",
    ]  # fmt: skip


# -- the gap rule --------------------------------------------------------------------------------


def five_minute_day(closes: np.ndarray, day: int = 1) -> list[dict]:
    """Two days of five-minute bars: a still one, then the given closes."""
    still = np.full(288, 100.0)
    return rows_of("BTC", np.concatenate([still, closes]), interval="5m", start=START)


def test_the_share_is_the_worst_bar_beyond_the_days_extreme_over_the_excursion(tmp_path):
    closes = np.full(288, 100.0)
    closes[100:] = 95.0  # five at once
    closes[150:] = 97.0  # back up
    closes[200:] = 80.0  # seventeen at once, fifteen of them new
    shares = gap_shares(write(tmp_path, five_minute_day(closes)), DAY)
    assert shares["side"].values.tolist() == [-1]
    assert shares["day"].values.astype("M8[D]").astype(str).tolist() == ["2024-01-02"]
    assert float(shares["excursion"][0]) == pytest.approx(0.20)
    assert float(shares["worst_bar"][0]) == pytest.approx(0.15)
    assert calibrated_gap(shares) == 0.75


def test_whether_a_history_has_finer_bars_is_read_off_its_one_column(tmp_path):
    assert has_fine_bars(write(tmp_path, five_minute_day(np.full(288, 100.0))))
    assert has_fine_bars(tmp_path)
    days = write(tmp_path, rows_of("BTC", [1.0, 2.0], interval="1d"))
    assert not has_fine_bars(days)
    pq.write_table(pq.read_table(days).drop_columns("interval"), days)
    assert not has_fine_bars(days)
    days.write_bytes(b"torn")
    assert not has_fine_bars(days)


def test_a_steady_fall_has_a_small_share_and_a_quiet_day_none(tmp_path):
    shares = gap_shares(write(tmp_path, five_minute_day(np.linspace(100, 80, 288))), DAY)
    assert float(shares["share"][0]) == pytest.approx(1 / 287, rel=1e-6)
    quiet = gap_shares(write(tmp_path, five_minute_day(np.linspace(100, 95, 288))), DAY)
    assert quiet.sizes["episode"] == 0
    with pytest.raises(ConfigError, match="needs five-minute bars"):
        calibrated_gap(quiet)


def test_a_day_with_a_hole_is_left_out(tmp_path):
    rows = five_minute_day(np.linspace(100, 80, 288))
    del rows[400]
    assert gap_shares(write(tmp_path, rows), DAY).sizes["episode"] == 0


def test_finer_bars_replace_coarser_ones_of_the_same_day(tmp_path):
    closes = np.linspace(100, 80, 288)
    hours = rows_of("BTC", np.concatenate([np.full(24, 100.0), closes[11::12]]))
    only_hours = gap_shares(write(tmp_path, hours), DAY)
    assert only_hours["interval"].values.tolist() == ["1h"]
    with pytest.raises(ConfigError, match="needs five-minute bars"):
        calibrated_gap(only_hours)
    both = gap_shares(write(tmp_path, hours, five_minute_day(closes)), DAY)
    assert both["interval"].values.tolist() == ["5m"]
    assert float(both["share"][0]) < float(only_hours["share"][0])


def test_the_real_crash_of_august_2024_calls_for_a_quarter(market_data, tmp_path):
    table = pq.read_table(market_data / "perp_5m_crisis_2024_08.parquet")
    path = tmp_path / "prices.parquet"
    pq.write_table(table.append_column("interval", pa.array(["5m"] * len(table))), path)
    shares = gap_shares(path, date(2024, 8, 9))
    crash = shares.isel(episode=(shares["day"] == np.datetime64("2024-08-05")).values)
    assert crash["asset"].values.tolist() == ["BTC", "SOL"]
    np.testing.assert_allclose(crash["excursion"], [0.159, 0.211], atol=5e-4)
    np.testing.assert_allclose(crash["share"], [0.224, 0.234], atol=5e-4)
    assert calibrated_gap(shares) == 0.24


def test_a_real_hourly_window_holds_a_crash_that_straddles_midnight(market_data, tmp_path):
    parts = []
    for name in ("BTC", "ETH"):
        table = pq.read_table(market_data / "perp_hourly_mark" / f"{name}.parquet")
        stamps = table["ts"].to_numpy().astype("M8[D]")
        near = (stamps >= np.datetime64("2020-03-01")) & (stamps <= np.datetime64("2020-03-31"))
        table = table.filter(pa.array(near))
        n = len(table)
        columns = {name: table[name] for name in ("ts", "open", "high", "low", "close")}
        columns |= {"asset": [name] * n, "volume": np.zeros(n)}
        columns |= {"interval": ["1h"] * n, "price_kind": ["mark"] * n}
        parts.append(pa.table(columns))
    pq.write_table(pa.concat_tables(parts), tmp_path / "prices.parquet")
    day = date(2020, 3, 31)
    hourly = replay(load_history(tmp_path, day, interval="1h"), windows=700)
    daily = replay(load_history(tmp_path, day), windows=700, step_hours=24)
    # The worst 24 hours began on the 12th and ended in the night of the 13th.
    worst = hourly["low"].values.min()
    assert worst < daily["low"].values.min() - 0.01
    assert hourly["label"].values[hourly["low"].values[:, 0].argmin()][:10] in (
        "2020-03-12", "2020-03-13",
    )  # fmt: skip
