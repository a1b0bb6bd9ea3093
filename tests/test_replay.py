"""Backtests: what a night may know, what counts as an exceedance, and that the flow resumes."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from risk import backtest as tests_of
from risk import pipeline
from risk.cli import run_command
from risk.config import Config
from risk.engine import run_blocks
from risk.errors import ConfigError, DataError
from risk.market.history import load_history
from risk.replay import backtest, backtest_facts, judge, judge_attribution
from risk.replay.forecast import fit_models, scenario_plan
from risk.replay.night import TABLES, check_night
from risk.replay.tables import ATTRIBUTION, DAYS, TESTS
from risk.sample import write_sample
from risk.schema import HISTORY
from tests.makers import AS_OF, RULES, drop_options, write_history, write_snapshot, write_venues
from tests.test_pipeline import ROOT

LAST = AS_OF - dt.timedelta(days=1)
#: No fee at all, so that a P&L is the exposure times the move.
FREE = {**RULES, "closing_fee_rate": 0.0, "liquidation_fee_rate": 0.0, "leftover": "fund"}


def write_bars(folder, ratios, *, first=dt.date(2025, 1, 1), start=100_000.0):
    """A history of {asset: [(low, high, last), ...]}, each day over the close before; None: hole.

    The first bar is the start itself. Returns the folder and the days.
    """
    rows = []
    n = max(len(days) for days in ratios.values())
    for asset, days in ratios.items():
        close = start
        for at, move in enumerate([(1.0, 1.0, 1.0), *days]):
            if move is None:
                continue
            stamp = dt.datetime.combine(first, dt.time(), dt.UTC) + dt.timedelta(days=at)
            low, high, last = (close * part for part in move)
            rows.append({"ts": stamp, "asset": asset, "open": close, "high": max(high, close),
                         "low": min(low, close), "close": last, "volume": 1.0})  # fmt: skip
            close = last
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=HISTORY), folder / "prices.parquet")
    return [first + dt.timedelta(days=at) for at in range(n + 1)]


def make_config(folder, *, positions=None, history=None, windows=4, levels=(0.75,), **changes):
    """A backtest of one long BTC contract at 100,000, ten times leverage, no fees."""
    snapshot = write_snapshot(folder / "book", positions=positions or [{}], venues={})
    write_venues(folder / "venues", {"binance": FREE})
    values = {
        "snapshot": snapshot,
        "history": history or folder / "history",
        "venues": folder / "venues",
        "seed": 1,
        "cells": ["side"],
        "scenarios": {"historical": {"windows": windows, "gap": 0.0}},
        "measures": {"confidence": list(levels)},
        "execution": {"executor": "plain"},
        "out": folder / "runs",
    }
    return Config.model_validate(values | changes)


def table(run, name):
    return pq.read_table(run.path / f"{name}.parquet", partitioning=None)


def move(last):
    return (min(1.0, last), max(1.0, last), last)


@pytest.fixture
def four_windows(tmp_path):
    """Four past days (-2, +1, -4, +3 %), then a day of -3 %, one of -12 % and one of +1 %."""
    moves = [0.98, 1.01, 0.96, 1.03, 0.97, 0.88, 1.01]
    days = write_bars(tmp_path / "history", {"BTC": [move(x) for x in moves]})
    return make_config(tmp_path), days


def test_a_night_by_hand(four_windows):
    config, days = four_windows
    run = backtest(config, days[4], days[6])
    first, second, third = table(run, "days").to_pylist()
    # One contract at 100,000: losses 2,000, -1,000, 4,000, -3,000; rank ceil(4 x 0.75) = 3.
    assert first["value_at_risk_usd"] == pytest.approx(2000.0)
    assert first["expected_shortfall_usd"] == pytest.approx(4000.0)
    assert first["pnl_usd"] == pytest.approx(-3000.0)
    assert first["is_exceedance"]
    assert (first["night"], first["day"]) == (days[4], days[5])
    # One of four windows is worse than -3,000: rank 2 of 5, in the middle of its interval.
    assert first["pit"] == pytest.approx(1.5 / 5)
    # The window of -2 % has left, that of -3 % has come: -1,000, 4,000, -3,000, 3,000.
    assert second["value_at_risk_usd"] == pytest.approx(3000.0)
    # The day falls 12 %, but the collateral is 10,000: more than that cannot be lost.
    assert second["pnl_usd"] == pytest.approx(-10_000.0)
    assert second["is_exceedance"]
    assert third["pnl_usd"] == pytest.approx(1000.0)
    assert not third["is_exceedance"]


def test_an_exceedance_has_a_date_and_a_cause(four_windows):
    config, days = four_windows
    run = backtest(config, days[4], days[6])
    causes = table(run, "causes").to_pylist()
    assert {row["day"] for row in causes} == {days[5], days[6]}  # the gain has no cause
    crash = [row for row in causes if row["day"] == days[6]]
    assert [(row["level"], row["label"], row["liquidations"]) for row in crash] == [
        ("asset", "BTC", 1),
        ("cell", "BTC/long", 1),
    ]
    assert crash[0]["share"] == pytest.approx(1.0)
    assert crash[0]["last"] == pytest.approx(0.88)
    sentence = table(run, "days")["cause"][1].as_py()
    assert sentence == "BTC -12.0% (low -12.0%, high +0.0%): -10,000 USD, 1 liquidated"


def test_an_equal_loss_is_no_exceedance(tmp_path):
    moves = [0.5, 1.25, 2.0, 0.5, 0.5]  # powers of two: no rounding
    days = write_bars(tmp_path / "history", {"BTC": [move(x) for x in moves]})
    config = make_config(tmp_path, positions=[{"position_margin": 1e6}])
    row = table(backtest(config, days[4], days[4]), "days").to_pylist()[0]
    assert row["value_at_risk_usd"] == -row["pnl_usd"] == 50_000.0
    assert not row["is_exceedance"]


def test_a_missing_price_is_a_missing_pnl_and_that_an_exceedance(tmp_path):
    still = [move(1.0)] * 6
    still[4] = None
    days = write_bars(tmp_path / "history", {"BTC": still, "ETH": [move(1.0)] * 6})
    config = make_config(tmp_path, windows=2)
    run = backtest(config, days[4], days[5])
    lost, closed = table(run, "days").to_pylist()
    assert lost["pnl_usd"] is None
    assert lost["is_exceedance"]
    assert lost["cause"] == f"no price on {days[5]} for BTC"
    assert closed["value_at_risk_usd"] is None  # BTC has no close on the night of the hole
    assert closed["is_exceedance"]
    assert closed["priced_share"] == 0.0
    assert closed["cause"] == f"no position could be priced on {days[5]}"
    rows = {row["test"]: row for row in table(run, "tests").to_pylist()}
    assert rows["exceedances"]["statistic"] == rows["missing"]["statistic"] == 2
    assert rows["quantile_loss"]["statistic"] is None
    assert rows["quantile_loss"]["note"].startswith("not available")


def test_an_asset_not_yet_listed_is_left_out_and_said_so(tmp_path):
    # BTC has seventy days, which the proxy's beta needs; ETH begins on the last but two.
    btc = [move(0.99 if day % 2 else 1.01) for day in range(69)] + [move(0.99)] * 4
    eth = [None] * 71 + [move(0.9), move(0.9)]
    days = write_bars(tmp_path / "history", {"BTC": btc, "ETH": eth})
    path = tmp_path / "history/prices.parquet"
    # `write_bars` puts a first bar; an unlisted asset has none.
    bars = [row for row in pq.read_table(path).to_pylist()
            if row["asset"] == "BTC" or row["ts"].date() > days[0]]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(bars, schema=HISTORY), path)
    positions = [{}, {"symbol": "ETH/USDT:USDT", "contracts": 40.0}]  # 100,000 USD each
    config = make_config(tmp_path, positions=positions, windows=2)
    run = backtest(config, days[70], days[72])
    before, listed, after = table(run, "days").to_pylist()
    assert before["priced_share"] == pytest.approx(0.5)
    assert before["pnl_usd"] == pytest.approx(-1000.0)
    assert listed["priced_share"] == pytest.approx(0.5)
    assert listed["pnl_usd"] == pytest.approx(-1000.0)
    assert after["priced_share"] == 1.0
    assert after["pnl_usd"] == pytest.approx(-11_000.0)


def test_nothing_after_the_night_enters_its_forecast(tmp_path):
    folders = [write_history(tmp_path / name, n_days=120) for name in "ab"]
    bars = pq.read_table(folders[1] / "prices.parquet")
    night = AS_OF - dt.timedelta(days=3)
    rows = bars.to_pylist()
    for row in rows:
        if row["ts"].date() > night:
            for name in ("open", "high", "low", "close"):
                row[name] *= 0.5
    pq.write_table(pa.Table.from_pylist(rows, schema=bars.schema), folders[1] / "prices.parquet")
    sets = {"historical": {"windows": 50, "gap": 0.3},
            "monte_carlo": {"paths": 300, "steps": 12, "block": 256}}  # fmt: skip
    positions = [{}, {"symbol": "ETH/USDT:USDT", "contracts": 10.0}]
    found = []
    for folder in folders:
        config = make_config(
            tmp_path / f"of-{folder.name}", positions=positions, history=folder, scenarios=sets
        )
        days = table(backtest(config, night, night), "days")
        found.append(days.select(["value_at_risk_usd", "expected_shortfall_usd"]).to_pylist())
        pnl = days["pnl_usd"][0].as_py()
    assert found[0] == found[1]
    assert len(found[0]) == 2
    assert pnl < -5_000  # the halved prices did reach the P&L


@pytest.fixture(scope="module")
def small_world(tmp_path_factory):
    """A sample book, and a config whose last night is the book's own."""
    out = tmp_path_factory.mktemp("world")
    snapshot = write_sample(out, positions=600, seed=5, venue_rules=ROOT / "configs/venues")
    # A replay holds implied volatilities where they are, unlike the night: no options here.
    drop_options(snapshot)
    rows = pq.read_table(out / "history/prices.parquet").to_pylist()
    last = max(row["ts"] for row in rows)
    extra = [row | {"ts": last + dt.timedelta(days=1), "low": 0.8 * row["low"]} for row in rows
             if row["ts"] == last]  # fmt: skip
    table_ = pa.Table.from_pylist(rows + extra, schema=HISTORY)
    pq.write_table(table_, out / "history/prices.parquet")
    return Config.model_validate(
        {
            "snapshot": out,
            "history": out / "history",
            "venues": ROOT / "configs/venues",
            "seed": 3,
            "cells": ["venue", "asset", "side"],
            "scenarios": {
                "historical": {
                    "windows": 200,
                    "gap": 0.3,
                    "also": ["age_weighted", "volatility_scaled", "filtered"],
                },
                "monte_carlo": {"paths": 700, "steps": 12, "block": 256},
                # A replayed night moves every contract with its asset.
                "carry": False,
            },
            "measures": {"confidence": [0.9, 0.99]},
            "execution": {"executor": "plain"},
            "out": out / "runs",
        }
    )


