"""Which run this is, in words and digests."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import xarray as xr

from risk.config import Config, config_digest
from risk.reports import InputFile, RunIdentity
from risk.store import code_digest

#: How the windows of a historical set count.
METHOD_WORDS = {
    "plain": "equally weighted",
    "age_weighted": "recent ones weighing more",
    "volatility_scaled": "scaled to today's volatility",
    "filtered": "standardised by GARCH and retold in today's volatility",
}

#: Laws of a simulated day, and where its normals come from.
MODEL_WORDS = {"student_t": "Student-t", "t_copula": "t-copula"}

SAMPLING_WORDS = {"antithetic": "mirrored pairs", "sobol": "scrambled Sobol points"}


def run_identity(
    config: Config,
    run_id: str,
    inputs: Mapping[str, str],
    market: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    measures: xr.DataTree,
) -> RunIdentity:
    """Digests, seed, scenario sets and estimators of a run, as the reports print them."""
    sets = {}
    if config.scenarios.monte_carlo:
        drawn = config.scenarios.monte_carlo
        jumps = "common and own jumps" if drawn.jumps else "no jumps"
        more = [SAMPLING_WORDS[drawn.sampling]] if drawn.sampling in SAMPLING_WORDS else []
        if drawn.jump_tilt > 1:
            more.append(f"common jumps {drawn.jump_tilt:g} times as often in half of the paths")
        sets["monte_carlo"] = ", ".join(
            [
                f"{MODEL_WORDS[drawn.model]} paths with {drawn.volatility.upper()} volatilities",
                f"bridge extremes and {jumps}",
                *more,
                f"seed {config.seed}",
                f"calibrated from {market['first_day']}",
            ]
        )
    if config.scenarios.historical:
        bars = {"1d": "daily", "1h": "hourly"}[config.scenarios.historical.interval]
        windows = f"overlapping windows of {bars} lows, highs and closes"
        for name, method in config.scenarios.historical.sets.items():
            sets[name] = f"{windows}, {METHOD_WORDS[method]}"
    if config.scenarios.stress:
        sets["stress"] = "named stresses, each with its own gap rule"
    total = measures["total"].dataset
    estimators = {
        str(name): str(variable.attrs[key])
        for name, variable in total.data_vars.items()
        # Both ends of an interval carry its method; the lower one speaks for it.
        for key in ("estimator", "interval")
        if key in variable.attrs and not str(name).endswith("_high")
    }
    tiers = [note for note in snapshot["notes"] if note.startswith("tiers")]
    others = [note for note in snapshot["notes"] if not note.startswith("tiers")]
    if market["source"]:
        others.append(f"history: {market['source']}")
    return RunIdentity(
        run_id=run_id,
        config_digest=config_digest(config),
        code_version=f"{metadata.version('bulkhead')}, sources {code_digest()[:16]}",
        seed=config.seed,
        scenario_sets=sets,
        files=tuple(InputFile(name, digest) for name, digest in inputs.items()),
        price_kind=", ".join(market["price_kinds"]),
        tier_sources=tuple(note.removeprefix("tiers: ") for note in tiers),
        estimators=estimators,
        is_synthetic=bool(snapshot["is_synthetic"] or market["is_synthetic"]),
        notes=tuple(others),
    )


def parameters(config: Config, market: Mapping[str, Any]) -> dict[str, float]:
    """Numeric settings the report prints."""
    values: dict[str, float] = {
        "horizon_days": config.horizon_days,
        "n_assets": len(market["assets"]),
        "n_days": market["n_days"],
        "degrees_of_freedom": market["degrees_of_freedom"],
    }
    if config.scenarios.historical:
        values["gap"] = market["gap"]
        values["n_windows"] = market["n_windows"]
    if config.scenarios.monte_carlo:
        values["n_paths"] = config.scenarios.monte_carlo.paths
        values["n_steps"] = config.scenarios.monte_carlo.steps
    return values
