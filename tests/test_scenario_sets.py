"""Several methods in one night: each a set of its own, weights carried to the measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
import yaml

from risk import pipeline
from risk.config import load_config
from risk.errors import ConfigError
from risk.measures import expected_shortfall, value_at_risk
from risk.sample import write_sample
from tests.makers import drop_options

ROOT = Path(__file__).resolve().parents[1]
METHODS = ["age_weighted", "volatility_scaled", "filtered"]
PAST = ["historical", *(f"historical_{name}" for name in METHODS)]
SETS = [*PAST, "monte_carlo"]


def write_config(folder: Path, **historical) -> Path:
    values = {
        "snapshot": str(folder / "data"),
        "history": str(folder / "data" / "history"),
        "venues": str(ROOT / "configs/venues"),
        "seed": 3,
        "cells": ["venue", "asset"],
        "scenarios": {
            "historical": {"windows": 400, "gap": 0.3} | historical,
            "monte_carlo": {
                "paths": 700,
                "steps": 12,
                "block": 256,
                "model": "t_copula",
                "volatility": "garch",
                "sampling": "sobol",
                "jump_tilt": 30.0,
            },
            "grid": {"moves": [-0.5, -0.2, 0.2], "volatility": [0.0, 2.0]},
            "reverse": {"deficit_limit": 1000.0},
        },
        "execution": {"executor": "plain"},
        "out": str(folder / "runs"),
    }
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    rules = ROOT / "configs/venues"
    snapshot = write_sample(folder / "data", positions=300, seed=7, venue_rules=rules)
    # A grid multiplies implied volatilities too: what assets do alone would not add up.
    drop_options(snapshot)
    return pipeline.run(load_config(write_config(folder, also=METHODS)))


def test_every_method_is_a_set_of_its_own_in_cube_drivers_and_measures(night):
    assert sorted(night.cube.children) == sorted(SETS)
    assert sorted(night.drivers.children) == sorted(SETS)
    assert night.measures["total"]["scenario_set"].values.tolist() == SETS
    labels = [night.cube[name]["label"].values for name in PAST]
    for other in labels[1:]:
        np.testing.assert_array_equal(other, labels[0])


def test_age_weights_reach_the_published_measures(night):
    cube = night.cube["historical_age_weighted"]
    weights = cube["weight"].values
    assert weights.sum() == pytest.approx(1)
    assert weights[-1] / weights[0] == pytest.approx(0.995**-399, rel=1e-6)
    pnl = cube["pnl"].load().sum("cell").values
    total = night.measures["total"].dataset.sel(scenario_set="historical_age_weighted")
    for confidence in total["confidence"].values:
        at = total.sel(confidence=confidence).isel(group=0)
        assert float(at["value_at_risk"]) == value_at_risk(pnl, confidence, weights=weights)
        assert float(at["expected_shortfall"]) == pytest.approx(
            expected_shortfall(pnl, confidence, weights=weights), rel=1e-12
        )


def test_label_source_and_weight_of_a_scenario_survive_to_the_report(night):
    report = (night.path / "report.html").read_text(encoding="utf-8")
    facts = {row["fact_id"]: row for row in night.facts.to_pylist()}
    for name in ("historical_age_weighted", "monte_carlo"):
        cube = night.cube[name].to_dataset()
        pnl = cube["pnl"].load().sum("cell").values
        for rank, at in enumerate(np.argsort(pnl, kind="stable")[:3], 1):
            fact = facts[f"worst.{name}.{rank}"]
            assert fact["value"] == pytest.approx(pnl[at], rel=1e-12)
            label, source = (str(cube[key].values[at]) for key in ("label", "source"))
            assert fact["scope"] == f"{name}, {label}"
            weight = facts[f"worst.{name}.{rank}.weight"]["value"]
            assert weight == pytest.approx(100 * float(cube["weight"].values[at]))
            assert label in report
            assert source in report


def test_the_methods_share_their_windows_and_differ_in_their_moves(night):
    low = {name: night.drivers[name]["low"].values for name in PAST}
    np.testing.assert_array_equal(low["historical"], low["historical_age_weighted"])
    assert (low["historical"] != low["historical_filtered"]).mean() > 0.5
    assert (low["historical_volatility_scaled"] != low["historical_filtered"]).mean() > 0.5


def test_tilted_paths_carry_their_weights_over_all_blocks(night):
    weights = night.cube["monte_carlo"]["weight"].values
    assert weights.sum() == pytest.approx(1)
    calibration = xr.open_zarr(night.path / "calibration.zarr", consolidated=False)
    # Without a common jump in the history there is nothing to tilt.
    assert (np.ptp(weights) > 0) == (float(calibration["common_intensity"]) > 0)
    assert {"copula_df", "margin_df", "tail_exponent_falls"} <= set(calibration)
    assert calibration.attrs["volatility_model"] == "garch"
    pnl = night.cube["monte_carlo"]["pnl"].load().sum("cell").values
    total = night.measures["total"].dataset.sel(scenario_set="monte_carlo", confidence=0.99)
    at = total.isel(group=0)
    assert float(at["value_at_risk"]) == value_at_risk(pnl, 0.99, weights=weights)


def test_grids_hold_a_number_for_every_move_and_the_cells_behind_it(night):
    cells = pq.read_table(night.path / "grid_cells.parquet")
    common = xr.open_zarr(night.path / "grids.zarr", group="common", consolidated=False).load()
    asset = xr.open_zarr(night.path / "grids.zarr", group="asset", consolidated=False).load()
    assert common["pnl"].shape == (3, 2)
    # More wandering on the way to the same price closes at least as many.
    counts = common["liquidations"].values
    assert (counts[:, 1] >= counts[:, 0]).all()
    assert counts.max() > 0
    assert common["liquidations_leader"].values.max() < cells.num_rows
    # What the assets do alone adds up to what they do together: margins are isolated.
    np.testing.assert_allclose(
        asset["pnl"].sum("asset").values, common["pnl"].sel(volatility=0.0).values, rtol=1e-9
    )


def test_reverse_stress_is_verified_position_by_position(night):
    found = xr.open_zarr(night.path / "reverse.zarr", consolidated=False).load()
    assert "total deficit" in found["target"].values
    there = found["found"].values
    assert there.any()
    share = found["exhaustion"].values[there]
    assert (share >= 1).all()
    np.testing.assert_allclose(found["verified"].values[there], share, rtol=1e-9)
    assert np.isnan(found["exhaustion"].values[~there]).all()


def test_a_method_named_twice_is_a_config_error(tmp_path):
    path = write_config(tmp_path, method="filtered", also=["filtered"])
    with pytest.raises(ConfigError, match="name every method once"):
        load_config(path)
