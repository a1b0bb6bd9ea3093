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
from risk.reports.move_charts import asset_moves
from risk.reports.view import printable, slug

#: Assets whose own moves are drawn, by the largest loss.
_N_ASSETS = 6

#: What the tables of common moves show, and how many shades they have.
HEAT = ("pnl", "deficit")
_SHADES = 9

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
    def who(table: xr.Dataset, name: str) -> str:
        """The largest cell behind one entry; empty where nothing adds to it."""
        cell = int(table[f"{name}_leader"].values[0])
        is_there = 0 <= cell < len(cells) and float(table[f"{name}_led"].values[0]) != 0
        return printable(", ".join(map(str, cells[cell].values()))) if is_there else ""

    facts = []
    n_moves, n_spreads = common.sizes["move"], common.sizes["volatility"]
    for j in range(n_spreads):
        spread = float(common.volatility.values[j])
        facts.append(Fact(f"moves.spread.{j}", spread, "x", "of today's volatility", 1))
    tables: dict[str, list[list[tuple[str, int, str]]]] = {}
    for name in HEAT:
        values = common[name].transpose("move", "volatility").values
        losses = np.maximum(-values if name == "pnl" else values, 0.0)
        most = losses.max()
        shade = np.ceil(_SHADES * np.sqrt(losses / most)) if most > 0 else losses
        rows = []
        for j in range(n_spreads):
            row = []
            for i in range(n_moves):
                scope = f"all move {common.move.values[i]:+.0%}, volatility {j + 1}"
                key = f"moves.common.{name}.{i}.{j}"
                facts.append(Fact(key, values[i, j], "USD", scope))
                row.append((key, int(shade[i, j]), who(common.isel(move=i, volatility=j), name)))
            rows.append(row)
        tables[name] = rows
    straight = common.isel(volatility=0)
    leaders = []
    for i in range(n_moves):
        key = f"moves.lead.{i}"
        at = straight.isel(move=i)
        facts += [
            Fact(f"{key}.move", 100 * float(common.move.values[i]), "%", "size of the move", 0),
            *_entry(key, at, "all move together, straight"),
        ]
        leaders.append((key, who(at, "pnl"), who(at, "deficit")))
    worst = alone["pnl"].min("move").values
    order = np.argsort(worst, kind="stable")[:_N_ASSETS]
    names = [str(alone.asset.values[place]) for place in order]
    steps = alone["move"].values
    ends = sorted({int(np.argmin(steps)), int(np.argmax(steps))})
    singles = []
    for name, place in zip(names, order, strict=True):
        for i, value in enumerate(alone["pnl"].isel(asset=int(place)).values):
            facts.append(Fact(f"moves.asset.{slug(name)}.{i}", float(value), "USD", name))
        for i in ends:
            key = f"moves.alone.{slug(name)}.{i}"
            at = alone.isel(asset=int(place), move=i)
            facts += [
                Fact(f"{key}.move", 100 * float(at["move"]), "%", f"{name} alone", 0),
                *_entry(key, at, f"{name} alone"),
            ]
            singles.append((name, key, who(at, "pnl"), who(at, "deficit")))
    return facts, {"heat": tables, "leaders": leaders, "assets": names, "singles": singles}


def _entry(key: str, at: xr.Dataset, scope: str) -> list[Fact]:
    """One entry of a table, and what the largest cells add to its loss and its deficit."""
    return [
        Fact(f"{key}.pnl", float(at["pnl"]), "USD", scope),
        Fact(f"{key}.pnl_led", float(at["pnl_led"].values[0]), "USD", f"{scope}, largest cell"),
        Fact(f"{key}.deficit", float(at["deficit"]), "USD", scope),
        Fact(f"{key}.led", float(at["deficit_led"].values[0]), "USD", f"{scope}, largest cell"),
        Fact(f"{key}.liquidations", float(at["liquidations"]), "1", f"{scope}, positions", 0),
        Fact(f"{key}.liquidated_notional", float(at["liquidated_notional"]), "USD", scope),
    ]


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
