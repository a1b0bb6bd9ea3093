"""What every night of a backtest shares: plan, prices, book and ladders, kept as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from risk.liquidation import Ladders, load_ladders


@dataclass(frozen=True)
class Inputs:
    """What every night of a backtest shares."""

    plan: Mapping[str, Any]
    history: xr.Dataset
    marks: xr.Dataset
    book: pa.Table
    ladders: Ladders

    @property
    def assets(self) -> list[str]:
        """Assets of the ladders, sorted."""
        return list(self.ladders.assets)


@lru_cache(maxsize=2)
def load_inputs(workspace: str) -> Inputs:
    """Open a workspace once per process."""
    folder = Path(workspace)
    return Inputs(
        plan=json.loads((folder / "plan.json").read_text(encoding="utf-8")),
        history=read_bars(folder / "history.npz"),
        marks=read_bars(folder / "marks.npz"),
        book=pq.read_table(folder / "book.parquet"),
        ladders=load_ladders(folder / "ladders"),
    )


def write_bars(path: Path, history: xr.Dataset) -> None:
    """Keep what a backtest needs of a history: days, assets, low, high, close, holes as NaN."""
    np.savez(
        path,
        day=history["day"].values.astype("M8[D]").astype("i8"),
        asset=np.array([str(name) for name in history["asset"].values], "U"),
        low=history["low"].values,
        high=history["high"].values,
        close=history["close"].values,
    )


def read_bars(path: Path) -> xr.Dataset:
    """Read what `write_bars` kept."""
    with np.load(path, allow_pickle=False) as kept:
        return xr.Dataset(
            {name: (("day", "asset"), kept[name]) for name in ("low", "high", "close")},
            coords={
                "day": kept["day"].astype("M8[D]").astype("M8[ns]"),
                "asset": kept["asset"].astype(object),
            },
        )
