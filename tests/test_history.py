"""Reading price histories: what is refused, what is flagged, what is preferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from risk.errors import ConfigError, DataError
from risk.market.history import load_history, universe

DAY = datetime(2024, 1, 1, tzinfo=UTC)


def bar(day: int = 0, asset: str = "BTC", close: float = 100.0, **changes: Any) -> dict[str, Any]:
    row = {
        "ts": DAY + timedelta(days=day),
        "asset": asset,
        "open": close,
        "high": close * 1.01,
        "low": close * 0.99,
        "close": close,
        "volume": 1.0,
    }
    return row | changes


def write(
    folder: Path, rows: Sequence[Mapping[str, Any]], metadata: dict[str, str] | None = None
) -> Path:
    table = pa.Table.from_pylist([dict(row) for row in rows])
    stamp = table.schema.get_field_index("ts")
    table = table.set_column(stamp, "ts", table["ts"].cast(pa.timestamp("us", tz="UTC")))
    pq.write_table(table.replace_schema_metadata(metadata), folder / "prices.parquet")
    return folder


def test_a_folder_is_read_up_to_as_of_and_not_beyond(tmp_path):
    rows = [bar(day, asset, 100 + day) for day in range(4) for asset in ("ETH", "BTC")]
    history = load_history(write(tmp_path, rows), date(2024, 1, 3))
    assert history["asset"].values.tolist() == ["BTC", "ETH"]
    assert history["day"].values.astype("M8[D]").astype(str).tolist() == [
        "2024-01-01",
        "2024-01-02",
        "2024-01-03",
    ]
    assert history["close"].sel(asset="BTC").values.tolist() == [100, 101, 102]
    assert history["price_kind"].values.tolist() == ["last", "last"]
    assert history.attrs["is_synthetic"] == 0


def test_metadata_says_whether_prices_are_synthetic_and_where_they_come_from(tmp_path):
    marks = {"bulkhead.synthetic": "true", "bulkhead.source": "generated"}
    history = load_history(write(tmp_path, [bar()], marks), date(2024, 1, 1))
    assert (history.attrs["is_synthetic"], history.attrs["source"]) == (1, "generated")


def test_a_missing_day_stays_a_hole_and_is_counted(tmp_path):
    rows = [bar(0), bar(1), bar(3), *(bar(day, "ETH") for day in range(1, 4))]
    history = load_history(write(tmp_path, rows), date(2024, 1, 4))
    assert np.isnan(history["close"].sel(asset="BTC").values).tolist() == [
        False,
        False,
        True,
        False,
    ]
    # The days before ETH was listed are not holes.
    assert history["n_holes"].values.tolist() == [1, 0]


def test_the_universe_is_what_closed_on_the_day(tmp_path):
    rows = [bar(0), bar(1), bar(0, "OLD")]
    history = load_history(write(tmp_path, rows), date(2024, 1, 2))
    assert universe(history, date(2024, 1, 2)) == ["BTC"]
    assert universe(history, date(2024, 1, 1)) == ["BTC", "OLD"]


def test_hours_become_utc_days_and_a_day_that_lacks_some_is_flagged(tmp_path):
    rows = [
        bar(0, close=100.0 + hour, ts=DAY + timedelta(hours=hour), interval="1h")
        for hour in range(24)
    ] + [
        bar(1, close=50.0 + hour, ts=DAY + timedelta(days=1, hours=hour), interval="1h")
        for hour in range(0, 24, 2)
    ]
    history = load_history(write(tmp_path, rows), date(2024, 1, 2)).sel(asset="BTC")
    assert history["open"].values.tolist() == [100, 50]
    assert history["close"].values.tolist() == [123, 72]
    assert history["high"].values.tolist() == [123 * 1.01, 72 * 1.01]
    assert history["low"].values.tolist() == [99, 49.5]
    assert history["volume"].values.tolist() == [24, 12]
    assert history["incomplete"].values.tolist() == [False, True]
    assert int(history["n_incomplete"]) == 1


def test_the_mark_is_preferred_to_the_last_trade_where_both_are_there(tmp_path):
    rows = [
        bar(0, close=100.0, price_kind="last"),
        bar(1, close=101.0, price_kind="last"),
        bar(1, close=99.0, price_kind="mark"),
        bar(0, "ETH", price_kind="mark"),
        bar(1, "ETH", price_kind="mark"),
    ]
    history = load_history(write(tmp_path, rows), date(2024, 1, 2))
    assert history["close"].sel(asset="BTC").values.tolist() == [100, 99]
    assert history["price_kind"].values.tolist() == ["mixed", "mark"]


def test_a_bad_print_is_clipped_to_the_longest_other_wick_and_counted(tmp_path):
    rows = [bar(0, name) for name in "ABC"]
    rows += [bar(1, "A", low=0.01), bar(1, "B", low=90.0), bar(1, "C", low=80.0)]
    folder = write(tmp_path, rows)
    history = load_history(folder, date(2024, 1, 2))
    assert history["low"].sel(asset="A").values[1] == pytest.approx(80.0, rel=1e-12)
    assert history["n_bad_prints"].values.tolist() == [1, 0, 0]
    raw = load_history(folder, date(2024, 1, 2), wick_filter=False)
    assert raw["low"].sel(asset="A").values[1] == 0.01
    assert raw["n_bad_prints"].values.tolist() == [1, 0, 0]


def test_a_crash_of_the_whole_market_is_not_a_bad_print(tmp_path):
    rows = [bar(0, name) for name in "ABC"]
    rows += [bar(1, name, low=low) for name, low in zip("ABC", (50.0, 55.0, 60.0), strict=True)]
    history = load_history(write(tmp_path, rows), date(2024, 1, 2))
    assert history["low"].values[1].tolist() == [50, 55, 60]


def test_a_wick_of_a_mark_price_is_never_clipped(tmp_path):
    rows = [bar(0, price_kind="mark"), bar(1, low=0.01, price_kind="mark")]
    history = load_history(write(tmp_path, rows), date(2024, 1, 2))
    assert history["low"].values[1, 0] == 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"close": float("nan")}, r"prices.parquet row 1 \(BTC, .*\): close is not a number above"),
        ({"low": 0.0}, "low is not a number above zero"),
        ({"high": float("inf")}, "high is not a number above zero"),
        ({"high": 90.0}, "open or close lies outside low and high"),
        ({"low": 100.5}, "open or close lies outside low and high"),
        ({"asset": None}, "no asset"),
        ({"interval": "2h"}, "unknown interval"),
        ({"price_kind": "bid"}, "unknown price_kind"),
        ({"ts": DAY}, r"row 1 .*this bar is there twice \(1 such rows\)"),
    ],
)
def test_a_bad_row_is_named_with_its_fix(tmp_path, changes, message):
    rows = [bar(0, interval="1d", price_kind="last"), bar(1) | changes]
    with pytest.raises(DataError, match=message):
        load_history(write(tmp_path, rows), date(2024, 1, 1))


def test_a_column_of_text_a_zoneless_stamp_and_a_missing_column_are_refused(tmp_path):
    good = pq.read_table(write(tmp_path, [bar()]) / "prices.parquet")
    cases = {
        "column close is string": good.set_column(5, "close", pa.array(["100"])),
        "column ts is timestamp": good.set_column(0, "ts", good["ts"].cast(pa.timestamp("ms"))),
        "missing column volume": good.drop_columns("volume"),
    }
    for message, table in cases.items():
        pq.write_table(table, tmp_path / "prices.parquet")
        with pytest.raises(DataError, match=message):
            load_history(tmp_path, date(2024, 1, 1))


def test_a_missing_truncated_or_empty_file_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_history(tmp_path / "none.parquet", date(2024, 1, 1))
    file = write(tmp_path, [bar()]) / "prices.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="has no rows"):
        load_history(tmp_path / "empty.parquet", date(2024, 1, 1))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load_history(tmp_path, date(2024, 1, 1))


@pytest.mark.parametrize("day", [date(2023, 12, 31), date(2024, 1, 2)])
def test_an_as_of_outside_the_history_is_a_config_error(tmp_path, day):
    with pytest.raises(ConfigError, match="runs from 2024-01-01 to 2024-01-01"):
        load_history(write(tmp_path, [bar()]), day)


def test_an_asset_without_prices_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="no prices for XYZ"):
        load_history(write(tmp_path, [bar()]), date(2024, 1, 1), assets=["BTC", "XYZ"])


def test_real_crashes_survive_the_wick_filter_and_links_bad_print_does_not(market_data):
    file = market_data / "ohlcv_daily.parquet"
    raw = load_history(file, date(2025, 6, 29), wick_filter=False)
    history = load_history(file, date(2025, 6, 29))
    assert history.sizes["asset"] == 20
    found = history["bad_print"].to_series()
    assert [(str(day.date()), asset) for day, asset in found[found].index] == [
        ("2017-11-06", "BNB"),  # first day of trading
        ("2018-05-04", "XRP"),  # first day of trading
        ("2020-03-12", "LINK"),
        ("2020-09-17", "UNI"),  # first day of trading
        ("2020-10-15", "FIL"),  # first day of trading
    ]
    for day in ("2021-05-19", "2021-12-04", "2022-11-08", "2024-08-05", "2025-02-03"):
        assert (history["low"].sel(day=day) == raw["low"].sel(day=day)).sum() >= 19
    black = history["low"].sel(day="2020-03-12") / history["close"].sel(day="2020-03-11") - 1
    assert float(black.sel(asset="BTC")) == pytest.approx(-0.4442, abs=5e-5)
    assert -0.60 < float(black.sel(asset="LINK")) < -0.48


def test_the_flags_of_a_day_do_not_change_as_history_grows(market_data):
    file = market_data / "ohlcv_daily.parquet"
    early = load_history(file, date(2020, 3, 12))
    late = load_history(file, date(2020, 6, 1)).sel(day=early["day"], asset=early["asset"])
    assert early["low"].equals(late["low"])
    assert early["high"].equals(late["high"])


def test_hourly_marks_of_an_exchange_aggregate_to_complete_days(market_data, tmp_path):
    table = pq.read_table(market_data / "perp_hourly_mark" / "ETH.parquet")
    n = len(table)
    for name, values in {
        "asset": pa.array(["ETH"] * n),
        "volume": pa.nulls(n, pa.float64()),
        "interval": pa.array(["1h"] * n),
        "price_kind": pa.array(["mark"] * n),
    }.items():
        table = table.append_column(name, values)
    pq.write_table(table, tmp_path / "prices.parquet")
    history = load_history(tmp_path, date(2021, 5, 19)).sel(asset="ETH")
    assert int(history["n_holes"]) == 0
    assert int(history["n_incomplete"]) <= 1  # the first day
    crash = history["low"].values[-1] / history["close"].values[-2] - 1
    assert crash == pytest.approx(-0.477, abs=5e-4)
