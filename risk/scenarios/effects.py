"""What a stress does beside moving prices: outages, breakers, funding, wider ways to an end."""

from __future__ import annotations

import numpy as np

from risk.drivers import fall_gaps, join_gaps, rise_gaps
from risk.instruments import FLOOR
from risk.scenarios.moves import Ratios, gap_rule


def stress_gaps(
    moves: Ratios,
    gap: float,
    *,
    days: int = 1,
    outage_hours: float | None = None,
    breaker: tuple[float, float] | None = None,
) -> dict[str, np.ndarray]:
    """Gap columns of one stress, in path order.

    An outage of N hours lets the price go on unseen; what a random walk covers in N hours, the root
    of N / (24 days) of the whole excursion, lands as one gap at its end (at least the stress's own
    share). A breaker stops close-outs at a move of `pause` and lets them go on at `resume`: one gap
    between the two, then the gap rule on what is left of the excursion.

    Parameters
    ----------
    moves : Ratios of ndarray (scenario, asset)
    gap : float
        Share of each excursion that lands as one jump.
    days : int
        How long the stress lasts.
    outage_hours : float, optional
    breaker : tuple of float, optional
        Moves (pause, resume) as fractions of the mark, both sides alike.

    Examples
    --------
    A fall to 0.6 with a breaker from -10 % to -25 %, then a third of what is left in one jump:

    >>> one = np.array([[1.0]])
    >>> gaps = stress_gaps(Ratios(0.6 * one, one, 0.6 * one), 1 / 3, breaker=(0.10, 0.25))
    >>> gaps["gap_before"].round(3).tolist(), gaps["gap_landing"].round(3).tolist()
    ([0.9, 0.65], [0.75, 0.6])
    """
    if outage_hours is not None:
        gap = max(gap, min(1.0, float(np.sqrt(outage_hours / (24 * days)))))
    if breaker is None:
        return gap_rule(moves, gap)
    pause, resume = breaker
    low, high = moves.low, moves.high
    stopped, again = np.maximum(1 - pause, low), np.maximum(1 - resume, low)
    held, freed = np.minimum(1 + pause, high), np.minimum(1 + resume, high)
    # Free again where close-outs resumed; from the mark where they never stopped.
    below = np.where(again < stopped, again, 1.0)
    above = np.where(freed > held, freed, 1.0)
    return join_gaps(
        fall_gaps(again, stopped),
        rise_gaps(freed, held),
        fall_gaps(low, low + gap * (below - low)),
        rise_gaps(high, high - gap * (high - above)),
    )


def widen(moves: Ratios, wander: np.ndarray) -> Ratios:
    """Lows and highs at least those of a random walk to the same end.

    Parameters
    ----------
    moves : Ratios of ndarray (scenario, asset)
    wander : ndarray (asset,)
        Standard deviation of the log price on the way. The extremes are the medians of a Brownian
        bridge's; see `risk.scenarios.grids.move_drivers`.
    """
    end = np.log(moves.last)
    reach = np.sqrt(end**2 + 2 * np.log(2) * wander**2)
    low = np.minimum(moves.low, np.exp((end - reach) / 2))
    return Ratios(low, np.maximum(moves.high, np.exp((end + reach) / 2)), moves.last)


def pay_funding(moves: Ratios, rate: float | np.ndarray, hours: float) -> Ratios:
    """Funding folded into the price: what longs pay is a fall, what they receive a rise.

    Exact for the P&L of linear contracts, and for their triggers where maintenance rests on the
    entry value; a little early where it rests on the mark, and off by the funding's share of the
    equity for inverse contracts (`docs/methods/stress.md`). All of it is owed at the extreme.

    Parameters
    ----------
    moves : Ratios of ndarray (scenario, asset)
    rate : float or ndarray (scenario, asset)
        Per 8 hours, paid by longs; received by them where negative.
    hours : float

    Examples
    --------
    >>> one = np.array([[1.0]])
    >>> paid = pay_funding(Ratios(one, one, one), 0.003, 168)
    >>> [round(float(part[0, 0]), 3) for part in paid]
    [0.937, 1.0, 0.937]
    """
    # Paid on the value of the day: on average half way to the end.
    paid = rate * hours / 8 * (1 + moves.last) / 2
    last = np.maximum(moves.last - paid, FLOOR)
    low = np.maximum(np.where(paid > 0, moves.low - paid, moves.low), FLOOR)
    high = np.where(paid < 0, moves.high - paid, moves.high)
    return Ratios(np.minimum(low, last), np.maximum(high, np.maximum(last, 1.0)), last)