def test_the_forecast_of_the_books_own_night_is_the_nightly_runs(small_world):
    total = pipeline.run(small_world).measures["total"].dataset
    days = table(backtest(small_world, AS_OF, AS_OF), "days").to_pylist()
    assert len({row["scenario_set"] for row in days}) == 5
    for row in days:
        at = {"scenario_set": row["scenario_set"], "confidence": row["confidence"]}
        for name in ("value_at_risk", "expected_shortfall"):
            assert row[f"{name}_usd"] == pytest.approx(
                float(total[name].sel(at).values.item()), rel=1e-9
            )


def test_the_bytes_do_not_depend_on_the_executor_and_a_killed_backtest_resumes(
    small_world, tmp_path, monkeypatch
):
    first, last = AS_OF - dt.timedelta(days=5), AS_OF
    plain = small_world.scenarios.historical.model_copy(update={"also": ()})
    scenarios = small_world.scenarios.model_copy(update={"historical": plain})
    world = small_world.model_copy(update={"scenarios": scenarios})
    whole = backtest(world.model_copy(update={"out": tmp_path / "a"}), first, last)

    killed = world.model_copy(update={"out": tmp_path / "b"})
    seen = []

    def half(task, check, workspace, blocks, **settings):
        run_blocks(task, check, workspace, blocks[:3], executor="plain")
        seen.append(workspace)
        raise KeyboardInterrupt

    monkeypatch.setattr("risk.replay.run.run_blocks", half)
    with pytest.raises(KeyboardInterrupt):
        backtest(killed, first, last)
    monkeypatch.undo()
    receipts = sorted(path.name for path in (tmp_path / "b").rglob("night-*.json"))
    assert receipts == [f"night-00000{n}.json" for n in range(3)]
    # A night damaged on disk is done again; the other two are kept.
    (damaged,) = (tmp_path / "b").rglob("night-000001-days.parquet")
    damaged.write_bytes(b"half a file")
    kept = []

    def counting(*args, **settings):
        kept.append(run_blocks(*args, **settings))
        return kept[-1]

    monkeypatch.setattr("risk.replay.run.run_blocks", counting)
    execution = small_world.execution.model_copy(update={"executor": "dask", "workers": 2})
    resumed = backtest(killed.model_copy(update={"execution": execution}), first, last)
    assert kept == [2]
    assert resumed.id == whole.id
    names = sorted(path.name for path in whole.path.iterdir())
    assert names == sorted(path.name for path in resumed.path.iterdir())
    for name in names:
        if name != "manifest.json":
            assert (whole.path / name).read_bytes() == (resumed.path / name).read_bytes()
    # Asked again, the finished backtest is recognised.
    again = backtest(killed, first, last)
    assert again.path == resumed.path
    assert kept == [2]


