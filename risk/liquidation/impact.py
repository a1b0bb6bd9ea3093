"""What closing costs: square-root impact of the closed quantity, alone or on top of all the others.

Closing a quantity moves the price by ``coefficient * daily volatility * sqrt(quantity / daily
volume)``. The ladders need it as a number per position, fixed at the snapshot.
`docs/methods/liquidation.md` gives the sources and says where it fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from risk.compiled import njit
from risk.errors import ConfigError

#: Impact stops here: however much is closed, a price keeps a tenth of its value.
MOST = 0.9


@dataclass(frozen=True)
class Impact:
    """Price impact by asset; see `square_root_impact` for making one.

    Attributes
    ----------
    own : ndarray (asset,)
        Fraction of its value that closing one day's volume alone costs.
    joint : ndarray (asset,)
        Fraction by which closing one day's volume moves the price for everyone after it; zero
        without a cascade.
    waiting : ndarray (asset,)
        Fraction of its value set aside for the price moving between slices.
    volume_usd : ndarray (asset,)
        Traded in a day, over all venues, at the mark.
    permanent : float
        Share of the joint impact that is still there at the horizon.
    """

    own: np.ndarray
    joint: np.ndarray
    waiting: np.ndarray
    volume_usd: np.ndarray
    permanent: float

    def own_rate(self, asset: np.ndarray, notional_usd: np.ndarray) -> np.ndarray:
        """Cost of closing each position whole and at once, as a fraction of its value."""
        return self.own[asset] * np.sqrt(notional_usd / self.volume_usd[asset])

    def at_depth(self, share: float) -> Impact:
        """The impact where a share of the usual depth is left: that much less is traded in a day.

        By the square root law a fifth of the depth makes closing cost sqrt(5) times as much.
        """
        return self if share == 1 else replace(self, volume_usd=self.volume_usd * share)

    def take(self, places: np.ndarray) -> Impact:
        """The impact of other drivers, each that of the asset at its place."""
        own, joint, waiting, volume = (
            column[places] for column in (self.own, self.joint, self.waiting, self.volume_usd)
        )
        return Impact(own, joint, waiting, volume, self.permanent)

    @property
    def kappa(self) -> np.ndarray:
        """Joint impact per square root of a US dollar closed (asset,); zero without a cascade."""
        return self.joint / np.sqrt(self.volume_usd)


def square_root_impact(
    volatility: np.ndarray,
    volume_usd: np.ndarray,
    *,
    coefficient: float | np.ndarray,
    slices: int = 1,
    hours: float = 0.0,
    adverse: float = 0.0,
    cascade: bool = False,
    permanent: float = 0.0,
) -> Impact:
    """Square-root impact of forced closing.

    Parameters
    ----------
    volatility : ndarray (asset,)
        Daily volatility, a fraction.
    volume_usd : ndarray (asset,)
        Daily volume over all venues, US dollars at the mark.
    coefficient : float or ndarray (asset,)
        Impact of closing one day's volume, in daily volatilities; about one half to one.
    slices : int
        Equal parts a position is closed in, far enough apart for the market to recover.
    hours : float
        From the first slice to the last.
    adverse : float
        Standard deviations of the average slice's price to charge for waiting.
    cascade : bool
        Whether what is closed moves the price for everyone closed after it.
    permanent : float
        Share of that move that stays to the horizon.

    Returns
    -------
    Impact

    Raises
    ------
    ConfigError
        If a number is negative or missing, a volume is not above zero, or slices and cascade are
        asked for together.

    Examples
    --------
    >>> import numpy as np
    >>> calm = square_root_impact(np.array([0.04]), np.array([1e9]), coefficient=0.5)
    >>> calm.own_rate(np.array([0]), np.array([1e7]))
    array([0.002])
    """
    volatility, volume_usd = np.asarray(volatility, "f8"), np.asarray(volume_usd, "f8")
    for name, value in (("coefficient", coefficient), ("hours", hours), ("adverse", adverse)):
        if not (np.isfinite(value) & (np.asarray(value) >= 0)).all():
            raise ConfigError(f"liquidation.impact: {name} is {value}; write a number from 0 up")
    if not 0 <= permanent <= 1:
        raise ConfigError(
            f"liquidation.impact: permanent is {permanent}; write a share from 0 to 1"
        )
    if slices < 1:
        raise ConfigError(f"liquidation.impact: slices is {slices}; write 1 or more")
    if cascade and slices > 1:
        raise ConfigError("liquidation.impact: slices need cascade: false; write slices: 1")
    if not (np.isfinite(volatility) & (volatility >= 0)).all():
        raise ConfigError("liquidation.impact: an asset has no volatility; lengthen the history")
    if not (np.isfinite(volume_usd) & (volume_usd > 0)).all():
        raise ConfigError("liquidation.impact: an asset has no volume above zero")
    scale = coefficient * volatility
    # Variance of the average of prices seen `slices` times, evenly over `hours`, from the first.
    spread = hours / 24 * (2 * slices - 1) / (6 * slices) if slices > 1 else 0.0
    return Impact(
        own=np.zeros_like(scale) if cascade else scale / np.sqrt(slices),
        joint=scale if cascade else np.zeros_like(scale),
        waiting=adverse * volatility * np.sqrt(spread),
        volume_usd=volume_usd,
        permanent=permanent,
    )


def no_impact(n_assets: int) -> Impact:
    """Close at the trigger, without slippage."""
    nothing = np.zeros(n_assets)
    return Impact(nothing, nothing, nothing, np.ones(n_assets), 0.0)


@njit
def impact_at(kappa: float, base: float) -> float:
    """Fraction the price has moved once `base` US dollars are closed."""
    return min(kappa * np.sqrt(base), MOST)


@njit
def mean_impact(kappa: float, base: float, quantity: float) -> float:
    """Average of `impact_at` while `quantity` is closed after `base`."""
    end, most = base + quantity, (MOST / kappa) ** 2
    if base >= most or quantity <= 0.0:
        return impact_at(kappa, base)
    free = min(end, most)
    a, b = np.sqrt(base), np.sqrt(free)
    # (2/3) (b^3 - a^3) / (b^2 - a^2), without the cancellation.
    mean = kappa * 2.0 / 3.0 * (a * a + a * b + b * b) / (a + b)
    return (mean * (free - base) + MOST * (end - free)) / quantity
