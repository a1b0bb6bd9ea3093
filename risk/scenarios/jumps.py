"""Jumps of one tile of Monte Carlo paths: common ones, own ones, and the tilted extra ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import special

#: More common jumps than this in one path are not drawn; their probability is below any float's.
_MOST_JUMPS = 200

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


class Jumps(NamedTuple):
    """Jumps of one tile, steps ascending; within a step in the order they happen."""

    step: np.ndarray  # (jump,)
    asset: np.ndarray
    scenario: np.ndarray
    size: np.ndarray


class Common(NamedTuple):
    """Common jumps of one tile, in the order drawn."""

    step: np.ndarray  # (common,)
    scenario: np.ndarray
    size: np.ndarray  # (common, asset)


def jump_parameters(calibration: xr.Dataset) -> dict[str, np.ndarray]:
    """The calibration's words about jumps, as arrays."""
    return {name: calibration[name].values for name in JUMP_PARAMETERS}


def draw_common(
    rng: np.random.Generator,
    parameter: dict[str, np.ndarray],
    tile: int,
    steps: int,
    expected: float,
    *,
    odd_only: bool = False,
) -> Common:
    """Common jumps of one tile.

    Parameters
    ----------
    rng : Generator
    parameter : dict
        From `jump_parameters`.
    tile, steps : int
        Scenarios of the tile, steps of a path.
    expected : float
        Mean number per scenario it may fall on.
    odd_only : bool
        Whether jumps fall on every second scenario alone.
    """
    eligible = tile // 2 if odd_only else tile
    count = rng.poisson(expected * eligible)
    scenario, step = rng.integers(0, eligible, count), rng.integers(0, steps, count)
    market = rng.normal(parameter["common_mean"], parameter["common_sd"], count)
    return Common(
        step,
        2 * scenario + 1 if odd_only else scenario,
        _sizes(rng, parameter, market),
    )


def place_common(
    rng: np.random.Generator,
    parameter: dict[str, np.ndarray],
    uniform: np.ndarray,
    steps: int,
    expected: np.ndarray,
) -> Common:
    """Common jumps whose number and first size are given as probabilities.

    Parameters
    ----------
    rng : Generator
        Of everything else: times, further sizes, residuals.
    parameter : dict
    uniform : ndarray (2, scenario)
        In (0, 1): number, and size of the first.
    steps : int
    expected : ndarray (scenario,)
        Mean number of each scenario.
    """
    count = np.zeros(uniform.shape[1], "i8")
    left, term, k = uniform[0] - np.exp(-expected), np.exp(-expected), 0
    while (left > 0).any() and k < _MOST_JUMPS:
        k += 1
        count += left > 0
        term = term * expected / k
        left = left - term
    scenario = np.repeat(np.arange(len(count)), count)
    market = rng.normal(parameter["common_mean"], parameter["common_sd"], len(scenario))
    first = np.diff(scenario, prepend=-1) > 0
    given = special.ndtri(uniform[1, scenario[first]])
    market[first] = parameter["common_mean"] + parameter["common_sd"] * given
    step = rng.integers(0, steps, len(scenario))
    return Common(step, scenario, _sizes(rng, parameter, market))


def _sizes(
    rng: np.random.Generator, parameter: dict[str, np.ndarray], market: np.ndarray
) -> np.ndarray:
    """What a move of the market is to every asset (jump, asset)."""
    shape = (len(market), len(parameter["own_mean"]))
    residual = rng.standard_normal(shape) * parameter["common_residual_sd"]
    return market[:, None] * parameter["common_loading"] + residual


def draw_own(
    rng: np.random.Generator,
    parameter: dict[str, np.ndarray],
    tile: int,
    steps: int,
    horizon_days: int,
) -> Jumps:
    """Jumps of single assets in one tile, not yet in order."""
    counts = rng.poisson(parameter["own_intensity"] * horizon_days * tile)
    asset = np.repeat(np.arange(len(counts)), counts)
    scenario = rng.integers(0, tile, len(asset))
    step = rng.integers(0, steps, len(asset))
    size = rng.normal(parameter["own_mean"][asset], parameter["own_sd"][asset])
    return Jumps(step, asset, scenario, size)


def in_order(common: list[Common], own: Jumps, n_assets: int) -> Jumps:
    """All jumps by step; within a step the common ones come first."""
    parts = [
        Jumps(
            np.repeat(part.step, n_assets),
            np.tile(np.arange(n_assets), len(part.step)),
            np.repeat(part.scenario, n_assets),
            part.size.ravel(),
        )
        for part in common
    ]
    joined = [np.concatenate(column) for column in zip(*parts, own, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    return Jumps(*(column[order] for column in joined))


def no_jumps() -> Jumps:
    """A tile without jumps."""
    none = np.empty(0, "i8")
    return Jumps(none, none, none, np.empty(0))
