"""Options: Black-76 values in the settle currency, implied quantities, and greeks in US dollars.

Values are undiscounted, as venues quote them. A linear option is paid in its quote currency, an
inverse one in the coin itself: its price is the Black value over the forward.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import vectorize
from numpy.typing import ArrayLike, NDArray

from risk.compiled import njit

_ROOT_HALF = math.sqrt(0.5)
_NORMAL = 1.0 / math.sqrt(2.0 * math.pi)

#: Bisections halve their bracket until only rounding is left.
_HALVINGS = 80


class Greeks(NamedTuple):
    """Sensitivities of one base unit's value in US dollars."""

    delta: NDArray[np.float64]  # USD per USD of the index
    gamma: NDArray[np.float64]  # of the delta, per USD of the index
    vega: NDArray[np.float64]  # USD per 1.00 of volatility


@njit
def black(forward: float, strike: float, deviation: float, is_call: bool) -> float:
    """Undiscounted value of a European option, quote currency per base unit.

    Parameters
    ----------
    forward, strike : float
        Above zero.
    deviation : float
        Volatility times the root of the time to expiry; the intrinsic value where not above zero.
    is_call : bool

    References
    ----------
    .. [1] F. Black, "The pricing of commodity contracts", J. of Financial Economics 3, 1976.
    """
    if deviation <= 0.0:
        return max(forward - strike, 0.0) if is_call else max(strike - forward, 0.0)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    d2 = d1 - deviation
    if is_call:
        value = forward * math.erfc(-d1 * _ROOT_HALF) - strike * math.erfc(-d2 * _ROOT_HALF)
    else:
        value = strike * math.erfc(d2 * _ROOT_HALF) - forward * math.erfc(d1 * _ROOT_HALF)
    return max(0.5 * value, 0.0)


@njit
def value_of(
    forward: float, strike: float, deviation: float, is_call: bool, is_inverse: bool
) -> float:
    """Value per base unit in the settle currency: coin if inverse."""
    value = black(forward, strike, deviation, is_call)
    return value / forward if is_inverse else value


@vectorize(["f8(f8, f8, f8, b1, b1)"], cache=True)
def _values(forward, strike, deviation, is_call, is_inverse):  # type: ignore[no-untyped-def]
    return value_of(forward, strike, deviation, is_call, is_inverse)


@vectorize(["f8(f8, f8, f8, f8, b1, b1)"], cache=True)
def _volatilities(value, forward, strike, years, is_call, is_inverse):  # type: ignore[no-untyped-def]
    root = math.sqrt(years)
    low, high = 0.0, 20.0
    if value <= value_of(forward, strike, 0.0, is_call, is_inverse):
        return np.nan
    if value >= value_of(forward, strike, high * root, is_call, is_inverse):
        return np.nan
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if value_of(forward, strike, middle * root, is_call, is_inverse) < value:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@vectorize(["f8(f8, f8, f8, f8, b1, b1)"], cache=True)
def _forwards(value, around, strike, deviation, is_call, is_inverse):  # type: ignore[no-untyped-def]
    low, high = math.log(around / 4.0), math.log(around * 4.0)
    # Calls gain with the forward, puts lose, in coin as in dollars.
    rises = 1.0 if is_call else -1.0
    bottom = rises * (value_of(math.exp(low), strike, deviation, is_call, is_inverse) - value)
    top = rises * (value_of(math.exp(high), strike, deviation, is_call, is_inverse) - value)
    if bottom > 0.0 or top < 0.0:
        return np.nan
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if rises * (value_of(math.exp(middle), strike, deviation, is_call, is_inverse) - value) < 0:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


