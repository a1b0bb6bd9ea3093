"""What a block of paths is drawn from: its settings, its random streams, normals and reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from risk.errors import ConfigError
from risk.scenarios.sampling import (
    MirroredNormals,
    PlainNormals,
    Sampling,
    SobolNormals,
    component_rotation,
)

Model = Literal["student_t", "normal", "t_copula"]

#: Part of every random key; raised when the meaning of a draw changes.
SCHEME = 1

#: One random stream per purpose, so that switching jumps off leaves the diffusion as it was.
STREAMS = (
    "normal", "reach_low", "reach_high", "mixing", "common_jumps", "own_jumps", "extra_jumps",
    "implied", "funding", "basis", "peg",
)  # fmt: skip

#: Number of the stream that scrambles Sobol points; it has no block, so it stays by itself.
_SCRAMBLE = 7

#: Scenarios advanced together. A block draws whole tiles, so its first paths do not depend on `n`.
TILE = 256

#: Below this, independent draws of low and high, and of different assets', show in the tail.
MIN_STEPS = 12


@dataclass(frozen=True)
class Paths:
    """What a block of paths is made of, beside its calibration.

    Attributes
    ----------
    seed, set_code, block : int
        The random key.
    steps : int
        Steps over the whole horizon: at least 12, and a multiple of `horizon_days`.
    horizon_days : int
    model : {"student_t", "normal", "t_copula"}
        Whether each day's variance is mixed, and whether every asset has a margin of its own.
    jumps : bool
        Whether prices jump.
    sampling : {"plain", "antithetic", "sobol"}
        Where the normals come from.
    tilt : float
        How many times as often common jumps come in half of the paths; weights put it right.
    block_size : int
        Paths of a whole block: which Sobol points are this block's.
    """

    seed: int
    set_code: int
    block: int
    steps: int
    horizon_days: int
    model: Model = "student_t"
    jumps: bool = True
    sampling: Sampling = "plain"
    tilt: float = 1.0
    block_size: int = 4096

    def __post_init__(self) -> None:
        if self.steps < MIN_STEPS or self.horizon_days < 1 or self.steps % self.horizon_days:
            raise ConfigError(
                f"monte_carlo: {self.steps} steps over {self.horizon_days} days; take at least "
                f"{MIN_STEPS} steps, the same number for every day"
            )
        for name, value, known in (
            ("model", self.model, get_args(Model)),
            ("sampling", self.sampling, get_args(Sampling)),
        ):
            if value not in known:
                raise ConfigError(
                    f"monte_carlo: unknown {name} {value!r}; use one of {', '.join(known)}"
                )
        if not 1 <= self.tilt < np.inf or (self.tilt > 1 and not self.jumps):
            raise ConfigError(
                f"monte_carlo: a tilt of {self.tilt:g} with jumps {self.jumps}; it is at least 1, "
                "and 1 without jumps"
            )

    def stream(self, purpose: str) -> np.random.Generator:
        """The generator of one purpose, at its beginning."""
        key = (SCHEME, self.set_code, self.block, STREAMS.index(purpose))
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence(self.seed, spawn_key=key))
        )


def make_normals(
    paths: Paths, shape: tuple[int, int], factor: np.ndarray
) -> PlainNormals | MirroredNormals | SobolNormals:
    """The source of a block's normals; `factor` is the Cholesky factor of its covariance."""
    rng = paths.stream("normal")
    if paths.sampling == "plain":
        return PlainNormals(rng, shape)
    if paths.sampling == "antithetic":
        return MirroredNormals(rng, shape)
    whole_tiles = -(-paths.block_size // TILE) * TILE
    key = (SCHEME, paths.set_code, _SCRAMBLE)
    scramble = np.random.Generator(
        np.random.Philox(np.random.SeedSequence(paths.seed, spawn_key=key))
    )
    rotation = component_rotation(factor)
    first = paths.block * whole_tiles
    return SobolNormals(rng, scramble, shape, rotation, first, paths.horizon_days)


def reaches(paths: Paths, shape: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Exponentials of the lows and highs of every step (asset, scenario); the arrays are reused."""
    low_stream, high_stream = paths.stream("reach_low"), paths.stream("reach_high")
    low, high = np.empty(shape), np.empty(shape)
    half = shape[1] // 2
    while True:
        if paths.sampling == "antithetic":
            # The mirror of a low is a high.
            drawn = low_stream.standard_exponential((shape[0], half))
            other = high_stream.standard_exponential((shape[0], half))
            low[:, :half], low[:, half:] = drawn, other
            high[:, :half], high[:, half:] = other, drawn
        else:
            low_stream.standard_exponential(out=low)
            high_stream.standard_exponential(out=high)
        yield low, high
