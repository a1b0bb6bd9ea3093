"""A night on real hours and minutes: marks before last trades, a measured gap rule, all of it told.

The history mixes what an exchange publishes: daily bars of last trades, hourly marks and hourly
last trades of the perpetuals, and five-minute bars of the crash of August 2024.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from risk import open_run
from risk.commands import run
from risk.market.history import load_history
from risk.sample import write_sample
from tests.test_reports import assert_every_number_is_a_fact

ROOT = Path(__file__).resolve().parents[1]
DAY, FIRST = date(2024, 8, 9), date(2023, 12, 1)
ASSETS = ["BTC", "ETH", "LINK", "SOL", "XRP"]
MARKS, LAST = ["BTC", "ETH", "XRP"], ["BTC", "SOL"]
PRICES = ("open", "high", "low", "close")


def bars_of(file: Path, first: date, interval: str, kind: str, asset: str | None = None):
    """Rows of a price file from `first` to the day, as a history takes them."""
    table = pq.read_table(file)
    stamp = table["ts"].to_numpy().astype("M8[D]")
    near = (stamp >= np.datetime64(first)) & (stamp <= np.datetime64(DAY))
    if asset is None:
        near &= np.isin(table["asset"].to_numpy(zero_copy_only=False), ASSETS)
    table = table.filter(pa.array(near))
    n = len(table)
    columns = {name: table[name] for name in ("ts", *PRICES)}
    columns["asset"] = table["asset"].cast("string") if asset is None else pa.array([asset] * n)
    columns["volume"] = pa.array(
        table["volume"].to_numpy().astype("f8") if "volume" in table.column_names else np.zeros(n)
    )
    columns |= {"interval": pa.array([interval] * n), "price_kind": pa.array([kind] * n)}
    return pa.table(columns)


@pytest.fixture(scope="module")
def night(tmp_path_factory, market_data):
    folder = tmp_path_factory.mktemp("hours")
    daily = folder / "daily.parquet"
    days = bars_of(market_data / "ohlcv_daily.parquet", date(2021, 1, 1), "1d", "last")
    pq.write_table(days, daily)
    write_sample(
        folder / "data", positions=400, seed=5, as_of=DAY, history=daily,
        venue_rules=ROOT / "configs/venues",
    )  # fmt: skip
    hours = [
        bars_of(market_data / source / f"{name}.parquet", FIRST, "1h", kind, name)
        for source, kind, names in (
            ("perp_hourly_mark", "mark", MARKS), ("perp_hourly_last", "last", LAST),
        )
        for name in names
    ]  # fmt: skip
    crash = bars_of(market_data / "perp_5m_crisis_2024_08.parquet", date(2024, 8, 1), "5m", "last")
    # A bad print of the last trade of an hour: SOL has no mark to overrule it.
    hours[-1] = _with_bad_print(hours[-1])
    pq.write_table(
        pa.concat_tables([days, *hours, crash]), folder / "data" / "history" / "prices.parquet"
    )
    values = {
        "snapshot": str(folder / "data"),
        "history": str(folder / "data" / "history"),
        "venues": str(ROOT / "configs/venues"),
        "as_of": DAY,
        "seed": 3,
        "cells": ["venue", "asset"],
        "scenarios": {
            "historical": {
                "windows": 600, "gap": "calibrated", "interval": "1h", "step_hours": 6,
                "also": ["age_weighted"],
            },
            "stress": {"folder": str(ROOT / "configs/stresses")},
        },
        "execution": {"executor": "plain"},
        "out": str(folder / "runs"),
    }  # fmt: skip
    (folder / "night.yaml").write_text(yaml.safe_dump(values))
    run(folder / "night.yaml")
    return folder, open_run(folder / "runs")


def _with_bad_print(table: pa.Table) -> pa.Table:
    low = table["low"].to_numpy().copy()
    stamp = table["ts"].to_numpy().astype("M8[h]")
    low[stamp == np.datetime64("2024-03-06T03")] = 0.5
    return table.set_column(table.column_names.index("low"), "low", pa.array(low))


def facts_of(run) -> dict[str, float]:
    columns = [run.facts[name].to_pylist() for name in ("fact_id", "value")]
    return dict(zip(*columns, strict=True))


def test_windows_begin_every_six_hours_and_jump_by_the_measured_share(night):
    _, run = night
    drivers = run.drivers["historical"].to_dataset().load()
    assert drivers["label"].values[-1] == "2024-08-10T00:00Z"
    assert drivers["label"].values[-2] == "2024-08-09T18:00Z"
    assert drivers.sizes["scenario"] == 600
    # 22 % of bitcoin's and 23 % of Solana's fall of 5 August came in one bar of five minutes.
    fall = drivers["gap_direction"].values < 0
    low = drivers["low"].values[drivers["gap_scenario"].values, drivers["gap_asset"].values]
    share = (drivers["gap_before"].values - low) / (1 - np.minimum(low, 0.999999))
    np.testing.assert_allclose(share[fall], 0.24, atol=1e-9)
    weights = run.cube["historical_age_weighted"]["weight"].values
    assert weights[-1] / weights[-5] == pytest.approx(1 / 0.995)


def test_the_mark_is_used_where_there_is_one_and_the_last_trade_is_filtered(night):
    folder, _ = night
    hours = load_history(folder / "data" / "history", DAY, interval="1h")
    marks = pq.read_table(folder / "data" / "history" / "prices.parquet")
    marks = marks.filter(
        pc.and_(pc.equal(marks["price_kind"], "mark"), pc.equal(marks["asset"], "BTC"))
    )
    np.testing.assert_array_equal(
        hours["low"].sel(asset="BTC").values[-len(marks) :], marks["low"].to_numpy()
    )
    assert hours["price_kind"].sel(asset=["BTC", "SOL"]).values.tolist() == ["mark", "last"]
    clipped = float(hours["low"].sel(asset="SOL", hour="2024-03-06T03"))
    assert clipped > 50
    assert int(hours["n_bad_prints"].sel(asset="SOL")) == 1


def test_the_report_says_which_rule_where_it_was_measured_and_what_it_is_worth(night):
    _, run = night
    facts = facts_of(run)
    assert facts["prices.gap"] == 24
    assert facts["prices.asset.SOL.n_bad_prints"] == 1
    assert facts["prices.asset.BTC.n_bad_prints"] == 0
    # LINK has daily bars alone: proxied in every hourly window, with its share of the notional.
    assert facts["prices.asset.LINK.proxied"] == 100
    assert 0 < facts["prices.asset.LINK.notional"] <= facts["prices.proxied_notional"]
    shares = [facts["gap.0.share"], facts["gap.1.share"], facts["gap.2.share"]]
    assert shares == [0, pytest.approx(24), 100]
    for name in ("probability", "mean", "expected_shortfall", "worst"):
        at = [facts[f"gap.{place}.deficit_{name}"] for place in range(3)]
        assert at[0] <= at[1] <= at[2]
        assert at[1] < at[2]
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert_every_number_is_a_fact(report, run.facts)
    assert "the largest share of the wild days measured on bars of five minutes" in report
    wild = [row for row in run.facts.to_pylist() if row["fact_id"].endswith("wild.0.share")]
    assert wild[0]["value"] == pytest.approx(23.4, abs=0.1)
    assert "SOL" in wild[0]["scope"]


def test_the_rules_own_column_is_what_the_cube_holds(night):
    _, run = night
    facts, cube = facts_of(run), run.cube["historical"].to_dataset()
    deficit = cube["deficit"].load().sum("cell").values
    assert facts["gap.1.deficit_worst"] == pytest.approx(deficit.max(), rel=1e-9)
    assert facts["gap.1.deficit_mean"] == pytest.approx(deficit.mean(), rel=1e-9)
    assert facts["gap.1.deficit_probability"] == pytest.approx(100 * (deficit > 0).mean())
    tail = np.sort(deficit)[-6:]  # one in a hundred of 600
    assert facts["gap.1.deficit_expected_shortfall"] == pytest.approx(tail.mean(), rel=1e-9)
