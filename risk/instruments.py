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

from risk.drivers import ELAPSED, VOLATILITY, make_drivers, with_volatility
from risk.errors import DataError
from risk.schema import DRIVERS, GAPS

#: Between an asset and the rest of an instrument's name; ccxt lets no base currency hold it.
_SEPARATOR = " / "

#: A ratio never falls below: an inverse contract has no value at zero.
FLOOR = 1e-6


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
