"""The report's section on grids of moves and reverse stress."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xarray as xr

from risk.config import Config
from risk.cube import read_dataset
from risk.reports import Fact, Section
from risk.reports.move_charts import asset_moves, heat
from risk.reports.view import slug

#: Assets whose own moves are drawn, by the largest loss.
_N_ASSETS = 6

#: The searches with one size of move, and what each is called.
SIMPLE = {
    "common_fall": "all fall together",
    "common_rise": "all rise together",
    "single_fall": "one asset falls",
    "single_rise": "one asset rises",
}


def moves(folder: Path, config: Config) -> Section | None:
    """Tables of moves and the smallest ones that exhaust a fund; None where neither was asked."""
    has_grid, has_reverse = (folder / "grids.zarr").exists(), (folder / "reverse.zarr").exists()
    if not (has_grid or has_reverse):
        return None
    facts: list[Fact] = []
    context: dict[str, Any] = {"grid": None, "reverse": None}
    charts: dict[str, Any] = {}
    if has_grid:
        common = read_dataset(folder / "grids.zarr" / "common")
        alone = read_dataset(folder / "grids.zarr" / "asset")
        cells = pq.read_table(folder / "grid_cells.parquet").to_pylist()
        found, context["grid"] = _grid(common, alone, cells)
        facts += found
        sides = [float(move) for move in common["move"].values]
        spreads = [float(value) for value in common["volatility"].values]
        for name in ("pnl", "deficit"):
            charts[name] = partial(heat, measure=name, moves=sides, volatilities=spreads)
        charts["assets"] = partial(asset_moves, assets=context["grid"]["assets"], moves=sides)
    if has_reverse:
        found, context["reverse"] = _reverse(read_dataset(folder / "reverse.zarr"))
        facts += found
    return Section(
        name="moves",
        title="Moves and reverse stress",
        nav="Moves",
        facts=tuple(facts),
        context=context,
        charts=charts,
    )


def _grid(
    common: xr.Dataset, alone: xr.Dataset, cells: list[dict[str, Any]]
) -> tuple[list[Fact], dict[str, Any]]:
    facts = []
    n_moves, n_spreads = common.sizes["move"], common.sizes["volatility"]
    for name in ("pnl", "deficit"):
        values = common[name].transpose("move", "volatility").values
        for i in range(n_moves):
            for j in range(n_spreads):
                scope = f"all move {common.move.values[i]:+.0%}, volatility {j + 1}"
                facts.append(Fact(f"moves.common.{name}.{i}.{j}", values[i, j], "USD", scope))
    straight = common.isel(volatility=0)
    leaders = []
    for i in range(n_moves):
        key = f"moves.lead.{i}"
        at = straight.isel(move=i)
        cell = int(at["deficit_leader"].values[0])
        who = (
            ", ".join(str(part) for part in cells[cell].values()) if 0 <= cell < len(cells) else ""
        )
        facts += [
            Fact(f"{key}.move", 100 * float(common.move.values[i]), "%", "size of the move", 0),
            Fact(f"{key}.pnl", float(at["pnl"]), "USD", "all move together, straight"),
            Fact(f"{key}.deficit", float(at["deficit"]), "USD", "all move together, straight"),
            Fact(f"{key}.liquidations", float(at["liquidations"]), "1", "positions", 0),
            Fact(f"{key}.led", float(at["deficit_led"].values[0]), "USD", "its largest cell"),
        ]
        leaders.append((who if float(at["deficit_led"].values[0]) > 0 else "", key))
    worst = alone["pnl"].min("move").values
    order = np.argsort(worst, kind="stable")[:_N_ASSETS]
    names = [str(alone.asset.values[place]) for place in order]
    for name, place in zip(names, order, strict=True):
        for i, value in enumerate(alone["pnl"].isel(asset=int(place)).values):
            facts.append(Fact(f"moves.asset.{slug(name)}.{i}", float(value), "USD", name))
    return facts, {"leaders": leaders, "assets": names}


def _reverse(found: xr.Dataset) -> tuple[list[Fact], list[dict[str, Any]]]:
    facts, rows = [], []
    for target in (str(name) for name in found.target.values):
        row: dict[str, Any] = {"target": target, "simple": [], "joint": None}
        for search in SIMPLE:
            at = found.sel(target=target, search=search)
            key = f"moves.reverse.{slug(target)}.{search}"
            if not bool(at["found"]):
                row["simple"].append(None)
                continue
            move = at["move"].values
            size = float(move[np.argmax(np.abs(move))])
            facts += [
                Fact(f"{key}.move", 100 * size, "%", f"{target}, {SIMPLE[search]}", 1),
                Fact(f"{key}.verified", float(at["verified"]), "x", "share used, priced again", 3),
            ]
            row["simple"].append({"key": key, "asset": str(at["asset_moved"].item())})
        at = found.sel(target=target, search="joint")
        if bool(at["found"]):
            key = f"moves.reverse.{slug(target)}.joint"
            move = at["move"].values
            top = [int(place) for place in np.argsort(-np.abs(move), kind="stable")[:3]]
            facts += [
                Fact(f"{key}.distance", float(at["distance"]), "1", "standard deviations", 2),
                Fact(f"{key}.probability", 100 * float(at["probability"]), "%", "as far out", 4),
                Fact(f"{key}.verified", float(at["verified"]), "x", "share used, priced again", 3),
            ]
            names = []
            for place in top:
                name = str(found.asset.values[place])
                part = f"{key}.{slug(name)}"
                facts.append(Fact(part, 100 * float(move[place]), "%", f"{target}, {name}", 1))
                names.append((name, part))
            row["joint"] = {"key": key, "assets": names}
        rows.append(row)
    return facts, rows