def test_a_night_without_all_its_tables_is_not_done(tmp_path):
    from risk.engine import Block

    assert not check_night(str(tmp_path), Block("night", 0, 0, 1), dict.fromkeys(TABLES, "ab"))


def test_a_right_model_is_exceeded_as_often_as_it_says(tmp_path):
    """Independent days: the next is one more draw like the 99 windows, so P(exceed) is 10 %."""
    n, windows = 300, 99
    write_history(tmp_path / "history", ["BTC"], n_days=windows + n + 2, seed=4)
    positions = [{"position_margin": 40_000.0}]
    config = make_config(
        tmp_path, positions=positions, windows=windows, levels=(0.9,), cells=["asset"]
    )
    first = LAST - dt.timedelta(days=n - 1)
    days = table(backtest(config, first, LAST), "days")
    hits = days["is_exceedance"].to_numpy(zero_copy_only=False)
    assert len(hits) == n
    # Rank ceil(99 x 0.9) = 90 of 100: exactly 10 %. Four standard errors of 300 days are 7 %.
    assert abs(hits.mean() - 0.1) < 4 * np.sqrt(0.09 / n)
    assert stats.kstest(days["pit"].to_numpy(), "uniform").pvalue > 1e-3


def random_days(n=250, *, missing=(), seed=0):
    """Standard normal P&L against its own value at risk and shortfall at 95 %."""
    rng = np.random.default_rng(seed)
    pnl = rng.standard_normal(n)
    var, es = 1.6448536, 2.0627128
    rows = []
    for at in range(n):
        gone = at in missing
        rows.append(
            {
                "night": dt.date(2024, 1, 1) + dt.timedelta(days=at),
                "day": dt.date(2024, 1, 2) + dt.timedelta(days=at),
                "scenario_set": "historical",
                "confidence": 0.95,
                "value_at_risk_usd": var,
                "expected_shortfall_usd": es,
                "pnl_usd": None if gone else float(pnl[at]),
                "pit": None if gone else float(stats.norm.cdf(pnl[at])),
                "is_exceedance": bool(gone or -pnl[at] > var),
                "n_scenarios": 1000,
                "priced_share": 1.0,
                "cause": None,
            }
        )
    return pa.Table.from_pylist(rows, schema=DAYS)


