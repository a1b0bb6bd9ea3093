"""Monte Carlo scenarios: correlated Student-t days with jumps, in blocks that know no other.

A block is a pure function of the calibration, the seed, the scenario set and its number. The book
never enters, so a position changes nobody's draws. Formulas, references and limits are in
``docs/methods/monte_carlo.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from risk.drivers import make_drivers
from risk.errors import ConfigError
from risk.scenarios.paths import diffuse, jump

#: Part of every random key; raised when the meaning of a draw changes.
SCHEME = 1

#: One random stream per purpose, so that switching jumps off leaves the diffusion as it was.
STREAMS = ("normal", "reach_low", "reach_high", "mixing", "common_jumps", "own_jumps")

#: Scenarios advanced together. A block draws whole tiles, so its first paths do not depend on `n`.
TILE = 256

#: Below this, independent draws of low and high, and of different assets', show in the tail.
MIN_STEPS = 12


class Draws(NamedTuple):
    """Random numbers of one tile, apart from the normals and exponentials of its steps."""

    chi_square: np.ndarray  # (day, scenario), per degree of freedom less two
    jump_step: np.ndarray  # (jump,), ascending; the rest in the order they happen
    jump_asset: np.ndarray
    jump_scenario: np.ndarray
    jump_size: np.ndarray


def draw_block(
    calibration: xr.Dataset,
    *,
    seed: int,
    set_code: int,
    block: int,
    n: int,
    steps: int,
    horizon_days: int,
    model: Literal["student_t", "normal"] = "student_t",
    jumps: bool = True,
) -> xr.Dataset:
    """Drivers of one block of scenarios.

    Parameters
    ----------
    calibration : Dataset (asset)
        From `risk.market.calibration.calibrate`; its assets are the universe.
    seed, set_code, block : int
        The random key.
    n : int
        Scenarios wanted; the first n of the block whatever n is.
    steps : int
        Steps over the whole horizon: at least 12, and a multiple of `horizon_days`.
    horizon_days : int
    model : {"student_t", "normal"}
        Whether each day's variance is mixed.
    jumps : bool
        Whether prices jump.

    Returns
    -------
    Dataset
        Driver record (`risk.drivers`) of n equally weighted scenarios.

    Raises
    ------
    ConfigError
        If steps, horizon, n or model cannot be served.
    """
    if steps < MIN_STEPS or horizon_days < 1 or steps % horizon_days:
        raise ConfigError(
            f"monte_carlo: {steps} steps over {horizon_days} days; take at least {MIN_STEPS} "
            "steps, the same number for every day"
        )
    if model not in ("student_t", "normal"):
        raise ConfigError(f"monte_carlo: unknown model {model!r}; use student_t or normal")
    if n < 1:
        raise ConfigError(f"monte_carlo: {n} paths; ask for at least one")
    assets = [str(name) for name in calibration["asset"].values]
    daily = calibration["volatility"].values
    step_days = horizon_days / steps
    covariance = calibration["correlation"].values * np.outer(daily, daily) * step_days
    factor, variance = np.linalg.cholesky(covariance), np.diag(covariance).copy()
    streams = _streams(seed, set_code, block)
    tiles = list(
        _tiles(calibration, streams, factor, variance, n, steps, horizon_days, model, jumps)
    )
    low, high, last = (np.exp(np.hstack([t[k] for t in tiles]).T[:n]) for k in range(3))
    where, before, landing = (np.concatenate([t[k] for t in tiles]) for k in (3, 4, 5))
    before, landing = np.exp(before), np.exp(landing)
    # A jump smaller than the last digit of its ratio is no gap.
    keep = (where[:, 0] < n) & ((landing - before) * where[:, 2] > 0)
    return make_drivers(
        low,
        high,
        last,
        assets=assets,
        label=[f"block {block} path {i}" for i in range(n)],
        source=[f"monte_carlo {model} seed {seed}"] * n,
        gaps={
            "gap_scenario": where[keep, 0],
            "gap_asset": where[keep, 1],
            "gap_direction": where[keep, 2],
            "gap_before": before[keep],
            "gap_landing": landing[keep],
        },
    )


def _streams(seed: int, set_code: int, block: int) -> dict[str, np.random.Generator]:
    return {
        name: np.random.Generator(
            np.random.Philox(np.random.SeedSequence(seed, spawn_key=(SCHEME, set_code, block, k)))
        )
        for k, name in enumerate(STREAMS)
    }


def _tiles(
    calibration: xr.Dataset,
    streams: dict[str, np.random.Generator],
    factor: np.ndarray,
    variance: np.ndarray,
    n: int,
    steps: int,
    horizon_days: int,
    model: str,
    jumps: bool,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Log low, high, last (asset, scenario) and the gaps of one tile after the other."""
    n_assets = len(variance)
    shape = (n_assets, TILE)
    normal, reach_low, reach_high = np.empty(shape), np.empty(shape), np.empty(shape)
    df = float(calibration["degrees_of_freedom"])
    for first in range(0, n, TILE):
        draws = _draw_tile(calibration, streams, steps, horizon_days, df, model, jumps)
        # One draw per day: degrees of freedom are fitted to daily returns. Drawn per step they
        # would average out to a Gaussian day.
        mixing = 1 / draws.chi_square
        last, low, high = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        edges = np.searchsorted(draws.jump_step, np.arange(steps + 1))
        gap = np.empty((len(draws.jump_size), 3), "i8")
        before, landing = np.empty(len(gap)), np.empty(len(gap))
        n_gaps = 0
        for step in range(steps):
            streams["normal"].standard_normal(out=normal)
            streams["reach_low"].standard_exponential(out=reach_low)
            streams["reach_high"].standard_exponential(out=reach_high)
            today = mixing[step * horizon_days // steps]
            diffuse(normal, reach_low, reach_high, factor, variance, today, last, low, high)
            now = slice(edges[step], edges[step + 1])
            n_gaps = jump(
                draws.jump_asset[now],
                draws.jump_scenario[now],
                draws.jump_size[now],
                last,
                low,
                high,
                gap,
                before,
                landing,
                n_gaps,
            )
        gap[:, 0] += first
        yield low, high, last, gap[:n_gaps], before[:n_gaps], landing[:n_gaps]


def _draw_tile(
    calibration: xr.Dataset,
    streams: dict[str, np.random.Generator],
    steps: int,
    horizon_days: int,
    df: float,
    model: str,
    jumps: bool,
) -> Draws:
    """Variance mixing and jumps of one tile; Poisson counts, thrown on scenarios and steps."""
    days = (horizon_days, TILE)
    # Divided by df - 2, not df: the mixed return keeps unit variance.
    chi_square = streams["mixing"].chisquare(df, days) / (df - 2)
    if model == "normal":
        chi_square = np.ones(days)
    none = np.empty(0, "i8")
    if not jumps:
        return Draws(chi_square, none, none, none, np.empty(0))
    parameter = {name: calibration[name].values for name in JUMP_PARAMETERS}
    n_assets = len(parameter["own_mean"])

    rng = streams["common_jumps"]
    count = rng.poisson(float(parameter["common_intensity"]) * horizon_days * TILE)
    scenario, step = rng.integers(0, TILE, count), rng.integers(0, steps, count)
    market = rng.normal(parameter["common_mean"], parameter["common_sd"], count)
    residual = rng.standard_normal((count, n_assets)) * parameter["common_residual_sd"]
    size = market[:, None] * parameter["common_loading"] + residual

    rng = streams["own_jumps"]
    counts = rng.poisson(parameter["own_intensity"] * horizon_days * TILE)
    asset = np.repeat(np.arange(n_assets), counts)
    own_scenario = rng.integers(0, TILE, len(asset))
    own_step = rng.integers(0, steps, len(asset))
    own_size = rng.normal(parameter["own_mean"][asset], parameter["own_sd"][asset])

    # Stable: within a step the common jumps come first.
    all_steps = np.concatenate([np.repeat(step, n_assets), own_step])
    order = np.argsort(all_steps, kind="stable")
    return Draws(
        chi_square,
        all_steps[order],
        np.concatenate([np.tile(np.arange(n_assets), count), asset])[order],
        np.concatenate([np.repeat(scenario, n_assets), own_scenario])[order],
        np.concatenate([size.ravel(), own_size])[order],
    )


#: What `calibrate` says about jumps.
JUMP_PARAMETERS = (
    "common_intensity",
    "common_mean",
    "common_sd",
    "common_loading",
    "common_residual_sd",
    "own_intensity",
    "own_mean",
    "own_sd",
)
