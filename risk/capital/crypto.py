"""Group 2a cryptoassets with several factors a coin: venues and tenors do not net in full."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def group_2a_capital(coins: Sequence[ArrayLike], correlation: float = 0.94) -> float:
    """Delta capital of group 2a (SCO60.73-60.78).

    Per coin ``K = sqrt(max(0, sum_k WS_k^2 + sum_k sum_l rho WS_k WS_l))`` over its factors, one
    per exchange and tenor; coins add up without diversification.

    Parameters
    ----------
    coins : sequence of array_like (factor,)
        Weighted sensitivities of each coin, long positive.
    correlation : float
        Between two factors of one coin, in [-1, 1].

    Returns
    -------
    float
        Capital, in the unit of the sensitivities.

    Raises
    ------
    ValueError
        If the correlation is outside [-1, 1] or a sensitivity is not finite.

    Examples
    --------
    >>> round(group_2a_capital([[100.0, -100.0], [50.0]]), 2)
    84.64
    """
    if not -1.0 <= correlation <= 1.0:
        raise ValueError(f"correlation is {correlation}; it lies in [-1, 1]")
    capital = []
    for coin in coins:
        weighted = np.asarray(coin, "f8").ravel()
        if not np.isfinite(weighted).all():
            raise ValueError("a sensitivity is not a finite number")
        net, squares = math.fsum(weighted), math.fsum(weighted**2)
        capital.append(math.sqrt(max(correlation * net**2 + (1.0 - correlation) * squares, 0.0)))
    return math.fsum(capital)
