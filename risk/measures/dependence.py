"""How many independent scenarios a set is worth: overlapping windows, pairs, replications, weights.

An estimate from dependent or weighted scenarios has another variance than the formulas for
independent ones say. Here the variance of a tail's weight and of its mean excess is estimated with
the dependence in it; the set then counts as so many independent scenarios as would have that
variance, and the intervals are those of that many (``docs/methods/intervals.md``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from risk.measures.samples import Floats, first_reaching
from risk.measures.tail import tail_of

#: Fewest replications (blocks of a quasi-random set, pairs) an error is estimated from.
LEAST_REPLICATES = 8


class Design(Protocol):
    """How the scenarios of a set were sampled."""

    @property
    def method(self) -> str:
        """How the variance is found, in words that stand beside the interval."""

    def variance(self, series: Floats) -> tuple[float, float]:
        """Variance of the mean of a series that adds up to zero, and its degrees of freedom.

        Parameters
        ----------
        series : ndarray (n,)
            One term per scenario, in the order the scenarios were made.
        """

    def first(self, n: int) -> Design:
        """Design of the first `n` scenarios alone."""


@dataclass(frozen=True)
class Independent:
    """Scenarios that know nothing of each other."""

    method = "independent scenarios"

    def variance(self, series: Floats) -> tuple[float, float]:
        """Sum of squares over n squared."""
        return float(series @ series) / series.size**2, math.inf

    def first(self, n: int) -> Independent:
        """The same."""
        return self


@dataclass(frozen=True)
class Overlapping:
    """Windows in order of time that share days: each is like its neighbours.

    The variance is that of the stationary block bootstrap [1]_ with the block length of Politis
    and White [2]_. Of a mean it is known in closed form, the limit of infinitely many resamples:
    nothing is drawn, so there is no seed and no noise. With blocks of mean length b it behaves
    like a variance with n / b degrees of freedom.

    References
    ----------
    .. [1] D. Politis and J. Romano, "The stationary bootstrap", JASA 89, 1994, lemma 1.
    .. [2] D. Politis and H. White, "Automatic block-length selection for the dependent bootstrap",
       Econometric Reviews 23, 2004; with A. Patton's correction, Econometric Reviews 28, 2009.
    """

    method = "stationary block bootstrap, block length of Politis and White"

    def variance(self, series: Floats) -> tuple[float, float]:
        """Of the stationary bootstrap; never below that of independent scenarios."""
        # Seconds of import that only overlapping windows pay for.
        from arch.bootstrap import optimal_block_length

        alone, _ = Independent().variance(series)
        n = series.size
        if alone <= 0.0 or n < 2:
            return alone, math.inf
        found = float(optimal_block_length(series)["stationary"].iloc[0])
        length = min(max(found, 1.0), float(n)) if math.isfinite(found) else 1.0
        return max(bootstrap_variance(series, length), alone), n / length

    def first(self, n: int) -> Overlapping:
        """The same."""
        return self


@dataclass(frozen=True, eq=False)
class Replicated:
    """Groups of scenarios that are drawn together, the groups independent of each other.

    Attributes
    ----------
    group : ndarray of int (n,)
        Group of each scenario, from 0.
    method : str
    """

    group: NDArray[np.int64]
    method: str

    def variance(self, series: Floats) -> tuple[float, float]:
        """Between the sums of the groups; NaN for too few of them."""
        sums = np.bincount(self.group, series)
        n_groups = sums.size
        if n_groups < LEAST_REPLICATES:
            return math.nan, 0.0
        between = float(sums @ sums) * n_groups / (n_groups - 1)
        return between / series.size**2, n_groups - 1.0

    def first(self, n: int) -> Replicated:
        """Their groups."""
        return Replicated(self.group[:n], self.method)


def mirrored_pairs(n: int, block: int, tile: int) -> Replicated:
    """Design of paths whose second half of every tile mirrors the first.

    Parameters
    ----------
    n : int
        Paths of the set.
    block : int
        Paths of a block; tiles begin anew in each.
    tile : int
        Paths of a tile; even.

    Raises
    ------
    ValueError
        If a size is no whole number from 1, or half a tile is none.

    Examples
    --------
    >>> mirrored_pairs(6, 4, 4).group.tolist()
    [0, 1, 0, 1, 2, 3]
    """
    _check_sizes(n=n, block=block, tile=tile, half_tile=tile / 2)
    number = np.arange(n)
    inside = number % block
    pair = (number // block, inside // tile, inside % tile % (tile // 2))
    _, group = np.unique(np.stack(pair), axis=1, return_inverse=True)
    return Replicated(np.ravel(group), "mirrored pairs as units")


def replications(n: int, block: int) -> Replicated:
    """Design of a quasi-random set: each of its blocks is a net of its own.

    Consecutive blocks of one scrambled sequence complement each other, so that their spread, taken
    as that of independent replications, rather overstates the error of all of them together.

    Raises
    ------
    ValueError
        If a size is no whole number from 1.

    Examples
    --------
    >>> replications(5, 2).group.tolist()
    [0, 0, 1, 1, 2]
    """
    _check_sizes(n=n, block=block)
    return Replicated(np.arange(n) // block, "blocks of the sequence as replications")


def _check_sizes(**sizes: float) -> None:
    for name, size in sizes.items():
        if not (math.isfinite(size) and size >= 1 and size == int(size)):
            raise ValueError(f"{name} is {size}; write a whole number from 1")


def bootstrap_variance(series: Floats, length: float) -> float:
    """Variance of the mean under the stationary bootstrap, exactly.

    Parameters
    ----------
    series : ndarray (n,)
        Adding up to zero.
    length : float
        Mean length of a block, at least 1.

    Notes
    -----
    With the circular autocovariances C of the series and q = 1 - 1 / length it is
    ``(C(0) + 2 sum_i (1 - i / n) q**i C(i)) / n`` over i = 1..n-1.

    Examples
    --------
    >>> bootstrap_variance(np.array([1.0, -1.0, 1.0, -1.0]), 1.0)  # blocks of one: independent
    0.25
    """
    n = series.size
    spectrum = np.fft.rfft(series)
    covariance = np.fft.irfft((spectrum * spectrum.conj()).real, n) / n
    lag = np.arange(1, n)
    weight = (1 - lag / n) * (1 - 1 / length) ** lag
    return float(covariance[0] + 2 * (weight @ covariance[1:])) / n


class Worth(NamedTuple):
    """A tail with its variance: what the ends of an interval are made of."""

    value: float
    shortfall: float
    error: float  # standard error of the shortfall
    effective: float  # independent scenarios the set is worth for the tail's weight
    degrees: float  # of freedom of that error


def worth_of(losses: Floats, confidence: float, weights: Floats | None, design: Design) -> Worth:
    """Value at risk, shortfall and their precision under a design.

    Parameters
    ----------
    losses : ndarray (n,)
        In the order of the scenarios.
    confidence : float
    weights : ndarray (n,) or None
        Adding up to one.
    design : Design

    Returns
    -------
    Worth
        `effective` is c (1 - c) over the variance of the weight beyond the value at risk, lowered
        by the squared ratio of the normal's quantile to Student's, since that variance is itself
        an estimate [1]_. NaN where the design allows no estimate.

    References
    ----------
    .. [1] E. Korn and B. Graubard, "Confidence intervals for proportions with small expected
       number of positive counts estimated from survey data", Survey Methodology 24, 1998.
    """
    n = losses.size
    chance = np.full(n, 1.0 / n) if weights is None else weights
    value, shortfall = (float(part) for part in tail_of(losses, confidence, weights))
    above, at = losses > value, losses == value
    # Ties at the value at risk belong to the tail by the part that makes its weight 1 - c.
    missing = (1.0 - confidence) - float(chance[above].sum())
    inside = above + at * (missing / float(chance[at].sum()))
    tail_variance, degrees = design.variance(n * chance * (inside - (1.0 - confidence)))
    # Squares the error is made of: heavy weights leave fewer of them than the tail has losses.
    square = (chance * inside) ** 2
    n_squares = float(square.sum()) ** 2 / float(square @ square)
    excess = np.maximum(losses - value, 0.0)
    excess_variance, excess_degrees = design.variance(n * chance * (excess - chance @ excess))
    kish = 1.0 / float(chance @ chance)
    effective = confidence * (1.0 - confidence) / tail_variance if tail_variance > 0 else kish
    if math.isnan(tail_variance):
        effective = math.nan
    return Worth(
        value=value,
        shortfall=shortfall,
        error=math.sqrt(excess_variance) / (1.0 - confidence),
        effective=effective * _shrink(degrees),
        degrees=min(excess_degrees, n_squares - 1.0),
    )


def value_at_levels(
    losses: Floats, weights: Floats | None, above: float | None, reaching: float | None
) -> tuple[float, float]:
    """Smallest losses whose cumulative weight exceeds one level and reaches another; NaN: none."""
    n = losses.size
    order = np.argsort(losses, kind="stable")
    cumulative = np.arange(1, n + 1) / n if weights is None else np.cumsum(weights[order])
    slack = 1e-12 + n * np.finfo("f8").eps
    low = high = math.nan
    if above is not None:
        place = min(int(np.searchsorted(cumulative, above + slack)), n - 1)
        low = float(losses[order[place]])
    if reaching is not None:
        high = float(losses[order[first_reaching(cumulative, reaching)]])
    return low, high


def _shrink(degrees: float) -> float:
    """Squared ratio of the normal's 97.5 % quantile to Student's."""
    if degrees <= 0.0:
        return math.nan
    return float(stats.norm.ppf(0.975) / stats.t.ppf(0.975, degrees)) ** 2