def option_value(
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    volatility: ArrayLike,
    is_call: ArrayLike,
    is_inverse: ArrayLike = False,
) -> NDArray[np.float64]:
    """Value of one base unit, undiscounted, in the settle currency.

    Parameters
    ----------
    forward, strike : array_like (n,)
        Quote currency per base unit; above zero. The forward is for the option's expiry.
    years : array_like (n,)
        Time to expiry; the intrinsic value from zero down.
    volatility : array_like (n,)
        Fraction per year.
    is_call, is_inverse : array_like of bool (n,)

    Returns
    -------
    ndarray (n,)
        Quote currency, or coin if inverse; not negative.

    References
    ----------
    .. [1] J. Hull, "Options, Futures, and Other Derivatives", chapter on futures options: a put
       on a future at 20 struck at 20, four months, 25 %, is worth 1.12 discounted at 9 %.

    Examples
    --------
    >>> value = option_value(20.0, 20.0, 4 / 12, 0.25, False)
    >>> round(float(value * np.exp(-0.09 * 4 / 12)), 2)
    1.12
    """
    deviation = np.asarray(volatility) * np.sqrt(np.maximum(years, 0.0))
    with np.errstate(invalid="ignore"):  # NaN where a volatility is unknown
        return _values(
            np.asarray(forward, "f8"),
            np.asarray(strike, "f8"),
            np.asarray(deviation, "f8"),
            np.asarray(is_call, bool),
            np.asarray(is_inverse, bool),
        )


def implied_volatility(
    value: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    is_call: ArrayLike,
    is_inverse: ArrayLike = False,
) -> NDArray[np.float64]:
    """Volatility at which `option_value` is `value`; NaN where there is none up to 20.

    Parameters
    ----------
    value : array_like (n,)
        Settle currency per base unit.
    forward, strike, years, is_call, is_inverse : array_like (n,)
        As in `option_value`.

    Examples
    --------
    >>> value = option_value(100.0, 110.0, 0.25, 0.6, True, True)
    >>> round(float(implied_volatility(value, 100.0, 110.0, 0.25, True, True)), 9)
    0.6
    """
    return _volatilities(
        *(np.asarray(given, "f8") for given in (value, forward, strike, years)),
        np.asarray(is_call, bool),
        np.asarray(is_inverse, bool),
    )


def implied_forward(
    value: ArrayLike,
    around: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    volatility: ArrayLike,
    is_call: ArrayLike,
    is_inverse: ArrayLike = False,
) -> NDArray[np.float64]:
    """Forward at which `option_value` is `value`; NaN where none lies within 4 times `around`.

    Parameters
    ----------
    value : array_like (n,)
        Settle currency per base unit.
    around : array_like (n,)
        A price near it, such as the index.
    strike, years, volatility, is_call, is_inverse : array_like (n,)
        As in `option_value`.
    """
    deviation = np.asarray(volatility) * np.sqrt(np.maximum(years, 0.0))
    return _forwards(
        *(np.asarray(given, "f8") for given in (value, around, strike, deviation)),
        np.asarray(is_call, bool),
        np.asarray(is_inverse, bool),
    )


def option_greeks(
    index: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    volatility: ArrayLike,
    is_call: ArrayLike,
    is_inverse: ArrayLike = False,
) -> Greeks:
    """Sensitivities of one base unit's dollar value to the index and to the volatility.

    The forward moves in proportion to the index. The dollar value of a coin option is its coin
    price times the index, so its delta is the Black delta, as its venues print it.

    Parameters
    ----------
    index, forward, strike : array_like (n,)
        US dollars per base unit; above zero.
    years, volatility, is_call, is_inverse : array_like (n,)
        As in `option_value`; years and volatility above zero.

    Returns
    -------
    Greeks of ndarray (n,)
    """
    index, forward, strike = (np.asarray(given, "f8") for given in (index, forward, strike))
    root = np.sqrt(np.asarray(years, "f8"))
    deviation = np.asarray(volatility) * root
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    # A linear option's dollars follow the forward, an inverse one's the index.
    follows = np.where(is_inverse, 1.0, forward / index)
    density = _NORMAL * np.exp(-0.5 * d1**2)
    below = np.where(is_call, 0.0, 1.0)
    delta = (_distribution(d1) - below) * follows
    gamma = density / deviation / index * follows
    vega = np.where(is_inverse, index, forward) * density * root
    return Greeks(delta, gamma, vega)


@vectorize(["f8(f8)"], cache=True)
def _distribution(x):  # type: ignore[no-untyped-def]
    return 0.5 * math.erfc(-x * _ROOT_HALF)
