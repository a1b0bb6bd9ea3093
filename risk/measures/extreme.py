"""Beyond the data: a generalised Pareto tail fitted to the losses over a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from risk.measures.samples import Floats, SampleError, check_confidence, check_losses

#: Fewest losses over the threshold a two-parameter tail is fitted to.
LEAST_EXCESSES = 5


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto tail: P(L > x) = tail_fraction (1 + shape (x - u) / scale)^(-1/shape).

    Attributes
    ----------
    shape : float
        Tail index; positive is heavy, the mean is infinite from 1 on.
    scale : float
        In the unit of the losses.
    threshold : float
        The level u the tail starts at, in the unit of the losses.
    tail_fraction : float
        Share of all losses above the threshold.
    log_likelihood : float
        Of the excesses, at its maximum.
    """

    shape: float
    scale: float
    threshold: float
    tail_fraction: float
    log_likelihood: float

    def __post_init__(self) -> None:
        """Refuse what is no tail.

        Raises
        ------
        ValueError
            If a number is not finite, the scale not above zero, or the fraction outside (0, 1].
        """
        if not all(map(math.isfinite, (self.shape, self.scale, self.threshold))):
            raise SampleError("shape, scale and threshold of a tail must be finite")
        if not (self.scale > 0.0 and 0.0 < self.tail_fraction <= 1.0):
            raise SampleError(
                f"a tail has a scale above zero and a fraction in (0, 1]; got {self.scale} and "
                f"{self.tail_fraction}"
            )

    def value_at_risk(self, confidence: float) -> float:
        """Loss exceeded with probability ``1 - confidence``, in the unit of the losses.

        Raises
        ------
        ValueError
            If that loss lies below the threshold, where this tail says nothing.
        """
        tail = (1.0 - check_confidence(confidence)) / self.tail_fraction
        if tail > 1.0 + 1e-12:
            raise ValueError(
                f"confidence {confidence} lies below the threshold: the fitted tail holds "
                f"{self.tail_fraction:.4g} of the losses, so ask for "
                f"{1.0 - self.tail_fraction:.4g} or more"
            )
        logarithm = -math.log(tail)
        if self.shape == 0.0:
            return self.threshold + self.scale * logarithm
        return self.threshold + self.scale / self.shape * math.expm1(self.shape * logarithm)

    def expected_shortfall(self, confidence: float) -> float:
        """Mean loss beyond the value at risk; infinite for a shape of one or more."""
        value = self.value_at_risk(confidence)
        if self.shape >= 1.0:
            return math.inf
        return (value + self.scale - self.shape * self.threshold) / (1.0 - self.shape)

    def exceedance_probability(self, x: float) -> float:
        """Probability of a loss above `x`, for `x` at or above the threshold.

        Raises
        ------
        ValueError
            If `x` lies below the threshold.
        """
        if not x >= self.threshold:
            raise ValueError(f"{x} lies below the threshold {self.threshold}")
        y = (x - self.threshold) / self.scale
        if self.shape == 0.0:
            return self.tail_fraction * math.exp(-y)
        if self.shape * y <= -1.0:
            return 0.0
        return self.tail_fraction * math.exp(-math.log1p(self.shape * y) / self.shape)


def fit_tail(losses: ArrayLike, threshold: float) -> Tail:
    """Fit a generalised Pareto tail to the losses above a threshold, by maximum likelihood.

    Parameters
    ----------
    losses : array_like (n,)
        Losses, loss positive, any currency; all of them, not only those above.
    threshold : float
        Where the tail starts, in the unit of the losses; strictly larger losses are excesses.

    Returns
    -------
    Tail
        `shape`, `scale`, `threshold`, `tail_fraction`, `log_likelihood`, and the methods
        `value_at_risk`, `expected_shortfall`, `exceedance_probability`.

    Raises
    ------
    ValueError
        If a loss is not finite, fewer than five exceed the threshold, or they are all the same.

    References
    ----------
    .. [1] S. D. Grimshaw, "Computing maximum likelihood estimates for the generalized Pareto
       distribution", Technometrics 35(2), 1993 (one parameter is profiled out).
    .. [2] McNeil, Frey and Embrechts, "Quantitative Risk Management", 2nd ed., section 5.2.

    Examples
    --------
    >>> u = (np.arange(1000) + 0.5) / 1000
    >>> tail = fit_tail(((1 - u) ** -0.3 - 1) / 0.3, threshold=1.0)
    >>> round(tail.shape, 2), round(tail.scale, 1)
    (0.3, 1.3)
    """
    sample = -check_losses(losses, "losses").ravel()
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be finite; got {threshold}")
    excess = sample[sample > threshold] - threshold
    if excess.size < LEAST_EXCESSES:
        raise SampleError(
            f"only {excess.size} losses exceed the threshold {threshold}; a tail needs at least "
            f"{LEAST_EXCESSES}: lower the threshold"
        )
    unit = float(excess.mean())
    y = excess / unit
    if np.ptp(y) <= 1e-12:
        raise SampleError("all losses above the threshold are the same: no tail can be fitted")
    theta = _most_likely_ratio(y)
    shape = float(np.log1p(theta * y).mean()) if theta else 0.0
    scale = (shape / theta if theta else 1.0) * unit
    likelihood = -excess.size * (math.log(scale) + shape + 1.0)
    return Tail(shape, scale, float(threshold), excess.size / sample.size, likelihood)


def _most_likely_ratio(y: Floats) -> float:
    """Ratio theta = shape / scale that maximises the profile likelihood, for excesses of mean 1.

    Given theta, the best shape is mean(ln(1 + theta y)). The likelihood has no upper bound as
    the shape falls to -1, so local maxima are sought on a grid and shapes below -1 are left out.
    """

    def cost(theta: float) -> float:
        if theta == 0.0:
            return 0.0
        shape = float(np.log1p(theta * y).mean())
        return math.log(shape / theta) + shape if shape > -1.0 else math.inf

    positive = np.geomspace(1e-6, 1e4, 200)
    negative = -(1.0 - np.geomspace(1e-9, 1.0 - 1e-6, 200)) / y.max()
    grid = np.sort(np.concatenate([negative, [0.0], positive]))
    costs = np.array([cost(theta) for theta in grid])
    best = int(np.argmin(costs))
    if not 0 < best < grid.size - 1:
        return float(grid[best])
    found = optimize.minimize_scalar(
        cost, bounds=(grid[best - 1], grid[best + 1]), method="bounded", options={"xatol": 1e-12}
    )
    return float(found.x) if found.fun < costs[best] else float(grid[best])
