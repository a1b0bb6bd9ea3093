"""Basel market-risk and cryptoasset formulas, paragraph by paragraph.

Every constant here is also a dated value with its paragraph in ``configs/capital/basel.yaml``; a
test keeps the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from risk.capital.checks import check_amounts, check_count

#: MAR32.9 table 1: multiplier 1.5 plus the add-on of 0, 1, ..., 10 or more exceedances in 250 days.
BASE_MULTIPLIER = 1.5
ADD_ONS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.20, 0.26, 0.33, 0.38, 0.42, 0.50)

#: MAR33.4: liquidity horizons in days; the first is the base horizon.
HORIZONS = (10, 20, 40, 60, 120)

#: SCO60.76: correlation of long and short positions in one group 2a cryptoasset.
GROUP_2A_CORRELATION = 0.94

#: Risk weight of group 2b (1,250 %), and what turns capital into risk-weighted assets: 1 / 8 %.
RISK_WEIGHT = 12.5


def backtest_multiplier(n_exceedances: int) -> float:
    """Multiplier of the internal model after `n_exceedances` in 250 days at 99 % (MAR32.9).

    Raises
    ------
    ValueError
        If the count is no whole number from zero on.

    Examples
    --------
    >>> [backtest_multiplier(n) for n in (4, 5, 10)]
    [1.5, 1.7, 2.0]
    """
    count = check_count("n_exceedances", n_exceedances)
    return BASE_MULTIPLIER + ADD_ONS[min(count, len(ADD_ONS) - 1)]


def liquidity_horizon_expected_shortfall(expected_shortfall: Mapping[int, float]) -> float:
    """Cascade expected shortfall over liquidity horizons (MAR33.4).

    ``sqrt(sum_j (ES_j sqrt((LH_j - LH_{j-1}) / T))^2)`` with ``T = 10`` days.

    Parameters
    ----------
    expected_shortfall : Mapping of int to float
        Horizon in days (10, 20, 40, 60, 120) to the ten-day expected shortfall of the factors with
        at least that horizon, a loss. An absent horizon takes the next longer one given, and zero
        beyond the longest.

    Returns
    -------
    float
        Loss, in the unit of the input.

    Raises
    ------
    ValueError
        If a horizon is not one of the five, or an amount is negative or not finite.

    Examples
    --------
    >>> liquidity_horizon_expected_shortfall({10: 3.0, 20: 4.0})
    5.0
    """
    unknown = sorted(set(expected_shortfall) - set(HORIZONS))
    if unknown:
        raise ValueError(f"liquidity horizon {unknown[0]} is not one of {HORIZONS} days")
    check_amounts(expected_shortfall=list(expected_shortfall.values()))
    squares = []
    for shorter, horizon in zip((0, *HORIZONS), HORIZONS, strict=False):
        longer = [given for given in HORIZONS if given >= horizon and given in expected_shortfall]
        amount = expected_shortfall[longer[0]] if longer else 0.0
        squares.append(amount**2 * (horizon - shorter) / HORIZONS[0])
    return math.sqrt(math.fsum(squares))


def internal_model_capital(
    imcc: float, imcc_average: float, ses: float, ses_average: float, multiplier: float
) -> float:
    """Larger of yesterday's and the multiplied average capital (MAR33.41).

    The stressed add-on `ses_average` of factors without a model is not multiplied.

    Raises
    ------
    ValueError
        If an amount or the multiplier is negative or not finite.

    Examples
    --------
    >>> internal_model_capital(10.0, 8.0, 1.0, 1.0, multiplier=1.5)
    13.0
    """
    check_amounts(
        imcc=imcc, imcc_average=imcc_average, ses=ses, ses_average=ses_average,
        multiplier=multiplier,
    )  # fmt: skip
    return max(imcc + ses, multiplier * imcc_average + ses_average)


def crypto_group_2a(
    long: ArrayLike, short: ArrayLike, correlation: float = GROUP_2A_CORRELATION
) -> float:
    """Risk-weighted assets of hedged group 2a cryptoassets (SCO60.73-60.78).

    Per coin ``K = sqrt(L^2 + S^2 - 2 rho L S)``; coins add up without diversification.

    Parameters
    ----------
    long, short : array_like (coin)
        Long and short exposures per coin as amounts; the sign of `short` does not matter.
    correlation : float
        Of the long and the short leg, in [-1, 1].

    Returns
    -------
    float
        12.5 times the capital.

    Raises
    ------
    ValueError
        If the correlation is outside [-1, 1].

    Examples
    --------
    >>> round(crypto_group_2a(100.0, 100.0) / 12.5, 2)
    34.64
    """
    if not -1.0 <= correlation <= 1.0:
        raise ValueError(f"correlation is {correlation}; it lies in [-1, 1]")
    longs, shorts = _legs(long, short)
    # L^2 + S^2 - 2 rho L S = (L - S)^2 + 2 (1 - rho) L S, which neither cancels nor underflows.
    kept = math.sqrt(2.0 * (1.0 - correlation)) * np.sqrt(longs) * np.sqrt(shorts)
    return RISK_WEIGHT * math.fsum(np.hypot(longs - shorts, kept).ravel())


def crypto_group_2b(long: ArrayLike, short: ArrayLike) -> float:
    """Risk-weighted assets of group 2b cryptoassets: 1,250 % of the larger leg of each coin.

    Parameters
    ----------
    long, short : array_like (coin)
        Delta-adjusted exposures per coin as amounts.

    Examples
    --------
    >>> crypto_group_2b([100.0, 10.0], [40.0, 20.0])
    1500.0
    """
    longs, shorts = _legs(long, short)
    return RISK_WEIGHT * math.fsum(np.maximum(longs, shorts).ravel())


@dataclass(frozen=True)
class Group2Limit:
    """Where a bank's group 2 exposure stands against its tier 1 capital.

    Attributes
    ----------
    share : float
        Exposure over tier 1 capital.
    state : str
        ``within``, ``excess_to_2b`` or ``all_to_2b``.
    excess : float
        Exposure above 1 % of tier 1 capital; zero when within.
    """

    share: float
    state: Literal["within", "excess_to_2b", "all_to_2b"]
    excess: float


def group_2_limit(exposure: float, tier1: float) -> Group2Limit:
    """Test the group 2 exposure limits of 1 % and 2 % of tier 1 capital (SCO60.116-60.119).

    Exactly 1 % or 2 % is not a crossing; the comparison is made on the decimals as written, so
    that 0.07 against 7 is exactly 1 %.

    Raises
    ------
    ValueError
        If the capital is not above zero, the exposure is negative, or one is not finite.

    Examples
    --------
    >>> group_2_limit(15.0, 1000.0)
    Group2Limit(share=0.015, state='excess_to_2b', excess=5.0)
    """
    if not (0.0 < tier1 < math.inf and 0.0 <= exposure < math.inf):
        raise ValueError(f"tier 1 of {tier1} must be above zero, exposure of {exposure} not below")
    amount, capital = Decimal(repr(float(exposure))), Decimal(repr(float(tier1)))
    state: Literal["within", "excess_to_2b", "all_to_2b"] = "within"
    if amount * 100 > capital * 2:
        state = "all_to_2b"
    elif amount * 100 > capital:
        state = "excess_to_2b"
    excess = max(amount - capital / 100, Decimal(0))
    return Group2Limit(share=float(amount / capital), state=state, excess=float(excess))


def _legs(long: ArrayLike, short: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    longs, shorts = np.broadcast_arrays(
        np.abs(np.asarray(long, dtype=float)), np.abs(np.asarray(short, dtype=float))
    )
    if not (np.isfinite(longs).all() and np.isfinite(shorts).all()):
        raise ValueError("a long or short exposure is not a finite number")
    return longs, shorts
