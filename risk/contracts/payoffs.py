"""Payoffs of linear and inverse perpetuals and dated futures.

A linear contract settles in its quote currency, an inverse one in the asset itself. In the settle
currency both are straight lines in one coordinate ``u``: the price for linear contracts, its
reciprocal for inverse ones. An inverse long is a linear short in ``1 / price``, so one formula
serves both. A gain is positive; ``size`` is in base units for linear contracts and is the face
value in US dollars for inverse ones, always above zero; ``direction`` is +1 long, -1 short.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def coordinate(price: ArrayLike, is_inverse: ArrayLike) -> Floats:
    """Coordinate in which value is a straight line: the price, or its reciprocal if inverse.

    It is its own inverse: applied twice it gives the price back.

    >>> coordinate([50.0, 50.0], [False, True])
    array([5.e+01, 2.e-02])
    """
    price = np.asarray(price, dtype=np.float64)
    return np.where(is_inverse, 1.0 / price, price)


def heading(direction: ArrayLike, is_inverse: ArrayLike) -> Floats:
    """Sign of the gain when the coordinate rises: that of the position, turned round if inverse."""
    direction = np.asarray(direction, dtype=np.float64)
    return np.where(is_inverse, -direction, direction)


def notional(size: ArrayLike, price: ArrayLike, is_inverse: ArrayLike) -> Floats:
    """Size of the position at a price, in the settle currency.

    Parameters
    ----------
    size : array_like (n,)
        Base units, or the face value in US dollars of an inverse contract; above zero.
    price : array_like (n,)
        Quote currency per base unit; above zero.
    is_inverse : array_like of bool (n,)
        Settled in the asset itself.

    Returns
    -------
    ndarray (n,)
        Quote currency, or coin if inverse; never negative.

    Examples
    --------
    >>> notional([2.0, 100.0], [50.0, 50.0], [False, True])
    array([100.,   2.])
    """
    return np.asarray(size) * coordinate(price, is_inverse)


def unrealized_pnl(
    direction: ArrayLike,
    size: ArrayLike,
    entry_price: ArrayLike,
    price: ArrayLike,
    is_inverse: ArrayLike,
) -> Floats:
    """Gain since entry at a price, in the settle currency.

    Parameters
    ----------
    direction : array_like (n,)
        +1 long, -1 short.
    size : array_like (n,)
        Base units, or the face value in US dollars of an inverse contract; above zero.
    entry_price, price : array_like (n,)
        Quote currency per base unit; above zero.
    is_inverse : array_like of bool (n,)
        Settled in the asset itself.

    Returns
    -------
    ndarray (n,)
        Quote currency, or coin if inverse; a gain is positive.

    Examples
    --------
    A long of 2 coins and one of 100 dollars' worth, both bought at 50 and marked at 40.

    >>> unrealized_pnl([1, 1], [2.0, 100.0], [50.0, 50.0], [40.0, 40.0], [False, True])
    array([-20. ,  -0.5])
    """
    moved = coordinate(price, is_inverse) - coordinate(entry_price, is_inverse)
    return heading(direction, is_inverse) * np.asarray(size) * moved


def notional_usd(size: ArrayLike, price: ArrayLike, is_inverse: ArrayLike) -> Floats:
    """Size of the position at a price, in US dollars: the face value if inverse."""
    size = np.asarray(size, dtype=np.float64)
    return np.where(is_inverse, size, size * np.asarray(price))


def value_line_usd(
    direction: ArrayLike,
    size: ArrayLike,
    entry_price: ArrayLike,
    position_margin: ArrayLike,
    mark_price: ArrayLike,
    is_inverse: ArrayLike,
) -> tuple[Floats, Floats]:
    """Value of an open isolated position in US dollars, as a line in the price ratio.

    At ``x = price / mark_price`` the position is worth ``equity_usd + exposure_usd * (x - 1)``,
    exactly. The exposure of an inverse position includes the move of its coin collateral.

    Parameters
    ----------
    direction, size, entry_price, is_inverse : array_like (n,)
        As in `unrealized_pnl`.
    position_margin : array_like (n,)
        Collateral posted in the settle currency, without unrealised P&L.
    mark_price : array_like (n,)
        Price that ratio 1 stands for, in US dollars.

    Returns
    -------
    equity_usd, exposure_usd : ndarray (n,)
        Value at the mark, and change of value per unit of price ratio; a gain is positive.

    Examples
    --------
    An inverse long of 100 dollars with 0.5 coin posted, bought and marked at 50.

    >>> value_line_usd(1, 100.0, 50.0, 0.5, 50.0, True)
    (array(25.), array(125.))
    """
    signed = np.asarray(direction, dtype=np.float64) * np.asarray(size)
    margin, mark = np.asarray(position_margin), np.asarray(mark_price)
    entry = np.asarray(entry_price)
    coin_usd = (margin + signed / entry) * mark
    equity = np.where(is_inverse, coin_usd - signed, margin + signed * (mark - entry))
    exposure = np.where(is_inverse, coin_usd, signed * mark)
    return equity, exposure