def test_the_tests_are_those_of_the_backtest_room_on_the_days_that_have_numbers():
    missing = (3, 40)
    days = random_days(missing=missing)
    rows = {row["test"]: row for row in judge(days).to_pylist()}
    hits = days["is_exceedance"].to_numpy(zero_copy_only=False)
    x = int(hits.sum())
    pnl = days["pnl_usd"].to_numpy(zero_copy_only=False)
    kept = pnl[~np.isin(np.arange(250), missing)]
    assert (rows["exceedances"]["statistic"], rows["missing"]["statistic"]) == (x, 2)
    assert rows["kupiec"]["p_value"] == tests_of.kupiec(x, 250, 0.95).p_value
    assert rows["kupiec"]["n_days"] == 250
    assert rows["time_until_first_failure"]["statistic"] == pytest.approx(
        tests_of.time_until_first_failure(int(np.argmax(hits)) + 1, 0.95).statistic
    )
    both = tests_of.christoffersen(hits, 0.95).conditional_coverage
    row = rows["christoffersen.conditional_coverage"]
    assert (row["p_value"], row["exact_p_value"]) == (both.p_value, both.exact_p_value)
    assert rows["traffic_light"]["zone"] == tests_of.traffic_light(x, 250, 0.95).zone
    scores = tests_of.acerbi_szekely(-kept, 1.6448536, 2.0627128, 0.95)
    assert rows["acerbi_szekely.z2"]["statistic"] == pytest.approx(scores.z2)
    assert rows["acerbi_szekely.z2"]["n_days"] == 248
    assert rows["fissler_ziegel_loss"]["statistic"] == pytest.approx(
        tests_of.fissler_ziegel_loss(kept, 1.6448536, 2.0627128, 0.95)
    )
    assert rows["du_escanciano.unconditional"]["p_value"] == pytest.approx(
        tests_of.du_escanciano(stats.norm.cdf(kept), 0.95).unconditional.p_value
    )


