"""Stores on disk: what is read does not depend on how a file system lists it."""

from __future__ import annotations

import numpy as np
import xarray as xr

from risk.cube import open_tree, read_dataset

NAMES = ["deficit_worst", "pnl", "deficit_mean", "stops", "venue_gain", "market_cost", "a", "z"]


def test_variables_are_read_in_name_order_whatever_order_they_were_written_in(tmp_path):
    written = xr.Dataset(
        {name: ("gap", np.arange(3.0)) for name in NAMES},
        coords={"gap": [0.0, 0.3, 1.0], "label": ("gap", np.array(["a", "b", "c"], object))},
    )
    written.to_zarr(tmp_path / "one.zarr", mode="w", consolidated=False)
    read = read_dataset(tmp_path / "one.zarr")
    assert list(read.data_vars) == sorted(NAMES)
    xr.testing.assert_identical(read[NAMES], written)
    for group in ("stress", "historical", "monte_carlo"):
        written.to_zarr(tmp_path / "tree.zarr", group=group, mode="a", consolidated=False)
    tree = open_tree(tmp_path / "tree.zarr")
    assert list(tree.children) == ["historical", "monte_carlo", "stress"]
    for node in tree.children.values():
        assert list(node.data_vars) == sorted(NAMES)
    bare = open_tree(tmp_path / "tree.zarr", drop=["label"])
    xr.testing.assert_identical(
        bare["stress"].to_dataset(), written[sorted(NAMES)].drop_vars("label")
    )
