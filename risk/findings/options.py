"""The options in the officer's report: what they are worth, how they move, how they end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.config import Config
from risk.cube import open_cube, read_dataset, total
from risk.reports import Fact, Section
from risk.reports.view import slug

_SUMS = ("n_positions", "notional_usd", "value_usd", "delta_usd", "gamma_usd", "vega_usd")


def options_section(folder: Path, config: Config) -> Section | None:
    """Greeks by asset and book, and the options' part in every set; None without options."""
    path = folder / "greeks.parquet"
    if not path.exists():
        return None
    rows = pq.read_table(path)
    facts: list[Fact] = []

    def add(key: str, scope: str, mask: object = None) -> None:
        part = rows if mask is None else rows.filter(mask)
        for name in _SUMS:
            unit = "1" if name == "n_positions" else "USD"
            total = float(pc.sum(part[name]).as_py() or 0.0)
            facts.append(Fact(f"options.{key}.{name.removesuffix('_usd')}", total, unit, scope))

    for side in ("long", "short"):
        add(f"total.{side}", f"options, {side}", pc.equal(rows["side"], side))
    add("total.net", "options")
    groups: dict[str, list[str]] = {}
    for label in ("asset", "book"):
        groups[label] = sorted(rows[label].unique().to_pylist())
        for name in groups[label]:
            add(f"{label}.{slug(name)}", f"options, {label} {name}", pc.equal(rows[label], name))
    sampled = [name for name in config.scenarios.names if name != "stress"]
    if "kind" in config.cells:
        cube = open_cube(folder, labels=False)
        for name in sampled:
            facts += _tail(cube[name].to_dataset(), name, config.measures.confidence[-1])
    else:
        sampled = []
    calibration = read_dataset(folder / "calibration.zarr")
    source = [str(one) for one in calibration["implied_source"].values]
    moves = "implied_slope" in calibration
    if moves:
        used = sorted(set(source))
        place = [source.index(one) for one in used]
        for name, at in zip(used, place, strict=True):
            key = f"options.implied.{slug(name)}"
            for part, unit, decimals in (
                ("slope", "1", 2), ("curve", "1", 2), ("residual", "%", 1), ("explained", "%", 0),
                ("level", "%", 0), ("days", "days", 0),
            ):  # fmt: skip
                value = float(calibration[f"implied_{part}"].values[at])
                value *= 100 if unit == "%" else 1
                facts.append(Fact(f"{key}.{part}", value, unit, f"index of {name}", decimals))
        groups["index"] = used
    return Section(
        name="options",
        title="Options",
        nav="Options",
        facts=tuple(facts),
        context={"groups": groups, "sets": sampled, "moves": moves},
    )


def _tail(cube: xr.Dataset, name: str, confidence: float) -> list[Fact]:
    """Loss, liquidations and deficit of the options of one set, apart from the rest."""
    mine = cube["kind"].values == "option"
    pnl, deficit, liquidations = (
        total(cube, part, mine).values.astype("f8") for part in ("pnl", "deficit", "liquidations")
    )
    weight = cube["weight"].values
    order = np.argsort(pnl, kind="stable")
    tail = min(int(np.searchsorted(np.cumsum(weight[order]), 1 - confidence)), len(order) - 1)
    scope = f"{name}, options alone"
    return [
        Fact(f"options.{name}.value_at_risk", float(-pnl[order[tail]]), "USD", scope),
        Fact(f"options.{name}.worst_loss", float(-pnl.min()), "USD", scope),
        Fact(f"options.{name}.liquidations", float(weight @ liquidations), "1", scope, 2),
        Fact(f"options.{name}.deficit", float(weight @ deficit), "USD", scope),
    ]
