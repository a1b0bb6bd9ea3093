"""What instruments earn or pay on the way: funding, basis, pegs. Bars here, paths in `riding`.

Formulas, sources and limits: ``docs/methods/carry.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from risk.errors import ConfigError
from risk.instruments import FLOOR, LEAST, Instrument
from risk.scenarios.effects import pay_funding
from risk.scenarios.moves import Ratios

#: Dollars on account are no stablecoin and have no peg to lose.
_NO_PEG = "USD"


@dataclass(frozen=True)
class Carry:
    """Which instruments ride on the assets' paths, and how.

    Attributes
    ----------
    instruments : tuple of Instrument
    funding : bool
        Whether perpetuals pay funding in windows and paths.
    basis_volatility : float
        Standard deviation of a future's basis per square root of a day; the basis is gone at the
        expiry all the same.
    pegs : mapping of str to (probability per day, US dollars after it)
        Stablecoins that may lose their peg in simulated paths.
    as_assets : bool
        Whether the instruments, one per asset, stand for the assets themselves: a cascade has one
        price per asset.
    """

    instruments: tuple[Instrument, ...]
    funding: bool = True
    basis_volatility: float = 0.0
    pegs: Mapping[str, tuple[float, float]] | None = None
    as_assets: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "instruments": [one.to_dict() for one in self.instruments],
            "funding": self.funding,
            "basis_volatility": self.basis_volatility,
            "pegs": {name: list(peg) for name, peg in (self.pegs or {}).items()},
            "as_assets": self.as_assets,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Carry:
        """From `to_dict`'s."""
        return cls(
            tuple(Instrument(**one) for one in values["instruments"]),
            bool(values["funding"]),
            float(values["basis_volatility"]),
            {name: (float(p), float(to)) for name, (p, to) in values["pegs"].items()},
            bool(values["as_assets"]),
        )

    @property
    def names(self) -> list[str]:
        """The instruments' names."""
        return [one.name for one in self.instruments]


def basis_factor(instrument: Instrument, days: float) -> float:
    """What a dated future has lost of its basis against its index after some days.

    Examples
    --------
    >>> future = Instrument("BTC / 250926 USDT", "BTC", "USDT", False, None, 0.02, 10.0)
    >>> [round(basis_factor(future, days), 4) for days in (0, 5, 10, 20)]
    [1.0, 0.9902, 0.9804, 0.9804]
    """
    if instrument.expiry_days is None:
        return 1.0
    left = max(1.0 - days / instrument.expiry_days, 0.0) if instrument.expiry_days > 0 else 0.0
    return (1.0 + instrument.basis * left) / (1.0 + instrument.basis)


def peg_of(instrument: Instrument, pegs: Mapping[str, float] | float | None) -> float:
    """US dollars for one unit of the currency an instrument is quoted in; one number is everyone's.

    Examples
    --------
    >>> swap = Instrument("BTC / perpetual USDC", "BTC", "USDC", False, 1e-4, 0.0, None)
    >>> peg_of(swap, {"USDC": 0.87}), peg_of(swap, {"USDT": 0.87}), peg_of(swap, 0.9)
    (0.87, 1.0, 0.9)
    """
    if pegs is None or instrument.is_inverse or instrument.settle == _NO_PEG:
        return 1.0
    return float(pegs.get(instrument.settle, 1.0) if isinstance(pegs, Mapping) else pegs)


def ride_bars(
    moves: Ratios,
    assets: Sequence[str],
    instruments: Sequence[Instrument],
    paid: np.ndarray,
    *,
    horizon_days: float,
    peg: Mapping[str, float] | float | None = None,
) -> Ratios:
    """Instruments on bars, which do not say when anything happened.

    Funding is all owed at the extreme it makes worse and not yet received at the other; a basis or
    a peg is gone where that is worse. A future that expires inside the horizon is settled at the
    index: of the bar's log moves it sees the root of the share of the time, as a random walk would.

    Parameters
    ----------
    moves : Ratios of ndarray (scenario, asset)
    assets : sequence of str
    instruments : sequence of Instrument
    paid : ndarray (scenario, instrument)
        Sum of the funding rates; 0 for futures.
    horizon_days : float
        0: everything happens at once, and no basis moves.
    peg : mapping of str to float, or float, optional
        See `peg_of`.

    Returns
    -------
    Ratios of ndarray (scenario, instrument)

    Examples
    --------
    >>> one = np.array([[1.0]])
    >>> swap = Instrument("BTC / perpetual USDT", "BTC", "USDT", False, 1e-4, 0.0, None)
    >>> still = ride_bars(Ratios(one, one, one), ["BTC"], [swap], 0.003 * one, horizon_days=1)
    >>> [round(part.item(), 4) for part in still]
    [0.997, 1.0, 0.997]
    """
    place = {name: i for i, name in enumerate(assets)}
    columns = []
    for number, one in enumerate(instruments):
        low, high, last = (part[:, place[one.asset]] for part in moves)
        if one.expiry_days is not None and horizon_days > 0:
            share = min(one.expiry_days / horizon_days, 1.0)
            low, high, last = (part ** np.sqrt(share) for part in (low, high, last))
        factor = basis_factor(one, horizon_days) / peg_of(one, peg)
        low, high, last = low * min(factor, 1.0), high * max(factor, 1.0), last * factor
        owed = paid[:, number]
        if one.is_inverse:
            coin = owed * (1 + 1 / last) / 2
            low = low / (1 + np.maximum(coin, 0.0) * low)
            high = high / np.maximum(1 + np.minimum(coin, 0.0) * high, LEAST)
            last = last / np.maximum(1 + coin * last, LEAST)
        else:
            low, high, last = pay_funding(Ratios(low, high, last), owed, 8.0)
        last = np.maximum(last, FLOOR)
        low = np.minimum(np.maximum(np.minimum(low, last), FLOOR), 1.0)
        columns.append(Ratios(low, np.maximum(np.maximum(high, last), 1.0), last))
    if not columns:
        none = np.empty((len(moves.last), 0))
        return Ratios(none, none, none)
    return Ratios(*(np.stack(side, axis=1) for side in zip(*columns, strict=True)))


def check_pegs(pegs: Mapping[str, tuple[float, float]]) -> None:
    """Raise `ConfigError` unless every probability is a share and every price above zero."""
    for name, (probability, dollars) in pegs.items():
        if not (0 <= probability <= 1 and 0 < dollars < np.inf):
            raise ConfigError(
                f"carry: {name} loses its peg with probability {probability:g} to {dollars:g}; "
                "write a probability from 0 to 1 and a price above 0"
            )
