"""Grids of moves: what the book does at every step of a ladder, and who is behind it.

The grids are driver records like any other; the pricing function is given, so every entry is as
exact as the ladders are. A straight move reaches its end without turning; a volatility above zero
lets the price wander on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from risk.drivers import make_drivers, with_volatility
from risk.errors import ConfigError
from risk.scenarios.moves import Ratios, check_gap, gap_rule

#: From a driver record to the variables of the cube on (scenario, cell).
Price = Callable[[xr.Dataset], xr.Dataset]

#: What a table shows.
SHOWN = ("pnl", "deficit", "liquidations", "liquidated_notional")


def move_drivers(
    assets: Sequence[str],
    moves: np.ndarray,
    *,
    gap: float,
    label: Sequence[str],
    wander: np.ndarray | None = None,
    volatility: np.ndarray | None = None,
) -> xr.Dataset:
    """Drivers of given moves of every asset.

    Parameters
    ----------
    assets : sequence of str
    moves : ndarray (scenario, asset)
        Fractions of the mark at the horizon, above -1.
    gap : float
        Share of the excursion to the low (and high) that lands as one jump.
    label : sequence of str (scenario,)
    wander : ndarray (scenario, asset), optional
        Standard deviation of the log price on the way. Low and high are the medians of a Brownian
        bridge's: from 0 to b, ``(b - sqrt(b^2 + 2 ln(2) wander^2)) / 2`` and mirrored [1]_.

    volatility : ndarray (scenario, asset), optional
        Multiples of the options' implied volatilities; one when absent.

    Returns
    -------
    Dataset
        Driver record, equally weighted: a grid has no probabilities. It happens at once: options
        lose no time value.

    Raises
    ------
    ConfigError
        If a move is not above -1 or the gap no share.

    References
    ----------
    .. [1] P. Glasserman, "Monte Carlo Methods in Financial Engineering", 2004, section 6.4.

    Examples
    --------
    >>> drivers = move_drivers(["BTC"], np.array([[-0.2]]), gap=0.5, label=["fall"])
    >>> drivers["low"].item(), drivers["high"].item(), drivers["gap_before"].item()
    (0.8, 1.0, 0.9)
    """
    check_gap(gap, "grid")
    if not (np.isfinite(moves) & (moves > -1)).all():
        raise ConfigError("grid: a move is not a number above -1; a price cannot fall below zero")
    last = 1 + np.asarray(moves, "f8")
    low, high = np.minimum(last, 1.0), np.maximum(last, 1.0)
    if wander is not None:
        end = np.log(last)
        reach = np.sqrt(end**2 + 2 * np.log(2) * wander**2)
        low = np.minimum(low, np.exp((end - reach) / 2))
        high = np.maximum(high, np.exp((end + reach) / 2))
    drivers = make_drivers(
        low,
        high,
        last,
        assets=assets,
        label=label,
        source=["grid"] * len(last),
        gaps=gap_rule(Ratios(low, high, last), gap),
    )
    return drivers if volatility is None else with_volatility(drivers, volatility, 0.0)


def heat_table(
    price: Price,
    assets: Sequence[str],
    moves: Sequence[float],
    multiples: Sequence[float],
    volatility: xr.DataArray,
    *,
    gap: float,
    horizon_days: int = 1,
    leaders: int = 3,
) -> xr.Dataset:
    """Common price moves by multiples of today's volatility.

    Prices of linear and inverse contracts do not know volatility; what it changes is how far a
    price strays on its way to the same end, and so what is liquidated there. Options are valued
    again: their implied volatilities are multiplied too, at 0 only the intrinsic value is left.

    Parameters
    ----------
    price : callable
    assets : sequence of str
    moves : sequence of float
        Fractions of the mark; every asset moves alike.
    multiples : sequence of float
        Of each asset's volatility; at 0 the move is straight.
    volatility : DataArray (asset)
        Daily, of log returns.
    gap : float
    horizon_days : int
    leaders : int
        Cells named per entry.

    Returns
    -------
    Dataset (move, volatility)
        `SHOWN` summed over cells, and ``<name>_leader`` (move, volatility, rank): the cells behind
        it, largest loss, deficit or count first (-1: none), with ``<name>_led`` what they add.
    """
    grid = np.array([[move, k] for move in moves for k in multiples])
    daily = volatility.reindex(asset=list(assets)).fillna(float(volatility.median())).values
    drivers = move_drivers(
        assets,
        np.repeat(grid[:, :1], len(assets), axis=1),
        gap=gap,
        label=[f"{move:+.0%} at {k:g} x volatility" for move, k in grid],
        wander=grid[:, 1:] * daily * np.sqrt(horizon_days),
        volatility=np.repeat(grid[:, 1:], len(assets), axis=1),
    )
    shape = {"move": np.asarray(moves, "f8"), "volatility": np.asarray(multiples, "f8")}
    return _table(price(drivers), shape, leaders)


def asset_ladders(
    price: Price, assets: Sequence[str], moves: Sequence[float], *, gap: float, leaders: int = 3
) -> xr.Dataset:
    """Moves of one asset at a time, the others still: falls and rises in one table.

    Parameters
    ----------
    price : callable
    assets : sequence of str
    moves : sequence of float
        Fractions of the mark; negative ones close longs, positive ones shorts.
    gap : float
    leaders : int

    Returns
    -------
    Dataset (asset, move)
        As `heat_table`.
    """
    n, steps = len(assets), len(moves)
    grid = np.zeros((n * steps, n))
    for place in range(n):
        grid[place * steps : (place + 1) * steps, place] = moves
    label = [f"{asset} {move:+.0%}" for asset in assets for move in moves]
    drivers = move_drivers(assets, grid, gap=gap, label=label)
    shape = {"asset": np.asarray(assets, object), "move": np.asarray(moves, "f8")}
    return _table(price(drivers), shape, leaders)


def _table(cube: xr.Dataset, shape: dict[str, np.ndarray], leaders: int) -> xr.Dataset:
    """Fold scenarios into the grid's dimensions; sum cells and name the largest."""
    dims = tuple(shape)
    sizes = tuple(len(values) for values in shape.values())
    count = min(leaders, cube.sizes["cell"])
    data: dict[str, tuple] = {}
    for name in SHOWN:
        values = cube[name].transpose("scenario", "cell").values.astype("f8")
        data[name] = (dims, values.sum(axis=1).reshape(sizes), cube[name].attrs)
        # The largest loss is the smallest P&L.
        signed = -values if name == "pnl" else values
        order = np.argsort(-signed, axis=1, kind="stable")[:, :count]
        led = np.take_along_axis(values, order, axis=1)
        chosen = np.where(np.take_along_axis(signed, order, axis=1) > 0, order, -1)
        ranked = (*dims, "rank")
        data[f"{name}_leader"] = (ranked, chosen.reshape(*sizes, count))
        data[f"{name}_led"] = (ranked, np.where(chosen < 0, 0.0, led).reshape(*sizes, count))
    return xr.Dataset(data, coords=shape)
