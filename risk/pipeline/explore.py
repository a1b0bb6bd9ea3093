"""Grids and reverse stress, where the config asks for them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from risk import explore as searches
from risk.cube import plain_text
from risk.liquidation import build_ladders
from risk.pipeline.files import load_calibration
from risk.pipeline.impact import read_impact
from risk.pipeline.night import Night


def explore(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Grids and reverse stress, where the config asks for them."""
    config, folder = night.config, night.folder
    grid, reverse = config.scenarios.grid, config.scenarios.reverse
    if grid is None and reverse is None:
        return
    calibration, impact = load_calibration(folder), read_impact(night)
    ladders = None
    if grid is not None or {"asset", "venue"} <= set(config.cells):
        # Both ask the same ladders, if their cells know what reverse stress asks for.
        ladders = build_ladders(book, assets, config.cells, config.max_cells, impact=impact)
    if grid is not None:
        tables, cells = searches.price_grids(
            book,
            assets,
            calibration,
            grid,
            labels=config.cells,
            max_cells=config.max_cells,
            horizon_days=config.horizon_days,
            impact=impact,
            ladders=ladders,
        )
        for name, table in tables.items():
            plain_text(table).to_zarr(
                folder / "grids.zarr", group=name, mode="w", consolidated=False
            )
        pq.write_table(cells, folder / "grid_cells.parquet")
    if reverse is not None:
        funds = pq.read_table(folder / "funds.parquet").to_pylist()
        found = searches.reverse_stresses(
            book,
            assets,
            calibration,
            {fund["venue"]: fund["balance_usd"] or 0.0 for fund in funds},
            reverse,
            seed=config.seed,
            horizon_days=config.horizon_days,
            impact=impact,
            ladders=ladders if {"asset", "venue"} <= set(config.cells) else None,
        )
        plain_text(found).to_zarr(folder / "reverse.zarr", mode="w", consolidated=False)
