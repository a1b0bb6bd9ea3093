"""One night's scenarios, drawn from what was known that night, on the assets of the ladders."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from risk.block import SET_CODES
from risk.config import Config
from risk.drivers import make_drivers
from risk.errors import ConfigError
from risk.market.calibration import calibrate
from risk.market.history import universe
from risk.market.volatility import ewma_model, garch_model
from risk.scenarios.historical import historical_drivers
from risk.scenarios.monte_carlo import draw_block
from risk.scenarios.moves import Ratios, gap_rule, window_ratios
from risk.schema import GAPS


def scenario_plan(config: Config, horizon_days: int) -> dict[str, Any]:
    """What a night's scenarios need of the config, as JSON values; stresses are left out."""
    replayed, drawn = config.scenarios.historical, config.scenarios.monte_carlo
    if replayed and (replayed.gap == "calibrated" or replayed.interval != "1d"):
        raise ConfigError(
            "a backtest replays daily windows with a stated gap; "
            "give scenarios.historical a number for gap and interval: 1d"
        )
    return {
        "sets": [name for name in config.scenarios.names if name != "stress"],
        "horizon_days": horizon_days,
        "seed": config.seed,
        "historical": replayed
        and replayed.model_dump(mode="json", exclude={"method", "also"})
        | {"sets": dict(replayed.sets)},
        "monte_carlo": drawn and drawn.model_dump(mode="json"),
    }


@dataclass(frozen=True)
class Models:
    """What is fitted to a history before a scenario can be made.

    Attributes
    ----------
    universe : tuple of str
        Sorted assets the models are of.
    calibration : Dataset or None
        None where nothing needs it.
    volatility : mapping of str to Dataset
        By historical method that rescales windows.
    """

    universe: tuple[str, ...]
    calibration: xr.Dataset | None
    volatility: Mapping[str, xr.Dataset]


def fit_models(
    past: xr.Dataset, plan: Mapping[str, Any], universe: Sequence[str], held: Sequence[str]
) -> Models:
    """Fit what the plan's scenario sets need.

    Parameters
    ----------
    past : Dataset (day, asset)
        Price history up to and including the night.
    plan : mapping
        From `scenario_plan`.
    universe : sequence of str
    held : sequence of str
        Assets of the book; only their holes ask for betas.
    """
    replayed, volatility = plan["historical"], {}
    fits: dict[str, Callable[..., xr.Dataset]] = {
        "volatility_scaled": ewma_model,
        "filtered": garch_model,
    }
    is_calibrated = bool(plan["monte_carlo"])
    if replayed:
        for method in set(replayed["sets"].values()) & set(fits):
            decay = replayed["volatility_decay"]
            volatility[method] = fits[method](past, universe, decay=decay)
        mine = [name for name in universe if name in set(held)]
        is_calibrated |= bool(volatility) or _has_holes(past, mine, replayed["windows"])
    drawn = plan["monte_carlo"] or {}
    calibration = None
    if is_calibrated:
        calibration = calibrate(
            past,
            universe,
            volatility=drawn.get("volatility", "ewma"),
            copula=drawn.get("model") == "t_copula",
        )
    return Models(tuple(universe), calibration, volatility)


def forecast_drivers(
    past: xr.Dataset,
    plan: Mapping[str, Any],
    assets: Sequence[str],
    *,
    models: Models | None = None,
) -> Iterator[tuple[str, xr.Dataset]]:
    """Scenarios of the days after the last one of `past`, exactly as the nightly run makes them.

    Parameters
    ----------
    past : Dataset (day, asset)
        Price history up to and including the night; nothing later is seen.
    plan : mapping
        From `scenario_plan`.
    assets : sequence of str
        Sorted assets of the ladders. One without a price that night does not move; the universe of
        the Monte Carlo set is every asset with a price, held or not.
    models : Models, optional
        Instead of those fitted to `past`; their universe is then the night's.

    Yields
    ------
    scenario_set : str
    drivers : Dataset
        Driver record; a large set comes in several, in order, each with weights of its own.
    """
    known = list(models.universe) if models else universe(past, last_day(past))
    mine = [name for name in known if name in set(assets)]
    if not mine:
        return
    models = models or fit_models(past, plan, known, mine)
    if plan["historical"]:
        for name, record in _historical(past, plan, mine, models):
            yield name, on_assets(record, assets)
    drawn, calibration = plan["monte_carlo"], models.calibration
    if drawn and calibration is not None:
        for block, start in enumerate(range(0, drawn["paths"], drawn["block"])):
            record = draw_block(
                calibration,
                seed=plan["seed"],
                set_code=SET_CODES["monte_carlo"],
                block=block,
                n=min(drawn["block"], drawn["paths"] - start),
                steps=drawn["steps"],
                horizon_days=plan["horizon_days"],
                model=drawn["model"],
                jumps=drawn["jumps"],
                sampling=drawn["sampling"],
                tilt=drawn["jump_tilt"],
                block_size=drawn["block"],
            )
            yield "monte_carlo", on_assets(record, assets)


def _historical(
    past: xr.Dataset, plan: Mapping[str, Any], mine: list[str], models: Models
) -> Iterator[tuple[str, xr.Dataset]]:
    """One record per historical set, each by its own method."""
    wanted, calibration = plan["historical"], models.calibration
    # Without a hole in the windows no beta is ever used.
    unused = xr.DataArray(np.ones(len(mine)), {"asset": mine}, attrs={"market": mine[0]})
    for name, method in wanted["sets"].items():
        record = historical_drivers(
            past,
            mine,
            windows=wanted["windows"],
            horizon_days=plan["horizon_days"],
            step_hours=wanted["step_hours"],
            gap=wanted["gap"],
            betas=unused if calibration is None else calibration["beta"],
            factor_betas=None if calibration is None else calibration["factor_beta"],
            method=method,
            age_decay=wanted["age_decay"],
            volatility=models.volatility.get(method),
            seed=plan["seed"],
            set_code=SET_CODES["historical"],
        )
        yield name, record


def _has_holes(past: xr.Dataset, assets: Sequence[str], windows: int) -> bool:
    """Whether some window of a held asset has to be proxied."""
    if not set(assets) <= {str(name) for name in past["asset"].values}:
        return True
    bars = past.sel(asset=list(assets)).isel(day=slice(-windows - 1, None))
    return any(bool(bars[name].isnull().any()) for name in ("low", "high", "close"))


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