def test_what_a_test_cannot_say_it_does_not_say():
    rows = {row["test"]: row for row in judge(random_days(1, seed=1)).to_pylist()}
    assert rows["time_until_first_failure"]["note"] == "no exceedance yet"
    for name in ("christoffersen.independence", "dynamic_quantile", "acerbi_szekely.z1"):
        assert rows[name]["statistic"] is None
        assert rows[name]["note"].startswith("not available")


def test_every_test_is_a_fact():
    tests = judge(random_days())
    facts = backtest_facts(tests, AS_OF)
    values = dict(zip(facts["fact_id"].to_pylist(), facts["value"].to_pylist(), strict=True))
    assert len(values) == facts.num_rows
    assert tests.schema.names == TESTS.names
    kupiec = tests.to_pylist()[tests["test"].to_pylist().index("kupiec")]
    assert values["backtest.historical.0.95.kupiec.statistic"] == kupiec["statistic"]
    assert values["backtest.historical.0.95.kupiec.p_value"] == kupiec["p_value"]


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (3, 5, "needs 4 days of history before it"),
        (4, 8, "is judged by the prices of"),
        (6, 4, "give the earlier night first"),
    ],
)
def test_a_period_the_history_does_not_cover_is_refused(four_windows, first, last, words):
    config, days = four_windows
    with pytest.raises(ConfigError, match=words):
        backtest(config, days[0] + dt.timedelta(first), days[0] + dt.timedelta(last))


def test_stresses_alone_cannot_be_backtested(tmp_path):
    days = write_bars(tmp_path / "history", {"BTC": [move(1.0)] * 9})
    config = make_config(tmp_path, scenarios={"stress": {"folder": ROOT / "configs/stresses"}})
    with pytest.raises(ConfigError, match="stresses have no probabilities"):
        backtest(config, days[5], days[6])


