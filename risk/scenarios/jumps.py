"""Jumps of one tile of Monte Carlo paths: common ones, own ones, and the tilted extra ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

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
    n_assets = len(parameter["own_mean"])
    residual = rng.standard_normal((count, n_assets)) * parameter["common_residual_sd"]
    return Common(
        step,
        2 * scenario + 1 if odd_only else scenario,
        market[:, None] * parameter["common_loading"] + residual,
    )


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
