"""Measuring a cube: sum first, measure after, whatever its storage and size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from risk.errors import DataError
from risk.measures import cube as measuring
from risk.measures import (
    expected_shortfall,
    expected_shortfall_contributions,
    expected_shortfall_interval,
    measure_cube,
    rollup,
    value_at_risk,
    value_at_risk_interval,
)
from risk.schema import CUBE

LEVELS = ["venue", "asset", "side"]
CONFIDENCES = [0.95, 0.975, 0.99]


def make_set(n: int, n_cells: int, seed: int, weight: np.ndarray | None = None) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    labels = {
        "venue": rng.choice(["alpha", "beta", "gamma"], n_cells),
        "asset": rng.choice([f"A{k}" for k in range(7)], n_cells),
        "side": rng.choice(["long", "short"], n_cells),
    }
    data = {
        name: (("scenario", "cell"), rng.standard_t(4, size=(n, n_cells)) * 1e4) for name in CUBE
    }
    for name in ("deficit", "liquidated_notional", "venue_gain", "market_cost"):
        data[name] = (data[name][0], np.maximum(data[name][1] - 2e4, 0))
    for name in ("liquidations", "stops"):
        data[name] = (data[name][0], rng.poisson(0.3, size=(n, n_cells)).astype("i4"))
    coords = {name: ("cell", values.astype(object)) for name, values in labels.items()}
    coords["weight"] = ("scenario", np.full(n, 1 / n) if weight is None else weight)
    return xr.Dataset(data, coords=coords)


@pytest.fixture(scope="module")
def cube() -> xr.DataTree:
    return xr.DataTree.from_dict(
        {
            "historical": make_set(700, 40, 1),
            "monte_carlo": make_set(2000, 40, 1),
            "stress": make_set(6, 40, 1),
        }
    )


@pytest.fixture(scope="module")
def measures(cube) -> xr.DataTree:
    return measure_cube(cube, confidences=CONFIDENCES, levels=LEVELS)


def test_every_level_has_a_node_and_every_set_a_place(measures):
    assert list(measures.children) == ["total", *LEVELS]
    assert measures["total"].group.values.tolist() == ["all"]
    assert measures["asset"].sizes == {"scenario_set": 3, "confidence": 3, "group": 7}
    assert measures["venue"].scenario_set.values.tolist() == ["historical", "monte_carlo", "stress"]
    assert measures["venue"].expected_shortfall.dims == ("scenario_set", "confidence", "group")
    assert measures["venue"].n_scenarios.sel(scenario_set="stress", group="alpha").item() == 6


@pytest.mark.parametrize("name", ["historical", "monte_carlo"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_number_is_the_plain_measure_of_the_summed_group(cube, measures, name, level):
    data = cube[name].to_dataset()
    for group in measures[level].group.values:
        cells = np.flatnonzero(data[level].values == group)
        summed = {key: data[key].values[:, cells].sum(axis=1) for key in CUBE}
        found = measures[level].dataset.sel(scenario_set=name, group=group)
        for confidence in CONFIDENCES:
            at = found.sel(confidence=confidence)
            pnl = summed["pnl"]
            assert at.value_at_risk.item() == pytest.approx(value_at_risk(pnl, confidence))
            assert at.expected_shortfall.item() == pytest.approx(
                expected_shortfall(pnl, confidence)
            )
            for key, interval in (
                ("value_at_risk", value_at_risk_interval(pnl, confidence)),
                ("expected_shortfall", expected_shortfall_interval(pnl, confidence)),
            ):
                for end in ("low", "high"):
                    expected = getattr(interval, end)
                    value = at[f"{key}_{end}"].item()
                    if expected is None:
                        assert np.isnan(value)
                    else:
                        assert value == pytest.approx(expected)
            assert at.deficit_expected_shortfall.item() == pytest.approx(
                expected_shortfall(-summed["deficit"], confidence)
            )
        assert found.deficit_expected_shortfall_999.item() == pytest.approx(
            expected_shortfall(-summed["deficit"], 0.999)
        )
        for key in CUBE:
            assert found[f"{key}_mean"].item() == pytest.approx(summed[key].mean())
        for key in ("liquidations", "liquidated_notional"):
            assert found[f"{key}_p99"].item() == pytest.approx(value_at_risk(-summed[key], 0.99))


@pytest.mark.parametrize("level", LEVELS)
def test_contributions_of_every_level_add_up_to_the_total(cube, measures, level):
    parts = measures[level].expected_shortfall_contribution.sum("group")
    whole = measures["total"].expected_shortfall.sel(group="all")
    np.testing.assert_allclose(parts, whole, rtol=1e-9)
    pnl = cube["historical"].pnl.groupby(level).sum()
    expected = expected_shortfall_contributions(pnl, 0.975, over=level)
    found = measures[level].expected_shortfall_contribution.sel(
        scenario_set="historical", confidence=0.975
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_means_of_the_groups_add_up_to_the_mean_of_the_total(measures):
    for key in CUBE:
        for level in LEVELS:
            parts = measures[level][f"{key}_mean"].sum("group")
            np.testing.assert_allclose(parts, measures["total"][f"{key}_mean"][:, 0], rtol=1e-9)


def test_designed_stresses_are_no_sample_and_have_no_interval(measures):
    stress = measures["total"].dataset.sel(scenario_set="stress")
    for key in ("value_at_risk", "expected_shortfall"):
        assert np.isnan(stress[f"{key}_low"]).all()
        assert np.isnan(stress[f"{key}_high"]).all()
        assert np.isfinite(stress[key]).all()


def test_weights_are_used_and_have_an_interval():
    weight = np.linspace(1, 2, 50)
    weight /= weight.sum()
    data = make_set(50, 5, 2, weight)
    found = measure_cube(
        xr.DataTree.from_dict({"historical": data}), confidences=[0.9], levels=["venue"]
    )
    total = data.pnl.sum("cell").values
    at = found["total"].dataset.squeeze()
    assert at.value_at_risk.item() == pytest.approx(value_at_risk(total, 0.9, weights=weight))
    assert at.expected_shortfall.item() == pytest.approx(
        expected_shortfall(total, 0.9, weights=weight)
    )
    assert at.pnl_mean.item() == pytest.approx((total * weight).sum())
    interval = value_at_risk_interval(total, 0.9, weights=weight)
    assert at.value_at_risk_low.item() == interval.low
    assert np.isnan(at.value_at_risk_high.item()) == (interval.high is None)
    parts = found["venue"].expected_shortfall_contribution.sum()
    assert parts.item() == pytest.approx(at.expected_shortfall.item(), rel=1e-9)


def test_a_stored_cube_gives_the_same_bytes_however_read(cube, tmp_path, monkeypatch):
    stored = cube["monte_carlo"].to_dataset()
    encoding = {key: {"chunks": (256, 40)} for key in CUBE}
    stored.drop_vars(LEVELS).to_zarr(tmp_path / "cube.zarr", consolidated=False, encoding=encoding)
    coords = {name: stored[name] for name in LEVELS}
    alone = xr.DataTree.from_dict({"monte_carlo": stored})
    measures = measure_cube(alone, confidences=CONFIDENCES, levels=LEVELS)
    ways = ((1 << 28, 1 << 25, None), (1 << 16, 1 << 16, None), (1 << 15, 1, {}))
    for batch, read, chunks in ways:
        monkeypatch.setattr(measuring, "_BATCH_BYTES", batch)
        monkeypatch.setattr(rollup, "_READ_BYTES", read)
        opened = xr.open_zarr(tmp_path / "cube.zarr", chunks=chunks, consolidated=False)
        tree = xr.DataTree.from_dict({"monte_carlo": opened.assign_coords(coords)})
        found = measure_cube(tree, confidences=CONFIDENCES, levels=LEVELS)
        for level in ("total", *LEVELS):
            expected = measures[level].to_dataset()
            xr.testing.assert_identical(found[level].to_dataset(), expected)


def test_measures_are_written_to_zarr_and_read_back(measures, tmp_path):
    measures.to_zarr(tmp_path / "measures.zarr", consolidated=False)
    back = xr.open_datatree(tmp_path / "measures.zarr", engine="zarr", consolidated=False)
    xr.testing.assert_equal(back["asset"].to_dataset(), measures["asset"].to_dataset())
    assert back["asset"].value_at_risk.attrs["units"] == "USD"
    assert "order statistics" in back["asset"].value_at_risk_low.attrs["interval"]
    assert "fractional" in back["asset"].expected_shortfall.attrs["estimator"]
    assert back["asset"].liquidations_mean.attrs["units"] == "1"


def test_a_group_only_one_set_has_is_not_a_number_in_the_other():
    first, second = make_set(30, 6, 3), make_set(30, 6, 3)
    second["venue"] = ("cell", np.array(["omega"] * 6, object))
    tree = xr.DataTree.from_dict({"historical": first, "monte_carlo": second})
    found = measure_cube(tree, confidences=[0.9], levels=["venue"])["venue"].dataset
    assert np.isnan(found.value_at_risk.sel(scenario_set="historical", group="omega").item())
    assert np.isfinite(found.value_at_risk.sel(scenario_set="monte_carlo", group="omega").item())


def test_a_variable_that_is_not_built_is_absent_not_empty():
    tree = xr.DataTree.from_dict({"historical": make_set(30, 6, 4)[["pnl"]]})
    found = measure_cube(tree, confidences=[0.9], levels=[])["total"].dataset
    assert "deficit_mean" not in found
    assert "pnl_mean" in found


def test_what_the_cube_lacks_is_named(cube):
    with pytest.raises(DataError, match="no scenario set 'historical_filtered'; it has historical"):
        measure_cube(cube, confidences=[0.9], levels=[], sets=["historical_filtered"])
    with pytest.raises(DataError, match="carry no label 'book'"):
        measure_cube(cube, confidences=[0.9], levels=["book"])
    with pytest.raises(ValueError, match="no roll-up label 'account'"):
        measure_cube(cube, confidences=[0.9], levels=["account"])
    with pytest.raises(ValueError, match="strictly between"):
        measure_cube(cube, confidences=[99], levels=[])
    holed = make_set(30, 6, 5)
    holed["pnl"][3, 2] = np.nan
    with pytest.raises(DataError, match="'pnl' holds values that are not finite"):
        measure_cube(xr.DataTree.from_dict({"a": holed}), confidences=[0.9], levels=[])
    with pytest.raises(DataError, match="no variable 'pnl'"):
        measure_cube(xr.DataTree.from_dict({"a": holed[["deficit"]]}), confidences=[0.9], levels=[])


@pytest.mark.parametrize("seed", range(3))
def test_wide_and_narrow_roll_ups_add_up_to_the_same_bytes(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, (70, 500)) * 10.0 ** rng.integers(-6, 9, 500)
    groups = [(np.zeros(500, int), 1), (rng.integers(-1, 7, 500), 7), (np.arange(500) % 3, 4)]
    array = xr.DataArray(values, dims=("scenario", "cell"), name="pnl")
    narrow = rollup.group_sums(array, groups)
    monkeypatch.setattr(rollup, "_WIDE", 0)
    wide = rollup.group_sums(array, groups)
    np.testing.assert_array_equal(wide, narrow)
    first = 0
    for of_cell, size in groups:
        for group in range(size):
            slow = [math.fsum(row[of_cell == group]) for row in values]
            np.testing.assert_allclose(wide[first + group], slow, rtol=1e-9, atol=1e-6)
        first += size
