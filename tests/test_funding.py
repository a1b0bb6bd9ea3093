"""The history of funding rates: read, fitted, and paid in the windows of the past."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from risk.errors import ConfigError, DataError
from risk.instruments import Instrument
from risk.market.funding import calibrate_funding, load_funding, window_funding
from risk.pipeline.carry import book_instruments
from risk.scenarios.carry import Carry, check_pegs, ride_bars
from risk.scenarios.moves import Ratios
from tests.makers import AS_OF, contract

START = dt.datetime(2025, 3, 1, tzinfo=dt.UTC)


def write(folder, rows):
    schema = pa.schema(
        [("ts", pa.timestamp("ms", tz="UTC")), ("asset", "string"), ("funding_rate", "f8")]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "funding.parquet")


def every(hours, rates, asset="BTC", begin=START):
    return [
        {
            "ts": begin + dt.timedelta(hours=hours * (k + 1)),
            "asset": asset,
            "funding_rate": float(r),
        }
        for k, r in enumerate(rates)
    ]


def history_of(asset="BTC", n=400):
    days = np.datetime64(START.date()) + np.arange(n)
    close = np.full((n, 1), 100.0) * np.exp(np.cumsum(0.03 * np.sin(np.arange(n)))[:, None])
    return xr.Dataset(
        {"close": (("day", "asset"), close)},
        {"day": days.astype("M8[ns]"), "asset": np.array([asset], object)},
    )


def test_hourly_rates_add_up_to_ticks_of_eight_hours_and_a_hole_stays_one(tmp_path):
    rates = np.full(48, 1e-5)
    rows = every(1, rates) + every(8, [2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4], asset="ETH")
    del rows[10]  # the third hour of the second tick
    write(tmp_path, rows)
    found = load_funding(tmp_path, START.date() + dt.timedelta(days=10))
    np.testing.assert_allclose(
        found.sel(asset="BTC"), [8e-5, np.nan, 8e-5, 8e-5, 8e-5, 8e-5], rtol=1e-12
    )
    np.testing.assert_allclose(found.sel(asset="ETH"), [2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4])
    assert found["instant"].values[0] == np.datetime64("2025-03-01T08:00")


def test_nothing_after_the_as_of_is_read(tmp_path):
    write(tmp_path, every(8, np.arange(1, 13) * 1e-5))
    found = load_funding(tmp_path, START.date())
    np.testing.assert_allclose(found.sel(asset="BTC"), [1e-5, 2e-5, 3e-5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"funding_rate": 1.5}, "row 1: funding_rate 1.5 is no fraction"),
        ({"funding_rate": float("nan")}, "row 1: funding_rate nan is no fraction"),
        ({"ts": START + dt.timedelta(hours=8)}, "two rates at one instant"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, change, message):
    rows = every(8, [1e-4, 1e-4, 1e-4])
    rows[1] = rows[1] | change
    write(tmp_path, rows)
    with pytest.raises(DataError, match=message):
        load_funding(tmp_path, AS_OF)


def test_without_a_file_rates_stay_where_they_are(tmp_path):
    assert load_funding(tmp_path, AS_OF) is None
    found = calibrate_funding(None, history_of(), ["BTC", "ETH"], "BTC")
    assert found["funding_source"].values.tolist() == ["", ""]
    assert "funding_level" not in found


def test_the_fit_finds_an_autoregression_within_its_errors(tmp_path):
    """Level, persistence and spread of a simulated path, within three standard errors."""
    rng = np.random.default_rng(7)
    level, persistence, sd = 1e-4, 0.7, 5e-5
    rates = [level]
    for shock in rng.standard_normal(1095):
        rates.append(level + persistence * (rates[-1] - level) + sd * shock)
    write(tmp_path, every(8, rates))
    day = START.date() + dt.timedelta(days=366)
    funding = load_funding(tmp_path, day)
    found = calibrate_funding(funding, history_of(), ["BTC", "ETH"], "BTC")
    truth = {"level": level, "persistence": persistence, "sd": sd}
    for name, value in truth.items():
        estimate, error = (float(found[f"funding_{name}{end}"][0]) for end in ("", "_se"))
        assert 0 < error < abs(value)
        assert abs(estimate - value) < 3 * error, name
    assert float(found["funding_explained"][0]) == pytest.approx(persistence**2, abs=0.06)
    # An asset without rates takes bitcoin's and says so.
    assert found["funding_source"].values.tolist() == ["BTC", "BTC"]
    residual = found["funding_residual"].values
    np.testing.assert_array_equal(residual[0], residual[1])
    assert residual[0].std() == pytest.approx(1.0, abs=0.01)


def test_real_rates_are_persistent_and_their_level_is_positive(market_data, tmp_path):
    table = pq.read_table(market_data / "funding_binance.parquet")
    kept = table.select(["ts", "asset", "funding_rate"])
    pq.write_table(kept, tmp_path / "funding.parquet")
    funding = load_funding(tmp_path, dt.date(2025, 6, 29))
    found = calibrate_funding(funding, history_of(), ["BTC", "ETH", "XRP", "LINK"], "BTC")
    own = found.sel(asset=["BTC", "ETH", "XRP"])
    assert (own["funding_ticks"] == 1095).all()
    assert ((own["funding_persistence"] > 0.5) & (own["funding_persistence"] < 0.97)).all()
    assert ((own["funding_level"] > 0) & (own["funding_level"] < 3e-4)).all()
    assert (own["funding_persistence_se"] < 0.05).all()


def test_a_window_pays_what_is_settled_after_its_start_to_its_end(tmp_path):
    write(tmp_path, every(8, [1e-4, 2e-4, 3e-4, 4e-4, 5e-4]))
    funding = load_funding(tmp_path, AS_OF)
    starts = np.array(["2025-03-01", "2025-03-02", "2025-03-05"], "M8[ns]")
    paid, missing = window_funding(
        funding, ["BTC", "XRP"], starts, starts + np.timedelta64(24, "h")
    )
    np.testing.assert_allclose(paid, [[6e-4, 0], [9e-4, 0], [0, 0]], atol=1e-18)
    assert missing.tolist() == [[0, 3], [1, 3], [3, 3]]


def test_bars_owe_funding_at_the_extreme_it_makes_worse():
    low, high, last = np.array([[0.8]]), np.array([[1.2]]), np.array([[1.1]])
    swap = Instrument("BTC / perpetual USDT", "BTC", "USDT", False, 1e-4, 0.0, None)
    coin = Instrument("BTC / perpetual BTC", "BTC", "BTC", True, 1e-4, 0.0, None)
    paid = np.array([[0.01, 0.01]])
    found = ride_bars(Ratios(low, high, last), ["BTC"], [swap, coin], paid, horizon_days=1)
    owed, owed_coin = 0.01 * (1 + 1.1) / 2, 0.01 * (1 + 1 / 1.1) / 2
    np.testing.assert_allclose(found.last[0], [1.1 - owed, 1 / (1 / 1.1 + owed_coin)])
    np.testing.assert_allclose(found.low[0], [0.8 - owed, 1 / (1 / 0.8 + owed_coin)])
    np.testing.assert_allclose(found.high[0], [1.2, 1.2])
    back = ride_bars(Ratios(low, high, last), ["BTC"], [swap, coin], -paid, horizon_days=1)
    np.testing.assert_allclose(back.low[0], [0.8, 0.8])
    np.testing.assert_allclose(back.high[0], [1.2 + owed, 1 / (1 / 1.2 - owed_coin)])


def test_bars_settle_a_future_at_the_root_of_its_time():
    low, high, last = np.array([[0.64]]), np.array([[1.21]]), np.array([[0.81]])
    due = Instrument("BTC / 250630 USDT", "BTC", "USDT", False, None, 0.01, 0.25)
    found = ride_bars(Ratios(low, high, last), ["BTC"], [due], np.zeros((1, 1)), horizon_days=1)
    np.testing.assert_allclose([found.last.item(), found.low.item(), found.high.item()],
                               [0.9 / 1.01, 0.8 / 1.01, 1.1])  # fmt: skip


def test_an_instrument_is_made_of_every_contract_of_its_name():
    listed = [
        contract(venue="a", funding_rate=1e-4, volume_24h_usd=3e6),
        contract(venue="b", funding_rate=1e-4, funding_interval_hours=4.0, volume_24h_usd=1e6),
        contract("BTC/USDT:USDT-250926", mark_price=101_000.0, index_price=100_000.0),
        contract("ETH/USDT:USDT"),
    ]
    book = pa.table(
        {
            "status": ["ok", "ok", "unpriced"],
            "asset": ["BTC", "BTC", "ETH"],
            "settle": ["USDT"] * 3,
            "kind": ["linear_perpetual", "linear_future", "linear_perpetual"],
            "symbol": ["BTC/USDT:USDT", "BTC/USDT:USDT-250926", "ETH/USDT:USDT"],
        }
    )
    future, swap = book_instruments(book, pa.Table.from_pylist(listed), AS_OF)
    assert (swap.name, future.name) == ("BTC / perpetual USDT", "BTC / 250926 USDT")
    # Twice the rate at half the interval, a quarter of the volume.
    assert swap.funding_rate == pytest.approx(0.75 * 1e-4 + 0.25 * 2e-4)
    assert future.basis == pytest.approx(0.01)
    assert future.expiry_days == pytest.approx(88 + 1 / 3)
    assert Carry.from_dict(Carry((swap, future)).to_dict()) == Carry((swap, future), pegs={})


@pytest.mark.parametrize("peg", [(1.5, 0.9), (0.1, 0.0), (0.1, float("nan"))])
def test_a_peg_that_cannot_be_lost_like_that_is_refused(peg):
    with pytest.raises(ConfigError, match="USDC loses its peg"):
        check_pegs({"USDC": peg})
