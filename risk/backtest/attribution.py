"""P&L attribution: whether the risk model's P&L moves with the book's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from risk.backtest.series import SeriesError, check_series

#: Basel MAR32.44: (green beyond, red beyond) for the correlation and for the distance.
CORRELATION_GREEN, CORRELATION_RED = 0.80, 0.70
DISTANCE_GREEN, DISTANCE_RED = 0.09, 0.12


@dataclass(frozen=True)
class PnlAttribution:
    """Rank correlation, largest distance of the distributions, and the zone they give."""

    spearman: float
    kolmogorov_smirnov: float
    zone: str


def pnl_attribution(hypothetical: ArrayLike, risk_theoretical: ArrayLike) -> PnlAttribution:
    """Basel's attribution test of hypothetical against risk-theoretical P&L.

    Parameters
    ----------
    hypothetical, risk_theoretical : array_like (n,)
        P&L of the same days (250 in the standard), gains positive, one unit.

    Returns
    -------
    PnlAttribution
        `spearman` (ties share their mean rank), `kolmogorov_smirnov`, and `zone`: "green" if the
        correlation is above 0.80 and the distance below 0.09, "red" if the correlation is below
        0.70 or the distance above 0.12, else "amber".

    Raises
    ------
    ValueError
        If there are fewer than two days, a value is not finite, the lengths differ, or a series
        never moves.

    References
    ----------
    .. [1] Basel Committee, MAR32.20 to MAR32.45.

    Examples
    --------
    >>> pnl_attribution([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
    PnlAttribution(spearman=1.0, kolmogorov_smirnov=0.0, zone='green')
    """
    book, model = check_series(hypothetical=hypothetical, risk_theoretical=risk_theoretical)
    if book.size < 2 or book.min() == book.max() or model.min() == model.max():
        raise SeriesError("attribution needs at least two days and two series that move")
    ranks = stats.rankdata(book), stats.rankdata(model)
    # Rounded to where the zone's limits are met exactly when they are meant to be.
    spearman = round(float(np.corrcoef(*ranks)[0, 1]), 12)
    points = np.concatenate([book, model])
    counts = [np.searchsorted(np.sort(pnl), points, side="right") for pnl in (book, model)]
    distance = int(np.abs(counts[0] - counts[1]).max()) / book.size
    if spearman < CORRELATION_RED or distance > DISTANCE_RED:
        zone = "red"
    elif spearman > CORRELATION_GREEN and distance < DISTANCE_GREEN:
        zone = "green"
    else:
        zone = "amber"
    return PnlAttribution(spearman, distance, zone)
