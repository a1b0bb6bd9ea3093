"""Counterparty exposure of isolated positions: SA-CCR with one netting set each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from risk.capital.checks import check_amounts

Floats = np.ndarray

#: Least multiplier of the potential future exposure (CRE52.23).
FLOOR = 0.05


@dataclass(frozen=True)
class CounterpartyExposure:
    """Parts of the exposure at default, one entry per netting set, in the unit of the input.

    Attributes
    ----------
    replacement_cost : ndarray (netting set,)
        What closing out would cost today, collateral taken.
    add_on : ndarray (netting set,)
        Before the multiplier.
    multiplier : ndarray (netting set,)
        In [0.05, 1]: what excess collateral leaves of the add-on.
    exposure : ndarray (netting set,)
        ``alpha (replacement_cost + multiplier add_on)``.
    """

    replacement_cost: Floats
    add_on: Floats
    multiplier: Floats
    exposure: Floats


def exposure_at_default(
    net_value: ArrayLike, add_on: ArrayLike, *, alpha: float = 1.4, floor: float = FLOOR
) -> CounterpartyExposure:
    """Exposure at default of netting sets without threshold or minimum transfer (CRE52.1-52.23).

    Parameters
    ----------
    net_value : array_like (netting set,)
        Market value less collateral held, ``V - C``: minus the holder's equity, as the venue sees
        an isolated position.
    add_on : array_like (netting set,)
        Aggregate add-on, not negative.
    alpha : float
    floor : float
        Of the multiplier, in [0, 1).

    Returns
    -------
    CounterpartyExposure

    Raises
    ------
    ValueError
        If a value is not finite, an add-on or `alpha` negative, or `floor` outside [0, 1).

    Examples
    --------
    >>> found = exposure_at_default([-20.0], [282.0])  # V - C is -20, as in the standard's example
    >>> round(float(found.multiplier[0]), 3), round(float(found.exposure[0]))
    (0.965, 381)
    """
    net, add = np.broadcast_arrays(np.asarray(net_value, "f8"), np.asarray(add_on, "f8"))
    if not (np.isfinite(net).all() and np.isfinite(add).all() and (add >= 0.0).all()):
        raise ValueError("a value or an add-on is not finite, or an add-on is negative")
    check_amounts(alpha=alpha)
    if not 0.0 <= floor < 1.0:
        raise ValueError(f"floor is {floor}; it lies in [0, 1)")
    cost = np.maximum(net, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        decay = np.exp(np.minimum(net, 0.0) / (2.0 * (1.0 - floor) * add))
    shrunk = np.where(add > 0.0, floor + (1.0 - floor) * decay, 1.0)
    multiplier = np.where(net >= 0.0, 1.0, np.minimum(shrunk, 1.0))
    return CounterpartyExposure(cost, add, multiplier, alpha * (cost + multiplier * add))


def margined_add_on(
    notional: ArrayLike, supervisory_factor: float, risk_days: float, year_days: float = 250.0
) -> Floats:
    """Add-on of one trade under daily margin: factor, notional and the margin period (CRE52.52).

    Parameters
    ----------
    notional : array_like
        Delta-adjusted, as an amount.
    supervisory_factor : float
        Share of the notional, such as 0.32.
    risk_days, year_days : float
        Margin period of risk and the year, in business days.

    Raises
    ------
    ValueError
        If a number is negative or not finite (the notional may be either sign), or the year zero.

    Examples
    --------
    >>> round(float(margined_add_on(100.0, 0.32, 10)), 6)
    9.6
    """
    size = np.abs(np.asarray(notional, "f8"))
    check_amounts(
        notional=size, supervisory_factor=supervisory_factor, risk_days=risk_days,
        year_days=year_days,
    )  # fmt: skip
    if year_days == 0.0:
        raise ValueError("year_days is zero: a year has days")
    maturity_factor = 1.5 * math.sqrt(risk_days / year_days)
    return supervisory_factor * maturity_factor * size
