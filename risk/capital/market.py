"""Market-risk capital: internal model with liquidity horizons, and value at risk plus stressed.

Plain formulas on numbers that were already measured; the constants come in as arguments, since they
are dated values of the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from risk.capital.checks import check_amounts, check_count, check_share

#: CRR Article 366: addend for 0, 1, ..., 10 or more overshootings in 250 days.
PLUS_FACTORS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.40, 0.50, 0.65, 0.75, 0.85, 1.00)


@dataclass(frozen=True)
class MarketTails:
    """What the market-risk rules need of the book, measured on past windows.

    Losses in USD, as if one bank held the whole book. Keys of the mappings are liquidity horizons
    in days; each value is the ten-day expected shortfall of the factors with at least that horizon.

    Attributes
    ----------
    full_current, reduced_current, reduced_stressed : Mapping of int to float
        All factors over the latest year; the reduced set over it, and over its worst year.
    value_at_risk, stressed_value_at_risk : float
        Ten days, over the latest year (all factors) and over the worst one (reduced set).
    not_modellable : Mapping of str to float
        Stress loss of every factor without enough real prices.
    reduced_share : float
        Expected shortfall of the reduced set over that of the full set, latest year.
    n_factors, n_reduced : int
        Assets in the full and the reduced set.
    stress_start, stress_end : date
        Last days of the first and the last window of the worst year.
    history_start : date
        From where the worst year was looked for.
    n_windows : int
        Overlapping windows in a year.
    """

    full_current: Mapping[int, float]
    reduced_current: Mapping[int, float]
    reduced_stressed: Mapping[int, float]
    value_at_risk: float
    stressed_value_at_risk: float
    not_modellable: Mapping[str, float]
    reduced_share: float
    n_factors: int
    n_reduced: int
    stress_start: date
    stress_end: date
    history_start: date
    n_windows: int


def stressed_expected_shortfall(
    reduced_stressed: float, full_current: float, reduced_current: float
) -> float:
    """Expected shortfall of the full set in the stress of the reduced one (MAR33.5).

    ``ES_RS * max(ES_FC / ES_RC, 1)``; without a loss in the reduced set today the ratio is one.

    Raises
    ------
    ValueError
        If an amount is negative or not finite.

    Examples
    --------
    >>> stressed_expected_shortfall(200.0, 110.0, 100.0)
    220.00000000000003
    """
    check_amounts(
        reduced_stressed=reduced_stressed,
        full_current=full_current,
        reduced_current=reduced_current,
    )
    ratio = full_current / reduced_current if reduced_current else 1.0
    return reduced_stressed * max(ratio, 1.0)


def model_capital(all_classes: float, by_class: Iterable[float], correlation: float = 0.5) -> float:
    """Aggregate the unconstrained figure and those of the risk classes (MAR33.14).

    Raises
    ------
    ValueError
        If an amount is negative or not finite, or the correlation outside [0, 1].

    Examples
    --------
    >>> model_capital(100.0, [80.0, 60.0])
    120.0
    """
    parts = list(by_class)
    check_amounts(all_classes=all_classes, by_class=parts)
    check_share("correlation", correlation)
    return correlation * all_classes + (1.0 - correlation) * math.fsum(parts)


def non_modellable_add_on(stresses: Iterable[float], correlation: float = 0.6) -> float:
    """Stress capital of factors that fail the test of real prices (MAR33.17).

    ``sqrt((rho sum SES)^2 + (1 - rho^2) sum SES^2)``, for factors that are neither idiosyncratic
    credit nor idiosyncratic equity.

    Raises
    ------
    ValueError
        If a stress loss is negative or not finite, or the correlation outside [0, 1].

    Examples
    --------
    >>> round(non_modellable_add_on([3.0, 4.0]), 6)
    5.8
    """
    losses = np.fromiter(stresses, dtype="f8")
    check_amounts(stresses=losses)
    check_share("correlation", correlation)
    together, apart = math.fsum(losses), math.fsum(losses**2)
    return math.sqrt((correlation * together) ** 2 + (1.0 - correlation**2) * apart)


def has_real_prices(is_observed: np.ndarray) -> bool:
    """Whether a factor passes the test of real prices over a year of days (MAR31.12-31.14).

    At least 24 observations and no 90 days with fewer than four, or at least 100.

    Parameters
    ----------
    is_observed : ndarray of bool (day,)
        The latest twelve months, at most one observation a day.

    Raises
    ------
    ValueError
        If it holds anything but true and false.

    Examples
    --------
    >>> has_real_prices(np.arange(365) % 15 == 0), has_real_prices(np.arange(365) >= 270)
    (True, False)
    """
    seen = np.asarray(is_observed)
    if seen.dtype != bool:
        raise ValueError(f"is_observed must be true or false for every day; got {seen.dtype}")
    n = int(seen.sum())
    if n >= 100:
        return True
    if n < 24 or seen.size < 90:
        return False
    total = np.concatenate([[0], np.cumsum(seen)])
    return bool((total[90:] - total[:-90] >= 4).all())


def value_at_risk_capital(
    value_at_risk: float,
    average: float,
    multiplier: float,
    stressed: float,
    stressed_average: float,
    stressed_multiplier: float,
) -> float:
    """Value at risk plus stressed value at risk, each the larger of last and multiplied average.

    CRR Article 364(1), as in force in the Union until the end of 2026; 12 CFR 217.204(a)(2).

    Raises
    ------
    ValueError
        If an amount or a multiplier is negative or not finite.

    Examples
    --------
    >>> value_at_risk_capital(10.0, 9.0, 3.0, 20.0, 21.0, 3.0)
    90.0
    """
    check_amounts(
        value_at_risk=value_at_risk, average=average, multiplier=multiplier, stressed=stressed,
        stressed_average=stressed_average, stressed_multiplier=stressed_multiplier,
    )  # fmt: skip
    return max(value_at_risk, multiplier * average) + max(
        stressed, stressed_multiplier * stressed_average
    )


def plus_factor(n_exceedances: int) -> float:
    """Addend on the multiplier of three after `n_exceedances` in 250 days (CRR Article 366).

    Raises
    ------
    ValueError
        If the count is no whole number from zero on.

    Examples
    --------
    >>> [plus_factor(n) for n in (4, 5, 10)]
    [0.0, 0.4, 1.0]
    """
    count = check_count("n_exceedances", n_exceedances)
    return PLUS_FACTORS[min(count, len(PLUS_FACTORS) - 1)]
