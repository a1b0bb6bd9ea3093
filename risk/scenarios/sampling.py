"""Where the normals of a path come from: plain draws, mirrored pairs, or a Sobol sequence.

Every scheme gives each step's independent standard normals on (asset, scenario), tile by tile; what
is done with them is the same. Measured gains: ``docs/methods/monte_carlo.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy import special

from risk.scenarios.paths import correlate

Sampling = Literal["plain", "antithetic", "sobol"]

#: Bits of a Sobol coordinate: a billion points, normals to 6.2 standard deviations. SciPy cannot
#: skip ahead with more than 32.
_BITS = 30


class PlainNormals:
    """Independent draws, one stream; also what a Sobol point does not cover."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        self._rng, self._shape = rng, shape

    def begin_tile(self) -> np.ndarray | None:
        """Uniforms of the common jumps (3, scenario): tilted, how many, how large; or none."""
        return None

    def steps(self, n: int) -> Iterator[np.ndarray]:
        """Normals of each step of one tile (asset, scenario); the array is used again."""
        normal = np.empty(self._shape)
        for _ in range(n):
            self._rng.standard_normal(out=normal)
            yield normal

    def chi_square(self, rng: np.random.Generator, df: float, days: int) -> np.ndarray:
        """Chi-square draws of one tile (day, scenario)."""
        return rng.chisquare(df, (days, self._shape[1]))


class MirroredNormals:
    """The second half of a tile is the first half with every move turned around.

    The pair shares its volatility, so that the mirror of a path is a path of the model.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        self._rng, self._shape = rng, shape

    def begin_tile(self) -> np.ndarray | None:
        """As `PlainNormals.begin_tile`."""
        return None

    def steps(self, n: int) -> Iterator[np.ndarray]:
        """As `PlainNormals.steps`."""
        half = self._shape[1] // 2
        normal = np.empty(self._shape)
        for _ in range(n):
            first = self._rng.standard_normal((self._shape[0], half))
            normal[:, :half], normal[:, half:] = first, -first
            yield normal

    def chi_square(self, rng: np.random.Generator, df: float, days: int) -> np.ndarray:
        """As `PlainNormals.chi_square`."""
        return np.tile(rng.chisquare(df, (days, self._shape[1] // 2)), 2)


class SobolNormals:
    """Scrambled Sobol points [1]_ for what matters most, plain draws for the rest.

    In this order: the common jumps (whether tilted, how many, how large the first), each day's
    volatility, the end of the path along the principal components of the correlation, then its
    middle along them (Brownian-bridge ordering [2]_). The steps in between are plain draws, moved
    so that they add up to the given sums.

    Parameters
    ----------
    rng : Generator
        Of the steps in between.
    scramble : Generator
        Of the scrambling: the same for every block, or the blocks would not form one sequence.
    shape : tuple of int
        (asset, scenario) of a tile; the scenarios a power of two.
    rotation : ndarray (asset, asset)
        Orthogonal: principal components to the independent normals of the Cholesky factor.
    first : int
        Number of the first point.
    days : int
        Days of the horizon.

    References
    ----------
    .. [1] A. Owen, "Scrambling Sobol' and Niederreiter-Xing points", J. Complexity 14, 1998; J.
       Matousek, "On the L2-discrepancy for anchored boxes", J. Complexity 14, 1998.
    .. [2] B. Moskowitz and R. Caflisch, "Smoothness and dimension reduction in quasi-Monte Carlo
       methods", Mathematical and Computer Modelling 23, 1996.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        scramble: np.random.Generator,
        shape: tuple[int, int],
        rotation: np.ndarray,
        first: int,
        days: int,
    ) -> None:
        self._rng, self._shape, self._rotation, self._days = rng, shape, rotation, days
        # Half a second of import that only this sampling pays for.
        from scipy.stats import qmc

        n_coordinates = 3 + days + 2 * shape[0]
        self._engine = qmc.Sobol(n_coordinates, scramble=True, bits=_BITS, rng=scramble)
        if first:  # SciPy cannot skip nothing
            self._engine.fast_forward(first)
        self._point = np.empty((0, shape[1]))

    def begin_tile(self) -> np.ndarray | None:
        """As `PlainNormals.begin_tile`; takes the next points."""
        # Half a digit, so that no coordinate is zero.
        self._point = self._engine.random(self._shape[1]).T + 0.5 ** (_BITS + 1)
        return self._point[:3]

    def chi_square(self, rng: np.random.Generator, df: float, days: int) -> np.ndarray:
        """As `PlainNormals.chi_square`."""
        return 2 * special.gammaincinv(df / 2, self._point[3 : 3 + days])

    def steps(self, n: int) -> Iterator[np.ndarray]:
        """As `PlainNormals.steps`."""
        n_assets = self._shape[0]
        normal = special.ndtri(self._point[3 + self._days :])
        end = correlate(self._rotation, normal[:n_assets])
        middle = correlate(self._rotation, normal[n_assets:])
        early = n // 2
        late = n - early
        first_sum = end * early / np.sqrt(n) + middle * np.sqrt(early * late / n)
        last_sum = end * np.sqrt(n) - first_sum
        for count, total in ((early, first_sum), (late, last_sum)):
            if not count:
                continue
            draws = self._rng.standard_normal((count, *self._shape))
            yield from draws + (total - draws.sum(axis=0)) / count


def component_rotation(factor: np.ndarray) -> np.ndarray:
    """Rotation that lets the first normals drive the largest principal components.

    Parameters
    ----------
    factor : ndarray (asset, asset)
        Lower Cholesky factor of a covariance.

    Returns
    -------
    ndarray (asset, asset)
        Orthogonal Q: the columns of ``factor @ Q`` are the principal components, largest first.
    """
    size, axes = np.linalg.eigh(factor @ factor.T)
    order = np.argsort(size)[::-1]
    # An axis has no sign of its own; this one points where most assets rise.
    axes = axes[:, order] * np.where(axes[:, order].sum(axis=0) < 0, -1.0, 1.0)
    return np.linalg.solve(factor, axes * np.sqrt(size[order]))
