"""One night's scenarios, drawn from what was known that night, on the assets of the ladders."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from risk.block import SET_CODES
from risk.drivers import make_drivers, slice_drivers
from risk.market.calibration import calibrate
from risk.market.history import universe
from risk.scenarios.historical import Ratios, gap_rule, historical_drivers, window_ratios
from risk.scenarios.monte_carlo import draw_block
from risk.schema import GAPS


def forecast_drivers(
    past: xr.Dataset, plan: Mapping[str, Any], assets: Sequence[str]
) -> Iterator[tuple[str, xr.Dataset]]:
    """Scenarios of the day after the last one of `past`, exactly as the nightly run makes them.

    Parameters
    ----------
    past : Dataset (day, asset)
        Price history up to and including the night; nothing later is seen.
    plan : mapping
        ``historical`` (windows, gap) and ``monte_carlo`` (paths, block, steps, model, jumps,
        seed), each None when it is not wanted.
    assets : sequence of str
        Sorted assets of the ladders. One without a price that night does not move; the universe of
        the Monte Carlo set is every asset with a price, held or not.

    Yields
    ------
    scenario_set : str
    drivers : Dataset
        Driver record; a large set comes in several, in order.
    """
    known = universe(past, last_day(past))
    mine = [name for name in known if name in set(assets)]
    if not mine:
        return
    drawn, replayed = plan["monte_carlo"], plan["historical"]
    calibration = None
    if drawn or _has_holes(past, mine, replayed["windows"]):
        calibration = calibrate(past, known)
    if replayed:
        # Without a hole in the windows no beta is ever used.
        unused = xr.DataArray(np.ones(len(mine)), {"asset": mine}, attrs={"market": mine[0]})
        record = historical_drivers(
            past,
            mine,
            windows=replayed["windows"],
            horizon_days=1,
            gap=replayed["gap"],
            betas=unused if calibration is None else calibration["beta"],
        )
        yield "historical", on_assets(record, assets)
    if drawn and calibration is not None:
        for block, start in enumerate(range(0, drawn["paths"], drawn["block"])):
            record = draw_block(
                calibration,
                seed=drawn["seed"],
                set_code=SET_CODES["monte_carlo"],
                block=block,
                n=drawn["block"],
                steps=drawn["steps"],
                horizon_days=1,
                model=drawn["model"],
                jumps=drawn["jumps"],
            )
            wanted = min(drawn["block"], drawn["paths"] - start)
            yield "monte_carlo", on_assets(slice_drivers(record, 0, wanted), assets)


def day_ratios(bars: xr.Dataset, night: dt.date, assets: Sequence[str]) -> Ratios:
    """The day after `night` as ratios to its close, NaN where a price is missing (1, asset)."""
    days = bars["day"].values.astype("M8[D]")
    here = int(np.searchsorted(days, np.datetime64(night, "D")))
    out = Ratios(*(np.full((1, len(assets)), np.nan) for _ in Ratios._fields))
    if here + 1 >= len(days) or days[here] != np.datetime64(night, "D"):
        return out
    found = window_ratios(bars, np.array([here + 1]), 1)
    place = {str(name): at for at, name in enumerate(bars["asset"].values)}
    for at, name in enumerate(assets):
        if name in place:
            for part, source in zip(out, found, strict=True):
                part[0, at] = source[0, place[name]]
    return out


def day_drivers(
    moves: Ratios, assets: Sequence[str], night: dt.date, gap: float | None
) -> xr.Dataset:
    """What really happened as a driver record of one scenario; an unknown asset does not move."""
    known = Ratios(*(np.where(np.isnan(part), 1.0, part) for part in moves))
    day = str(night + dt.timedelta(days=1))
    return make_drivers(
        *known,
        assets=assets,
        label=[day],
        source=[f"history {day}"],
        gaps=None if gap is None else gap_rule(known, gap),
    )


def on_assets(record: xr.Dataset, assets: Sequence[str]) -> xr.Dataset:
    """The same record on other assets; those it does not have stay where they are."""
    place = {name: at for at, name in enumerate(assets)}
    at = np.array([place.get(str(name), -1) for name in record["asset"].values])
    kept = at >= 0

    def spread(values: np.ndarray) -> np.ndarray:
        full = np.ones((len(values), len(assets)))
        full[:, at[kept]] = values[:, kept]
        return full

    gaps = {name: record[name].values[kept[record["gap_asset"].values]] for name in GAPS}
    gaps["gap_asset"] = at[gaps["gap_asset"]].astype("i4")
    return make_drivers(
        *(spread(record[name].values) for name in ("low", "high", "last")),
        assets=assets,
        label=list(record["label"].values),
        source=list(record["source"].values),
        weight=record["weight"].values,
        gaps=gaps,
    )


def last_day(history: xr.Dataset) -> dt.date:
    """Last day of a history."""
    return history["day"].values[-1].astype("M8[D]").item()


def _has_holes(past: xr.Dataset, assets: Sequence[str], windows: int) -> bool:
    bars = past.sel(asset=list(assets)).isel(day=slice(-windows - 1, None))
    return any(bool(bars[name].isnull().any()) for name in ("low", "high", "close"))
