"""Whether exceedances come singly: Christoffersen's tests and the dynamic quantile test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from risk.backtest.coverage import Outcome, exceedances, ratio_test
from risk.backtest.series import Floats, SeriesError, check_confidence, check_series, log_likelihood


@dataclass(frozen=True)
class ExactOutcome:
    """A test statistic, its asymptotic p-value and the exact one for this number of days."""

    statistic: float
    p_value: float
    exact_p_value: float


@dataclass(frozen=True)
class Christoffersen:
    """Independence alone, and coverage and independence together."""

    independence: ExactOutcome
    conditional_coverage: ExactOutcome


def christoffersen(hits: ArrayLike, confidence: float) -> Christoffersen:
    """Likelihood-ratio tests of independent exceedances against a first-order Markov chain.

    Parameters
    ----------
    hits : array_like (n,) of bool
        Exceedances in order of time, at least two days.
    confidence : float
        Level of the value at risk, in (0, 1).

    Returns
    -------
    Christoffersen
        `independence` (one degree of freedom) and `conditional_coverage` (two), each with
        `statistic`, the chi-squared `p_value`, and `exact_p_value`: the probability of a
        statistic at least as large for this many independent days at this level, by counting
        every sequence. With few exceedances the two can differ enough to flip the decision.

    Raises
    ------
    ValueError
        If there are fewer than two days, a hit is neither 0 nor 1, or the level is outside (0, 1).

    References
    ----------
    .. [1] P. Christoffersen, "Evaluating interval forecasts", International Economic Review
       39(4), 1998. The coverage part uses all n days, the independence part n - 1 transitions.

    Examples
    --------
    >>> result = christoffersen([False, True, True, False, False, False], 0.9)
    >>> round(result.independence.statistic, 4), round(result.independence.exact_p_value, 4)
    (0.1384, 0.3504)
    """
    p = 1.0 - check_confidence(confidence)
    (values,) = check_series(hits=hits)
    if values.size < 2 or not np.isin(values, (0.0, 1.0)).all():
        raise SeriesError("hits must be at least two days of 0 or 1")
    before, after = values[:-1].astype(bool), values[1:].astype(bool)
    n11, n01 = int((before & after).sum()), int((~before & after).sum())
    n10, n00 = int((before & ~after).sum()), int((~before & ~after).sum())
    x, n = int(values.sum()), values.size
    null, alternative = _independence(n00, n01, n10, n11)
    alone = ratio_test(null, alternative, 1)
    covered = ratio_test(
        null + log_likelihood(n - x, x, p), alternative + log_likelihood(n - x, x, x / n), 2
    )
    independence, both, probability = _distribution(n, p)
    return Christoffersen(
        ExactOutcome(
            alone.statistic,
            alone.p_value,
            _probability_from(independence, probability, alone.statistic),
        ),
        ExactOutcome(
            covered.statistic,
            covered.p_value,
            _probability_from(both, probability, covered.statistic),
        ),
    )


def _independence(n00: Any, n01: Any, n10: Any, n11: Any) -> tuple[Any, Any]:
    """Log-likelihoods of the transitions: one probability for all, one for each state."""
    zeros, ones = n00 + n10, n01 + n11

    def share(part: Any, whole: Any) -> Any:
        return part / np.maximum(whole, 1)

    null = log_likelihood(zeros, ones, share(ones, zeros + ones))
    alternative = log_likelihood(n00, n01, share(n01, n00 + n01)) + log_likelihood(
        n10, n11, share(n11, n10 + n11)
    )
    return null, alternative


def _probability_from(statistics: Floats, probability: Floats, observed: float) -> float:
    # Sequences of the same counts must count as "at least as large" whatever the rounding.
    reached = statistics >= observed - 1e-9 * max(1.0, observed)
    return min(float(probability[reached].sum()), 1.0)


@lru_cache(maxsize=16)
def _distribution(n: int, p: float) -> tuple[Floats, Floats, Floats]:
    """Exact distribution of both statistics over all sequences of `n` independent days.

    The statistics depend on a sequence only through its number of ones x, of runs of ones r, and
    its first and last day. There are C(x - 1, r - 1) C(n - x - 1, z - 1) sequences of each kind,
    z = r - 1 + [starts with 0] + [ends with 0] being the number of runs of zeros.
    """
    chance = stats.binom.pmf(np.arange(n + 1), n, p)
    counts = np.flatnonzero(chance > 1e-17)
    parts = []
    for first in (0, 1):
        for last in (0, 1):
            x, r = (grid.ravel() for grid in np.meshgrid(counts, np.arange(n + 1)))
            z = r - 1 + (1 - first) + (1 - last)
            possible = np.where(x > 0, (r >= 1) & (r <= x), r == 0) & (z >= 0)
            possible &= np.where(n - x > 0, (z >= 1) & (z <= n - x), z == 0)
            # All zeros is one run that is both first and last; so is all ones.
            possible &= np.where(x == 0, (first == 0) & (last == 0), True)
            possible &= np.where(x == n, (first == 1) & (last == 1), True)
            parts.append(
                np.stack([x, r, z, np.full_like(x, first), np.full_like(x, last)])[:, possible]
            )
    x, r, z, first_day, last_day = np.concatenate(parts, axis=1)
    log_count = _log_choose(x - 1, r - 1) + _log_choose(n - x - 1, z - 1)
    probability = np.exp(log_count + special.xlogy(x, p) + special.xlog1py(n - x, -p))
    n01, n10 = r - first_day, r - last_day
    n11, n00 = x - r, n - x - z
    null, alternative = _independence(n00, n01, n10, n11)
    alone = np.maximum(-2.0 * (null - alternative), 0.0)
    coverage = log_likelihood(n - x, x, p) - log_likelihood(n - x, x, x / n)
    return alone, np.maximum(-2.0 * (null - alternative + coverage), 0.0), probability


def _log_choose(n: Floats, k: Floats) -> Floats:
    """Log of the binomial coefficient, with C(-1, -1) = 1: no run of no days."""
    n, k = np.maximum(n, 0), np.maximum(k, 0)
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def dynamic_quantile(
    pnl: ArrayLike,
    value_at_risk: ArrayLike,
    confidence: float,
    lags: int = 4,
    *,
    lagged_square: bool = False,
) -> Outcome:
    """Whether an exceedance could have been foreseen from the forecast and the last ones.

    The demeaned exceedances are regressed on a constant, the forecast and their own lags; if the
    forecast is right nothing explains them.

    Parameters
    ----------
    pnl : array_like (n,)
        P&L in order of time, gains positive.
    value_at_risk : array_like (n,)
        Forecasts, loss positive, in the unit of `pnl`.
    confidence : float
        Level of the value at risk, in (0, 1).
    lags : int
        Number of lagged exceedances, at least 1.
    lagged_square : bool
        Add yesterday's squared P&L to the regressors, as some implementations do.

    Returns
    -------
    Outcome
        `statistic` h'X (X'X)^-1 X'h / (p (1 - p)), chi-squared with as many degrees of freedom
        as there are independent regressors, and `p_value`.

    Raises
    ------
    ValueError
        If a value is not finite, the lengths differ or there are fewer days than regressors.

    References
    ----------
    .. [1] R. Engle and S. Manganelli, "CAViaR", Journal of Business and Economic Statistics
       22(4), 2004, theorem 4.

    Examples
    --------
    >>> pnl = np.tile([-1.0, 0.5, 0.2, -0.1, -2.0], 40)
    >>> result = dynamic_quantile(pnl, np.full(200, 1.5), 0.8, lags=1)
    >>> round(result.statistic, 2)
    12.25
    """
    p = 1.0 - check_confidence(confidence)
    gain, forecast = check_series(pnl=pnl, value_at_risk=value_at_risk)
    if lags != int(lags) or lags < 1:
        raise ValueError(f"lags must be a whole number from 1 on; got {lags}")
    n = gain.size - lags
    hit = exceedances(gain, forecast) - p
    columns = [np.ones(max(n, 0)), forecast[lags:]]
    columns += [hit[lags - k : -k] for k in range(1, lags + 1)]
    if lagged_square:
        columns.append(gain[lags - 1 : -1] ** 2)
    if n < len(columns):
        raise SeriesError(f"{gain.size} days are too few for {len(columns)} regressors")
    regressors = np.stack(columns, axis=1)
    # Scaled to unit length: the forecast's unit must not decide what counts as dependent.
    regressors /= np.maximum(np.linalg.norm(regressors, axis=0), math.ulp(0.0))
    left, size, _ = np.linalg.svd(regressors, full_matrices=False)
    independent = size > size[0] * 1e-10
    explained = left[:, independent].T @ hit[lags:]
    statistic = float(explained @ explained) / (p * (1.0 - p))
    return Outcome(statistic, float(stats.chi2.sf(statistic, int(independent.sum()))))
