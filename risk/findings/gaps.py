"""What the gap rule is worth: deficits with none, its share, or all of a move as one jump.

The windows are walked again with other gaps; nothing else of them changes.
"""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from risk.config import Config
from risk.cube import load_record, total
from risk.drivers import ELAPSED, VOLATILITY, make_drivers, with_volatility
from risk.liquidation import load_ladders, uncounted_outcomes, walk
from risk.measures import expected_shortfall
from risk.scenarios.historical import Ratios, gap_rule

#: Level of the expected shortfall of the deficit.
CONFIDENCE = 0.99

#: What is measured, its unit and how the report calls it.
COLUMNS = {
    "deficit_probability": ("1", "Windows with a deficit"),
    "deficit_mean": ("USD", "Mean deficit"),
    "deficit_expected_shortfall": ("USD", "Deficit ES"),
    "deficit_worst": ("USD", "Worst deficit"),
}


def gap_sensitivity(folder: Path, config: Config) -> xr.Dataset | None:
    """Deficits of the historical windows at no gap, the rule's share, and all of a move as one.

    Returns
    -------
    Dataset (gap)
        `deficit_probability` (weight of the windows with a deficit), `deficit_mean`,
        `deficit_expected_shortfall` at `CONFIDENCE` and `deficit_worst`, USD; ``attrs`` hold the
        rule's share (`rule`) and that level (`confidence`). None without historical windows.
    """
    if config.scenarios.historical is None:
        return None
    ladders = load_ladders(folder / "ladders")
    record = load_record(folder / "scenarios" / "historical.zarr", instruments=True)
    notes = json.loads((folder / "market.json").read_text(encoding="utf-8"))
    rule = float(notes["gap"])
    shares = sorted({0.0, rule, 1.0})
    rows = []
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
        pooled = uncounted_outcomes(ladders.cross.pools, drivers, only_deficits=True)
        walked = walk(ladders, drivers, variables=["deficit"], pooled=pooled)
        deficit = total(walked, "deficit").values
        weight = record.weight.values
        rows.append(
            (
                float(weight[deficit > 0].sum()),
                float(deficit @ weight),
                float(expected_shortfall(-deficit, CONFIDENCE, weights=weight)),
                float(deficit.max()),
            )
        )
    return xr.Dataset(
        {
            name: ("gap", list(column), {"units": unit, "long_name": title})
            for (name, (unit, title)), column in zip(
                COLUMNS.items(), zip(*rows, strict=True), strict=True
            )
        },
        coords={"gap": shares},
        attrs={"rule": rule, "confidence": CONFIDENCE},
    )