def test_a_book_nobody_can_price_is_refused(tmp_path):
    days = write_bars(tmp_path / "history", {"SOL": [move(1.0)] * 9})
    with pytest.raises(DataError, match="no position of the book can be priced"):
        backtest(make_config(tmp_path), days[5], days[6])


def test_the_command_prints_the_tests_the_exceedances_and_the_counts(
    four_windows, tmp_path, capsys
):
    config, days = four_windows
    path = tmp_path / "backtest.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))  # YAML is a superset of JSON
    tokens = ["backtest", path, "--from", days[4], "--to", days[6], "--executor", "plain"]
    assert run_command([str(token) for token in tokens]) == 0
    out = capsys.readouterr().out
    assert f"Backtest of the nights {days[4]} to {days[6]}" in out
    assert "2 exceedances of the historical VaR at 0.75" in out
    assert "BTC -12.0%" in out
    assert "Liquidations, predicted and realised" in out


def write_prices(folder, closes):
    """Daily bars of {asset: closes or None}, low and high at open and close; None: not listed."""
    rows = []
    n = max(len(series) for series in closes.values())
    for asset, series in closes.items():
        before = None
        for at, close in enumerate(series):
            if close is not None:
                start = before or close
                stamp = dt.datetime(2025, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=at)
                rows.append({"ts": stamp, "asset": asset, "open": start, "close": close,
                             "high": max(start, close), "low": min(start, close),
                             "volume": 1.0})  # fmt: skip
            before = close
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=HISTORY), folder / "prices.parquet")
    return [dt.date(2025, 1, 1) + dt.timedelta(days=at) for at in range(n)]


@pytest.fixture
def young_asset(tmp_path):
    """BTC with 200 days; SOL, listed on day 120, moves as BTC does and half as much again."""
    rng = np.random.default_rng(6)
    returns = rng.normal(0, 0.02, 199)
    btc = 100_000 * np.cumprod(np.r_[1.0, 1 + returns])
    sol = 150 * np.cumprod(np.r_[1.0, 1 + 1.5 * returns])
    days = write_prices(
        tmp_path / "history", {"BTC": list(btc), "SOL": [None] * 120 + list(sol[120:])}
    )
    positions = [
        {"position_margin": 90_000.0},
        {"symbol": "SOL/USDT:USDT", "contracts": 600.0, "position_margin": 80_000.0,
         "entry_price": 150.0},
    ]  # fmt: skip
    return days, positions


def test_a_proxied_asset_is_held_against_its_real_move(young_asset, tmp_path):
    days, positions = young_asset
    config = make_config(tmp_path, positions=positions, windows=100)
    run = backtest(config, days[185], days[198 - 1])
    rows = table(run, "attribution").to_pylist()
    assert [row["night"] for row in rows] == days[185:198]
    assert {row["proxied"] for row in rows} == {"SOL"}
    tests = {row["test"]: row for row in table(run, "tests").to_pylist()}
    for of in ("book", "proxied"):
        row = tests[f"pnl_attribution.{of}.spearman"]
        real, model = (
            [one[("" if of == "book" else "proxied_") + name] for one in rows]
            for name in ("hypothetical_usd", "theoretical_usd")
        )
        expected = tests_of.pnl_attribution(real, model)
        assert (row["statistic"], row["zone"]) == (expected.spearman, None)
        assert row["note"] == "no zone: its limits are for 250 days"
        assert row["n_days"] == 13
        distance = tests[f"pnl_attribution.{of}.kolmogorov_smirnov"]
        assert distance["statistic"] == expected.kolmogorov_smirnov
    # The beta is fitted on days on which SOL is BTC and half: the proxy is all but right.
    assert tests["pnl_attribution.book.spearman"]["statistic"] > 0.99
    booked = {row["night"]: row["pnl_usd"] for row in table(run, "days").to_pylist()}
    for row in rows:
        assert row["hypothetical_usd"] == booked[row["night"]]
        # BTC has its own moves on both sides.
        real, model = (
            row[f"{kind}_usd"] - row[f"proxied_{kind}_usd"]
            for kind in ("hypothetical", "theoretical")
        )
        assert real == pytest.approx(model)


