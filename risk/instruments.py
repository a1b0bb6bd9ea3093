"""Instruments: what of one asset moves a little differently from the asset's own price.

A perpetual pays funding, a dated future has a basis that is gone at its expiry, and both are quoted
in a currency that may lose its peg. Positions follow their instrument where the driver record has
it, else their asset. An instrument is named by what a book says of its contract, so that book and
record agree without a further table.

In a scenario the ratio of an instrument is

    y = g x / (1 + G x) - F

with `x` the asset's: `g` is the basis and the peg, `F` the funding paid so far by one unit of a
linear perpetual, `G` that of an inverse one (in coin). While open a position is worth ``a + b y``:
exactly if linear, up to the share `G x` of its equity if inverse (`docs/methods/carry.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from risk.drivers import (
    AT_GAPS,
    AT_HIGH,
    AT_LAST,
    AT_LOW,
    ELAPSED,
    PEG,
    VOLATILITY,
    JointPaths,
    joint_bars,
    make_drivers,
    most_ridden,
    with_volatility,
)
from risk.errors import DataError
from risk.schema import DRIVERS, GAPS

#: Between an asset and the rest of an instrument's name; ccxt lets no base currency hold it.
_SEPARATOR = " / "

#: A ratio never falls below: an inverse contract has no value at zero.
FLOOR = 1e-6

#: A coin's worth of funding received never multiplies a price by more than one over this.
LEAST = 0.1


@dataclass(frozen=True)
class Instrument:
    """One instrument, and what is known of it at the snapshot.

    Attributes
    ----------
    name : str
        See `instrument_name`.
    asset, settle : str
    is_inverse : bool
        Settled in the asset itself, so that no peg concerns it.
    funding_rate : float or None
        The next one, per 8 hours; longs pay where positive. None: not known, or none is paid.
    basis : float
        Mark over index, less one; 0 for perpetuals.
    expiry_days : float or None
        From the snapshot's close; None: no expiry.
    """

    name: str
    asset: str
    settle: str
    is_inverse: bool
    funding_rate: float | None
    basis: float
    expiry_days: float | None

    @property
    def is_perpetual(self) -> bool:
        """Whether it pays funding."""
        return self.expiry_days is None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def instrument_name(asset: str, settle: str, kind: str, symbol: str) -> str:
    """Name of the instrument of a contract; the asset's own for options and unknown kinds.

    Examples
    --------
    >>> instrument_name("BTC", "USDT", "linear_perpetual", "BTC/USDT:USDT")
    'BTC / perpetual USDT'
    >>> instrument_name("BTC", "BTC", "inverse_future", "BTC/USD:BTC-250926")
    'BTC / 250926 BTC'
    """
    if kind.endswith("_perpetual"):
        return f"{asset}{_SEPARATOR}perpetual {settle}"
    if kind.endswith("_future"):
        return f"{asset}{_SEPARATOR}{symbol.rpartition('-')[2]} {settle}"
    return asset


def is_instrument(name: str) -> bool:
    """Whether a driver is an instrument's and not an asset's."""
    return _SEPARATOR in name


def asset_of(name: str) -> str:
    """The asset behind a driver's name.

    Examples
    --------
    >>> asset_of("BTC / perpetual USDT"), asset_of("BTC")
    ('BTC', 'BTC')
    """
    return name.partition(_SEPARATOR)[0]


def settle_of(name: str) -> str:
    """The settle currency in an instrument's name; "" of an asset.

    Examples
    --------
    >>> settle_of("BTC / perpetual USDT"), settle_of("BTC")
    ('USDT', '')
    """
    return name.rpartition(" ")[2] if is_instrument(name) else ""


def asset_places(names: Sequence[str]) -> np.ndarray:
    """Place among `names` of every name's asset (driver,).

    Raises
    ------
    DataError
        If an instrument's asset is not there.
    """
    place = {name: i for i, name in enumerate(names)}
    if missing := sorted({asset_of(name) for name in names} - set(place)):
        raise DataError(f"no driver for asset {', '.join(missing)}, which an instrument follows")
    return np.array([place[asset_of(name)] for name in names], "i8")


def add_instruments(
    drivers: xr.Dataset,
    names: Sequence[str],
    low: np.ndarray,
    high: np.ndarray,
    last: np.ndarray,
    gaps: dict[str, np.ndarray],
) -> xr.Dataset:
    """A driver record with instruments behind its assets.

    Parameters
    ----------
    drivers : Dataset
        Driver record of assets.
    names : sequence of str (instrument,)
    low, high, last : ndarray (scenario, instrument)
        Price ratios.
    gaps : dict of ndarray (gap,)
        Columns of `risk.schema.GAPS`; `gap_asset` counts the instruments from 0.

    Returns
    -------
    Dataset
        What the record says of an asset beside its ratios holds for its instruments too; other
        variables and attributes are kept.
    """
    assets = [str(name) for name in drivers["asset"].values]
    behind = {**gaps, "gap_asset": gaps["gap_asset"] + len(assets)}
    every = [*assets, *names]
    out = make_drivers(
        *(
            np.concatenate([drivers[name].values, more], axis=1)
            for name, more in zip(DRIVERS, (low, high, last), strict=True)
        ),
        assets=every,
        label=list(drivers["label"].values),
        source=list(drivers["source"].values),
        weight=drivers["weight"].values,
        gaps={name: np.concatenate([drivers[name].values, behind[name]]) for name in GAPS},
    )
    place = asset_places(every)
    for name, coord in drivers.coords.items():
        if coord.dims == ("asset",) and name != "asset":
            out = out.assign_coords({name: ("asset", coord.values[place], coord.attrs)})
    if VOLATILITY in drivers:
        out = with_volatility(out, drivers[VOLATILITY].values[:, place], drivers.attrs[ELAPSED])
    kept = {
        name: variable
        for name, variable in drivers.variables.items()
        if name not in out.variables and not {"asset", "gap"} & set(variable.dims)
    }
    coords = {name: kept.pop(name) for name in list(kept) if name in drivers.coords}
    return out.assign(kept).assign_coords(coords).assign_attrs(drivers.attrs)


def follow_assets(drivers: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """A driver record in which every instrument moves as its asset does.

    Parameters
    ----------
    drivers : Dataset
        Driver record of assets.
    names : sequence of str (driver,)
        The same assets, then instruments.
    """
    place = asset_places(names)[drivers.sizes["asset"] :]
    if not len(place):
        return drivers
    low, high, last = (drivers[name].values[:, place] for name in DRIVERS)
    at = drivers["gap_asset"].values
    which = [np.flatnonzero(at == one) for one in place]
    row = np.concatenate(which)
    gaps = {name: drivers[name].values[row] for name in GAPS}
    gaps["gap_asset"] = np.repeat(np.arange(len(place)), [len(rows) for rows in which])
    return add_instruments(drivers, names[-len(place) :], low, high, last, gaps)


def assets_alone(drivers: xr.Dataset) -> xr.Dataset:
    """A driver record without its instruments.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> record = make_drivers(one, one, one, assets=["BTC"], label=["still"], source=["by hand"])
    >>> none = {name: np.empty(0, "i8") for name in GAPS}
    >>> both = add_instruments(record, ["BTC / perpetual USDT"], one, one, one, none)
    >>> both.sizes["asset"], assets_alone(both).sizes["asset"]
    (2, 1)
    """
    names = [str(name) for name in drivers["asset"].values]
    kept = np.array([not is_instrument(name) for name in names], bool)
    if kept.all():
        return drivers
    n = int(kept.sum())
    if not kept[:n].all():
        raise DataError("a driver record has an asset behind its instruments")
    gap = np.flatnonzero(drivers["gap_asset"].values < n)
    return drivers.isel(asset=slice(0, n), gap=gap)


def instruments_as_assets(drivers: xr.Dataset, n_assets: int) -> xr.Dataset:
    """The same record with one instrument, in their order, in the place of each asset.

    Parameters
    ----------
    drivers : Dataset
        `n_assets` assets, then as many instruments.
    n_assets : int
    """
    gap = np.flatnonzero(drivers["gap_asset"].values >= n_assets)
    part = drivers.isel(asset=slice(n_assets, None), gap=gap)
    names = drivers["asset"].values[:n_assets]
    return part.assign(gap_asset=part["gap_asset"] - np.int32(n_assets)).assign_coords(asset=names)


def joint_record(drivers: xr.Dataset) -> JointPaths:
    """A driver record as joint paths of one frame, its instruments beside their assets.

    A perpetual's ratio is split into its mark (the asset's ratio, and the peg where that lies) and
    what was paid; of what a linear one has paid at an extreme it has paid the same share at a gap
    on the way there as it has come of the way. A future pays nothing.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> fall = make_drivers(0.5 * one, one, 0.6 * one, assets=["BTC"], label=["fall"], source=[""])
    >>> none = {name: np.empty(0, "i8") for name in GAPS}
    >>> paid = add_instruments(
    ...     fall, ["BTC / perpetual USDT"], 0.49 * one, one, 0.59 * one, none)
    >>> joint_record(paid).ride[AT_LOW, 0, 0].round(12).tolist()  # factor, paid, owed in coin
    [1.0, 0.01, 0.0]
    """
    names = [str(name) for name in drivers["asset"].values]
    place = asset_places(names)
    riders = np.flatnonzero(place != np.arange(len(names)))
    every = joint_bars(drivers)
    if not len(riders):
        return every
    n = int(riders[0])
    low, high = every.low[:, 0], every.high[:, 0]
    points = [low, high, every.last[:, 0]]
    ends = [AT_LOW, AT_HIGH, AT_LAST]
    for end, gaps in ((AT_LOW, every.falls), (AT_HIGH, every.rises)):
        for one in range(gaps.shape[1]):
            points += [gaps[0, one, :, 0], gaps[1, one, :, 0]]
            ends += [end, end]
    x = np.stack([point[:, place[n:]] for point in points])
    y = np.stack([point[:, n:] for point in points])
    # Futures and lost pegs: all of it is mark. Of the others this is what was paid at the ends.
    pays = np.array([f"{_SEPARATOR}perpetual " in name for name in names[n:]])
    coin = np.array([settle_of(name) == asset_of(name) for name in names[n:]])
    peg = _peg_factors(drivers, names[n:])
    factor = np.stack([np.minimum(peg, 1.0), np.maximum(peg, 1.0), peg])
    paid = np.where(pays & ~coin, factor * x[:AT_GAPS] - y[:AT_GAPS], 0.0)
    owed = np.where(pays & coin, (x / y - 1.0) / x, 0.0)
    of = np.array(ends)
    left = 1.0 - y[of]
    share = np.divide(1.0 - y, left, out=np.ones_like(left), where=left != 0.0)
    share[:AT_GAPS] = 1.0
    paid = paid[of] * share
    ride = np.stack([np.where(pays & coin, 1.0, (y + paid) / x), paid, owed], axis=3)
    names_of = ("low", "high", "last", "falls", "rises")
    cut = {name: np.ascontiguousarray(getattr(every, name)[..., :n]) for name in names_of}
    return every._replace(**cut, ride=ride, ride_most=most_ridden(ride))


def _peg_factors(drivers: xr.Dataset, names: Sequence[str]) -> np.ndarray:
    """What the peg of the currency each instrument is quoted in makes of its price at the end."""
    factor = np.ones((drivers.sizes["scenario"], len(names)))
    if PEG in drivers:
        coins = [str(coin) for coin in drivers["settle"].values]
        for i, name in enumerate(names):
            if settle_of(name) in coins and settle_of(name) != asset_of(name):
                factor[:, i] = 1.0 / drivers[PEG].values[:, coins.index(settle_of(name))]
    return factor
