"""What each asset's own straight move uses up, read off a table: quick, and close enough to search.

Isolated positions do not share collateral, so what moves of several assets use up together is the
sum of what each uses up alone. One walk over a ladder of common moves therefore tells every joint
move, up to the steps of the ladder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from risk.scenarios.grids import move_drivers

#: From a driver record to the share of every target that each asset uses up (scenario, asset,
#: target).
OwnExhaustion = Callable[[xr.Dataset], np.ndarray]

#: Steps of the ladder, even in the logarithm: a fifth of a per cent between the usual bounds.
POINTS = 2048


class Profiles:
    """Share of every target used up by moves of all assets, interpolated.

    Parameters
    ----------
    own : callable
    assets : sequence of str
    fall, rise : float
        Bounds of the moves, fractions of the mark.
    gap : float
        Share of each excursion that lands as one jump.

    Examples
    --------
    >>> own = lambda drivers: (1 - drivers["last"].values)[:, :, None]
    >>> profiles = Profiles(own, ["BTC", "ETH"], fall=-0.5, rise=0.5, gap=0.3)
    >>> profiles(np.array([[-0.2, -0.1]])).round(6).tolist()
    [[0.3]]
    """

    def __init__(
        self, own: OwnExhaustion, assets: Sequence[str], *, fall: float, rise: float, gap: float
    ) -> None:
        self._first, end = np.log1p(fall), np.log1p(rise)
        self._step = (end - self._first) / (POINTS - 1)
        moves = np.expm1(self._first + self._step * np.arange(POINTS))
        # The ends to the last digit: whoever asks there asks for the bounds.
        moves[0], moves[-1] = fall, rise
        drivers = move_drivers(
            assets,
            np.repeat(moves[:, None], len(assets), axis=1),
            gap=gap,
            label=[f"step {i}" for i in range(POINTS)],
        )
        # (asset, point, target), so that a look-up reads one line.
        self._share = np.ascontiguousarray(own(drivers).transpose(1, 0, 2))

    def __call__(self, moves: np.ndarray) -> np.ndarray:
        """Share used (scenario, target) at moves (scenario, asset) within the bounds."""
        place = (np.log1p(moves) - self._first) / self._step
        below = np.clip(np.floor(place).astype("i8"), 0, POINTS - 2)
        part = (place - below)[:, :, None]
        total = np.zeros((len(moves), self._share.shape[2]))
        for asset, share in enumerate(self._share):
            low, high = share[below[:, asset]], share[below[:, asset] + 1]
            total += low + part[:, asset] * (high - low)
        return total
