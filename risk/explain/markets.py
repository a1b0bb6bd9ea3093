"""The markets between two nights: volatility, windows, parameters, universe, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from risk.config import Config
from risk.errors import ConfigError
from risk.explain.books import listed_assets
from risk.market.history import universe
from risk.replay.forecast import Models, fit_models, scenario_plan
from risk.snapshot import Snapshot


@dataclass(frozen=True)
class Day:
    """One night's inputs.

    Attributes
    ----------
    snapshot : Snapshot
    history : Dataset (day, asset)
        Up to and including the snapshot's day.
    config : Config
    """

    snapshot: Snapshot
    history: xr.Dataset
    config: Config


@dataclass(frozen=True)
class Market:
    """What makes the scenarios."""

    past: xr.Dataset
    plan: dict[str, Any]
    models: Models


def markets(
    before: Day, after: Day, scenario_set: str
) -> tuple[Market, list[tuple[str, Market, str]]]:
    """The first night's market, then (component, market, detail) up to the second night's own.

    Both universes are joined first: a listing or delisting must not change the random numbers of
    the other assets. Where nothing changed the same object comes again, and is not valued twice.

    Raises
    ------
    ConfigError
        If a night does not run the scenario set.
    """
    plans = [_plan(day, scenario_set) for day in (before, after)]
    own = [universe(day.history, day.snapshot.as_of) for day in (before, after)]
    joint = sorted({*own[0], *own[1]})
    held = sorted(listed_assets(before.snapshot) | listed_assets(after.snapshot))

    def market(day: Day, names: Sequence[str], plan: dict[str, Any]) -> Market:
        models = fit_models(day.history, plan, names, held)
        return Market(day.history, plan, models)

    first = market(before, own[0], plans[0])
    joined = first if own[0] == joint else market(before, joint, plans[0])
    rolled = market(after, joint, plans[0])
    calm, change = _with_volatility(joined.models, rolled.models)
    calmed = joined if change is None else replace(joined, models=calm)
    changed = rolled if plans[0] == plans[1] else market(after, joint, plans[1])
    last = changed if own[1] == joint else market(after, own[1], plans[1])
    steps = [
        ("listings", joined, ""),
        ("volatility", calmed, "" if change is None else f"median {change:+.1%}"),
        ("window roll", rolled, f"history to {after.snapshot.as_of}"),
        ("model and parameters", changed, _differing(*plans)),
        ("listings", last, _listed(own)),
    ]
    return first, steps


def _plan(day: Day, scenario_set: str) -> dict[str, Any]:
    """The plan of one set, so that no other is fitted or drawn."""
    plan = scenario_plan(day.config, day.config.horizon_days)
    if scenario_set not in plan["sets"]:
        raise ConfigError(
            f"the night of {day.snapshot.as_of} does not run the set {scenario_set}; it runs "
            f"{', '.join(plan['sets']) or 'none'}"
        )
    if scenario_set == "monte_carlo":
        return plan | {"sets": [scenario_set], "historical": None}
    method = plan["historical"]["sets"][scenario_set]
    replayed = plan["historical"] | {"sets": {scenario_set: method}}
    return plan | {"sets": [scenario_set], "historical": replayed, "monte_carlo": None}


def _with_volatility(models: Models, newer: Models) -> tuple[Models, float | None]:
    """The same models at the newer volatility of the day ahead, and its median change.

    The change is None where no volatility enters the scenarios: plain and age-weighted windows.
    """
    volatility = {}
    moves = []
    for method, model in models.volatility.items():
        latest = newer.volatility[method]["next_volatility"]
        moves.append((model["next_volatility"].values, latest.values))
        volatility[method] = model.assign(next_volatility=latest)
    calibration = models.calibration
    if calibration is not None and newer.calibration is not None and not volatility:
        moves.append((calibration["volatility"].values, newer.calibration["volatility"].values))
        calibration = calibration.assign(volatility=newer.calibration["volatility"])
    if not moves:
        return models, None
    change = float(np.nanmedian(np.concatenate([b / a - 1 for a, b in moves])))
    return replace(models, calibration=calibration, volatility=volatility), change


def _differing(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Dotted names of the keys whose values differ."""
    pairs = [_flat(old), _flat(new)]
    names = sorted(
        name for name in {*pairs[0], *pairs[1]} if pairs[0].get(name) != pairs[1].get(name)
    )
    return ", ".join(names)


def _flat(values: dict[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{at}{key}.") if isinstance(value, dict) else {f"{at}{key}": value}
    return found


def _listed(own: Sequence[Sequence[str]]) -> str:
    new, gone = sorted(set(own[1]) - set(own[0])), sorted(set(own[0]) - set(own[1]))
    parts = [
        f"{word}: {', '.join(names)}" for word, names in (("new", new), ("gone", gone)) if names
    ]
    return "; ".join(parts)