def test_the_theoretical_pnl_is_beta_times_the_market_by_hand(young_asset, tmp_path):
    days, positions = young_asset
    config = make_config(tmp_path, positions=positions, windows=100)
    night = days[190]
    (row,) = table(backtest(config, night, night), "attribution").to_pylist()
    bars = load_history(tmp_path / "history", night)
    held = ["BTC", "SOL"]
    models = fit_models(bars, scenario_plan(config, 1), held, held)
    beta = float(models.calibration["factor_beta"].sel(asset="SOL").sum())
    closes = load_history(tmp_path / "history", night + dt.timedelta(days=1))["close"]
    move_of_btc = float(closes.sel(asset="BTC")[-1] / closes.sel(asset="BTC")[-2]) - 1
    assert row["proxied_theoretical_usd"] == pytest.approx(600 * 150 * beta * move_of_btc)


def test_a_year_of_attribution_has_a_zone():
    rng = np.random.default_rng(1)
    real = rng.normal(0, 1, 250)
    model = 0.9 * real + 0.1 * rng.normal(0, 1, 250)
    rows = [
        {"night": AS_OF, "day": AS_OF, "proxied": "SOL", "proxied_share": 0.5,
         "hypothetical_usd": a, "theoretical_usd": b, "proxied_hypothetical_usd": a,
         "proxied_theoretical_usd": -b}
        for a, b in zip(real, model, strict=True)
    ]  # fmt: skip
    found = judge_attribution(pa.Table.from_pylist(rows, schema=ATTRIBUTION)).to_pylist()
    zones = {row["test"]: row["zone"] for row in found}
    assert zones["pnl_attribution.book.spearman"] == tests_of.pnl_attribution(real, model).zone
    assert zones["pnl_attribution.proxied.kolmogorov_smirnov"] == "red"


def test_without_a_proxy_attribution_is_not_applicable(four_windows):
    config, days = four_windows
    run = backtest(config, days[4], days[6])
    assert table(run, "attribution").num_rows == 0
    for row in table(run, "tests").to_pylist():
        if row["test"].startswith("pnl_attribution"):
            assert row["statistic"] is None
            assert row["zone"] is None
            assert row["note"] == "not applicable: no asset of the book is proxied"


@pytest.mark.slow
def test_a_real_year_of_nights(market_data, tmp_path):
    """250 nights on real prices: longs of 3 to 30 times leverage on four assets.

    On 2024-08-05 ETH fell 21.5 % within the day and closed 10 % down; on 2025-03-03 it closed
    14.7 % down.
    """
    positions = [
        {"position_id": f"{asset}-{leverage}", "symbol": f"{asset}/USDT:USDT", "leverage": leverage,
         "contracts": 100_000 / price, "entry_price": price, "position_margin": 100_000 / leverage}
        for asset, price in (("BTC", 100_000.0), ("ETH", 2_500.0), ("SOL", 150.0), ("XRP", 10.0))
        for leverage in (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 30.0)
    ]  # fmt: skip
    config = make_config(
        tmp_path,
        positions=positions,
        history=market_data / "ohlcv_daily.parquet",
        windows=1000,
        levels=(0.975, 0.99),
        execution={"executor": "dask", "workers": 2},
    )
    run = backtest(config, dt.date(2024, 7, 1), dt.date(2025, 3, 7))
    days = table(run, "days").to_pylist()
    top = [row for row in days if row["confidence"] == 0.99]
    assert len(top) == 250
    assert all(row["priced_share"] == 1.0 and row["pnl_usd"] is not None for row in top)
    hits = {row["day"] for row in top if row["is_exceedance"]}
    assert {dt.date(2024, 8, 5), dt.date(2025, 3, 3)} <= hits
    assert len(hits) < 10  # red would be a broken model or a broken backtest
    crash = next(row for row in top if row["day"] == dt.date(2024, 8, 5))
    assert crash["cause"].startswith("ETH -10.0% (low -21.5%")
