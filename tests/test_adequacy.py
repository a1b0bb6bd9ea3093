"""Margin adequacy: totals against a loop, allowances against counting, the night's artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from risk import pipeline
from risk.config import load_config
from risk.drivers import scale_moves
from risk.market.stressed import volatility_multiples
from risk.measures.adequacy import (
    ALL,
    LEVERAGE_EDGES,
    LEVERAGE_LABELS,
    REQUIREMENTS,
    adequacy_table,
    jump_allowance,
    tool_margins,
)
from risk.sample import write_sample
from tests.books import drivers_of, random_path
from tests.test_calibration import history_of, t_returns
from tests.test_pipeline import write_config

ROOT = Path(__file__).resolve().parents[1]
seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds)
@settings(max_examples=15)
def test_every_row_is_what_a_loop_over_its_positions_adds_up(seed):
    rng = np.random.default_rng(seed)
    n = 60
    names = ("notional", "equity", *REQUIREMENTS, "unit")
    columns = {name: rng.lognormal(0, 1.5, n) for name in names}
    columns |= {name: rng.normal(size=n) for name in ("price_moved", "probability_moved")}
    columns["deficit_moved"] = rng.normal(size=n)
    asset = rng.integers(0, 2, n)
    table = adequacy_table(["BTC", "ETH"], asset, columns).to_pylist()
    assert (
        sum(row["n_positions"] for row in table if ALL not in (row["asset"], row["leverage"])) == n
    )
    for row in table:
        inside = []
        for i in range(n):
            leverage = columns["notional"][i] / columns["equity"][i]
            label = [
                x for e, x in zip(LEVERAGE_EDGES, LEVERAGE_LABELS, strict=True) if leverage >= e
            ]
            is_asset = row["asset"] in (ALL, ["BTC", "ETH"][asset[i]])
            if is_asset and row["leverage"] in (ALL, label[-1]):
                inside.append({name: float(values[i]) for name, values in columns.items()})
        total = sum(one["notional"] for one in inside)
        wanted = {
            "n_positions": len(inside),
            "under": sum(one["notional"] for one in inside if one["equity"] < one["required"]),
            "excess": sum(max(one["equity"] - one["required"], 0) for one in inside),
            "floor": sum(one["floor"] for one in inside),
            "buffer_call": sum(max(one["buffer"] - one["equity"], 0) for one in inside),
            "covered_995": sum(
                one["notional"] for one in inside if one["equity"] >= one["required_995"]
            ) / total,
            "probability_moved": sum(
                one["probability_moved"] * one["notional"] for one in inside
            ) / total,
            "deficit_moved": sum(one["deficit_moved"] for one in inside),
        }  # fmt: skip
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
        assert row["under"] + row["over"] == pytest.approx(row["notional"])


@given(seed=seeds, target=st.floats(0.001, 0.5))
@settings(max_examples=25)
def test_the_allowance_leaves_the_target_share_of_evenly_laid_triggers_overshot(seed, target):
    """A jump of length l lands more than m beyond the triggers in its first l - m."""
    rng = np.random.default_rng(seed)
    swept = rng.exponential(0.05, 30)
    length = swept * rng.random(30) * (rng.random(30) < 0.5)
    weight = rng.exponential(size=30)
    weight /= weight.sum()
    found = jump_allowance(length, weight, float(weight @ swept), target)
    way = float(weight @ swept)
    if found == 0:
        assert weight @ length <= target * way + 1e-12
    else:
        direct = float(weight @ np.maximum(length - found, 0.0)) / way
        assert direct == pytest.approx(target, rel=1e-9)


def test_tools_never_ask_for_less_and_none_costs_nothing_when_calm_is_stressed():
    required = np.array([10.0, 20.0])
    tools = tool_margins(required, required, required, buffer=0.0)
    for values in tools.values():
        np.testing.assert_allclose(values, required)
    for values in tool_margins(required, 0.5 * required, 0.5 * required).values():
        assert (values >= required).all()


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_moves_in_another_volatility_are_the_same_paths_scaled_before_they_are_recorded(seed):
    rng = np.random.default_rng(seed)
    paths = {a: [random_path(rng) for _ in range(8)] for a in ("BTC", "ETH")}
    multiple = {"BTC": 2.0, "ETH": 0.5}
    scaled = {a: [[(k, x ** multiple[a]) for k, x in p] for p in paths[a]] for a in paths}
    found = scale_moves(drivers_of(paths), np.array([2.0, 0.5]))
    wanted = drivers_of(scaled)
    for name in ("low", "high", "last", "gap_before", "gap_landing"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12)


def test_volatility_that_doubled_long_ago_is_the_stressed_one():
    returns = t_returns(4, 1500, 30.0, 0.3, 2) * 0.02
    returns[400:600] *= 3
    history = history_of(returns, ["BTC", "ETH"])
    today = xr.DataArray([0.02, 0.02], dims="asset", coords={"asset": ["BTC", "ETH"]})
    found = volatility_multiples(history, ["BTC", "ETH"], today)
    np.testing.assert_allclose(found.stressed, 3.0, rtol=0.15)
    expected = np.sqrt((1300 + 200 * 9) / 1500)
    np.testing.assert_allclose(found.long_run, expected, rtol=0.1)


def test_a_night_says_who_is_under_margined_and_prints_it(tmp_path):
    write_sample(tmp_path, positions=300, seed=3, venue_rules=ROOT / "configs/venues")
    sets = ["historical", "monte_carlo"]
    config = load_config(write_config(tmp_path, tmp_path), margin__adequacy=sets)
    run = pipeline.run(config)
    table = pq.read_table(run.path / "margin_adequacy.parquet")
    for name in sets:
        whole = table.filter(
            pc.and_(pc.equal(table["scenario_set"], name), pc.equal(table["leverage"], ALL))
        ).to_pylist()[0]
        rows = run.positions.filter(pc.equal(run.positions["scenario_set"], name))
        need = rows["required_margin"].to_numpy(zero_copy_only=False)
        assert whole["required"] == pytest.approx(np.nansum(need))
        lacks = rows["equity_usd"].to_numpy(zero_copy_only=False) < need
        notional = rows["notional_usd"].to_numpy(zero_copy_only=False)
        assert whole["under"] == pytest.approx(np.nansum(notional[lacks]))
        assert whole["covered_99"] >= whole["covered_995"]
    tiers = pq.read_table(run.path / "margin_tiers.parquet")
    assert pc.all(pc.greater(tiers["suggested_rate"], 0)).as_py()
    # Numbers do not repeat: they are written as they are, without a dictionary or compression.
    group = pq.ParquetFile(run.path / "positions.parquet").metadata.row_group(0)
    for column in (group.column(place) for place in range(group.num_columns)):
        is_number = column.physical_type == "DOUBLE"
        assert (column.compression == "UNCOMPRESSED") == (
            is_number or column.path_in_schema == "margin_call"
        )
        assert not (is_number and column.has_dictionary_page)
    assert 'id="margin"' in (run.path / "report.html").read_text()
