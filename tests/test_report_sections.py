"""Sections on moves, reverse stress and fit: what they print is what the artifacts hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from risk.cube import plain_text
from risk.findings.fit import calibration
from risk.findings.moves import SIMPLE, moves
from risk.market.calibration import calibrate
from risk.scenarios.reverse import SEARCHES
from tests.test_calibration import history_of, t_returns


class Asked:
    """A config that asks for simulated paths, as far as the sections look."""

    class scenarios:
        """Only whether paths were drawn is read."""

        monte_carlo = True


def values(section):
    return {fact.fact_id: fact.value for fact in section.facts}


def test_a_move_that_does_it_is_printed_and_one_that_does_not_is_an_answer(tmp_path):
    found = np.zeros((1, len(SEARCHES)), bool)
    move = np.full((1, len(SEARCHES), 2), np.nan)
    at = SEARCHES.index("single_fall")
    found[0, at], move[0, at] = True, [0.0, -0.42]
    number = np.where(found, 1.01, np.nan)
    data = xr.Dataset(
        {
            "found": (("target", "search"), found),
            "move": (("target", "search", "asset"), move),
            "asset_moved": (("target", "search"), np.where(found, "ETH", "").astype(object)),
            **{n: (("target", "search"), number) for n in ("verified", "distance", "probability")},
        },
        coords={
            "target": np.array(["binance"], object),
            "search": np.array(SEARCHES, object),
            "asset": np.array(["BTC", "ETH"], object),
        },
    )
    plain_text(data).to_zarr(tmp_path / "reverse.zarr", mode="w", consolidated=False)
    section = moves(tmp_path, Asked())
    (row,) = section.context["reverse"]
    place = list(SIMPLE).index("single_fall")
    assert [one is None for one in row["simple"]] == [i != place for i in range(len(SIMPLE))]
    assert row["simple"][place]["asset"] == "ETH"
    assert row["joint"] is None
    assert values(section)["moves.reverse.binance.single_fall.move"] == pytest.approx(-42)


def test_a_grid_prints_every_cell_and_names_the_largest_part_of_the_deficit(tmp_path):
    rng = np.random.default_rng(0)
    names = ("pnl", "deficit", "liquidations", "liquidated_notional")

    def table(dims, sizes, coords):
        data = {name: (dims, rng.random(sizes)) for name in names}
        data |= {f"{n}_leader": ((*dims, "rank"), np.ones((*sizes, 3), "i8")) for n in names}
        data |= {f"{n}_led": ((*dims, "rank"), rng.random((*sizes, 3))) for n in names}
        return xr.Dataset(data, coords=coords)

    sides, spreads = [-0.5, 0.5], [0.0, 1.0]
    assets = np.array(["BTC", "ETH", "SOL"], object)
    tables = {
        "common": table(("move", "volatility"), (2, 2), {"move": sides, "volatility": spreads}),
        "asset": table(("asset", "move"), (3, 2), {"asset": assets, "move": sides}),
    }
    for name, one in tables.items():
        plain_text(one).to_zarr(tmp_path / "grids.zarr", group=name, mode="w", consolidated=False)
    cells = pa.table({"venue": ["bybit", "okx"], "side": ["long", "short"]})
    pq.write_table(cells, tmp_path / "grid_cells.parquet")
    section = moves(tmp_path, Asked())
    found = values(section)
    for i in range(2):
        for j in range(2):
            for name in ("pnl", "deficit"):
                cell = tables["common"][name].values[i, j]
                assert found[f"moves.common.{name}.{i}.{j}"] == cell
    assert [who for _, *both in section.context["grid"]["leaders"] for who in both] == [
        "okx, short"
    ] * 4
    # Every number of the tables of common moves names the largest part of it.
    for rows in section.context["grid"]["heat"].values():
        assert {who for row in rows for _, _, who in row} == {"okx, short"}
        assert {shade for row in rows for _, shade, _ in row} <= set(range(10))
    assert len(section.context["grid"]["singles"]) == 3 * 2
    worst = tables["asset"].pnl.min("move")
    assert section.context["grid"]["assets"][0] == str(assets[int(np.argmin(worst.values))])


def test_a_night_without_grids_has_no_section_on_moves(tmp_path):
    assert moves(tmp_path, Asked()) is None
    assert calibration(tmp_path, Asked()) is None


def test_the_fit_prints_the_calibration_with_its_errors(tmp_path):
    names = ["BTC", "ETH", "SOL"]
    found = calibrate(history_of(t_returns(5, 300, 6.0, 0.5, 3) * 0.03, names), [*names, "NEW"])
    plain_text(found).to_zarr(tmp_path / "calibration.zarr", mode="w", consolidated=False)
    section = calibration(tmp_path, Asked())
    shown = values(section)
    assert shown["fit.asset.ETH.volatility"] == pytest.approx(
        100 * float(found.volatility.sel(asset="ETH"))
    )
    assert shown["fit.asset.ETH.beta_se"] == pytest.approx(float(found.beta_se.sel(asset="ETH")))
    bins = [value for name, value in shown.items() if name.startswith("fit.bin.")]
    assert sum(bins) == pytest.approx(100)
    assert [proxied for name, _, proxied in section.context["rows"] if name == "NEW"] == [True]
