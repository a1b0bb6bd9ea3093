"""What makes a day calm or wild: multipliers of its variance, one draw per scenario and day.

Degrees of freedom are fitted to daily returns. Drawn per step, multipliers would average out to a
Gaussian day; drawn once per horizon, several days would share one shock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import special

from risk.scenarios.paths import correlate

#: Where the stretch is tabulated: absolute ends of the copula's path, in its own units.
_GRID = np.exp(np.linspace(np.log(1e-4), np.log(1e8), 4096))

#: Towards zero the stretch is flat; shorter ends are taken at this one, not as zero over zero.
_SHORTEST = 1e-4


class Day(NamedTuple):
    """The covariance of one step on one day."""

    factor: np.ndarray  # lower Cholesky factor (asset, asset)
    variance: np.ndarray  # its diagonal (asset,)
    n_steps: int


class SharedMixing:
    """One multiplier for all assets: the daily return is multivariate Student-t of unit variance.

    Parameters
    ----------
    df : float
        Degrees of freedom.
    is_mixed : bool
        False for a Gaussian day: every multiplier is one.
    """

    def __init__(self, df: float, is_mixed: bool = True) -> None:
        self.df, self._is_mixed = df, is_mixed

    def multipliers(
        self, chi_square: np.ndarray, steps: Iterator[np.ndarray], day: Day
    ) -> tuple[Iterator[np.ndarray], np.ndarray]:
        """The day's normals, and the multipliers of its variance (asset, scenario).

        Parameters
        ----------
        chi_square : ndarray (scenario,)
            Draws with `df` degrees of freedom.
        steps : iterator of ndarray (asset, scenario)
            Independent standard normals of the steps.
        day : Day
        """
        one = 1 / (chi_square / (self.df - 2)) if self._is_mixed else np.ones(len(chi_square))
        return steps, np.tile(one, (len(day.variance), 1))


class CopulaMixing:
    """A multiplier per asset: a t-copula with margins of their own, laid over Brownian paths.

    A day's path of one asset is its Student-t path of the copula, stretched by the positive number
    that takes its end from the copula's quantile to the margin's. The joint law of the ends is then
    exactly the t-copula with these margins, and between its ends the path stays a Brownian bridge
    of known variance. With equal degrees of freedom everywhere this is `SharedMixing`.

    Parameters
    ----------
    df : float
        Degrees of freedom of the copula.
    margin_df : ndarray (asset,)
        Degrees of freedom of the margins, above two: margins have unit variance.

    References
    ----------
    .. [1] S. Demarta and A. McNeil, "The t copula and related copulas", Int. Statistical Review
       73, 2005.
    """

    def __init__(self, df: float, margin_df: np.ndarray) -> None:
        self.df = df
        # By the lower tail: one less a survival of 1e-20 would be one.
        tail = special.stdtr(df, -_GRID)
        self._ends = [
            np.log(-special.stdtrit(own, tail) * np.sqrt((own - 2) / own)) for own in margin_df
        ]

    def multipliers(
        self, chi_square: np.ndarray, steps: Iterator[np.ndarray], day: Day
    ) -> tuple[Iterator[np.ndarray], np.ndarray]:
        """As `SharedMixing.multipliers`."""
        kept = [next(steps).copy() for _ in range(day.n_steps)]
        ends = correlate(day.factor, np.sum(kept, axis=0))
        ends /= np.sqrt(day.n_steps * day.variance)[:, None]
        return iter(kept), self.stretch(ends, chi_square)

    def stretch(self, ends: np.ndarray, chi_square: np.ndarray) -> np.ndarray:
        """Multipliers of the variance (asset, scenario), given correlated standard normal ends."""
        log_length = np.log(np.maximum(np.abs(ends), _SHORTEST))
        at = log_length - 0.5 * np.log(chi_square / self.df)
        grid = np.log(_GRID)
        out = np.empty_like(ends)
        for place, own in enumerate(self._ends):
            out[place] = np.exp(2 * (np.interp(at[place], grid, own) - log_length[place]))
        return out
