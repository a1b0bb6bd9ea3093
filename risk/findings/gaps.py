"""What the gap rule is worth: deficits with none, its share, or all of a move as one jump."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from risk.config import Config
from risk.cube import load_record
from risk.drivers import ELAPSED, VOLATILITY, make_drivers, with_volatility
from risk.liquidation import load_ladders, walk
from risk.scenarios.historical import Ratios, gap_rule


def gap_sensitivity(folder: Path, config: Config) -> xr.Dataset | None:
    """Deficits when none, the rule's share, or all of a move lands as one jump."""
    if config.scenarios.historical is None:
        return None
    ladders = load_ladders(folder / "ladders")
    record = load_record(folder / "scenarios" / "historical.zarr", instruments=True)
    notes = json.loads((folder / "market.json").read_text(encoding="utf-8"))
    rule = float(notes["gap"])
    shares = sorted({0.0, rule, 1.0})
    worst, mean = [], []
    for share in shares:
        moves = Ratios(record.low.values, record.high.values, record["last"].values)
        drivers = make_drivers(
            *moves,
            assets=list(record.asset.values),
            label=record.label.values,
            source=record.source.values,
            weight=record.weight.values,
            gaps=gap_rule(moves, share),
        )
        if VOLATILITY in record:
            drivers = with_volatility(drivers, record[VOLATILITY].values, record.attrs[ELAPSED])
        deficit = walk(ladders, drivers).deficit.sum("cell").values
        worst.append(deficit.max())
        mean.append(float(deficit @ record.weight.values))
    return xr.Dataset(
        {
            "deficit_worst": (
                "gap",
                worst,
                {"units": "USD", "long_name": "Historical, worst deficit"},
            ),
            "deficit_mean": (
                "gap",
                mean,
                {"units": "USD", "long_name": "Historical, mean deficit"},
            ),
        },
        coords={"gap": shares},
    )
