"""Options in the scenarios of a driver record: cube cells, positions, and what blocks keep."""

from __future__ import annotations

import numpy as np
import xarray as xr

from risk.errors import DataError
from risk.liquidation.options.closing import add_bought, add_written, close_holdings
from risk.liquidation.options.columns import Contracts, Holdings, Moves, Options, Valued
from risk.liquidation.options.valuing import value_contracts

_DAYS = 365.0


def option_moves(drivers: xr.Dataset, needed: np.ndarray) -> Moves:
    """What a driver record does to the assets of the options.

    A record with recorded paths gives them step by step. Any other is taken as three steps: the
    low and the high, with no time gone by, then the last price after ``attrs["elapsed_days"]`` (0
    when absent); its implied volatilities are at the scenario's `volatility` all the while, or at
    today's where it has none.

    Parameters
    ----------
    drivers : Dataset
        See `risk.drivers`.
    needed : ndarray of int
        Assets, as indices among the drivers'.

    Raises
    ------
    DataError
        If paths were recorded, but not of an asset that is needed.
    """
    place = np.full(drivers.sizes["asset"], -1)
    names = [str(name) for name in drivers.asset.values[needed]]
    if "path" in drivers:
        recorded = [str(name) for name in drivers.path_asset.values]
        if missing := sorted(set(names) - set(recorded)):
            raise DataError(f"the drivers hold no path of {', '.join(missing)}; record it")
        place[needed] = [recorded.index(name) for name in names]
        path, spread = (
            np.ascontiguousarray(drivers[name].transpose("path_asset", "step", "scenario").values)
            for name in ("path", "log_volatility")
        )
        return Moves(place, path, spread, drivers.step_days.values / _DAYS)
    place[needed] = np.arange(len(needed))
    path = np.stack([drivers[name].values[:, needed].T for name in ("low", "high", "last")], axis=1)
    spread = np.zeros_like(path)
    if "volatility" in drivers:
        with np.errstate(divide="ignore"):  # no volatility at all: the intrinsic value
            spread += np.log(drivers["volatility"].values[:, needed].T)[:, None]
    elapsed = np.array([0.0, 0.0, float(drivers.attrs.get("elapsed_days", 0.0))])
    return Moves(place, np.ascontiguousarray(path), spread, elapsed / _DAYS)


def value_options(contracts: Contracts, drivers: xr.Dataset) -> Valued:
    """Value every contract in every scenario of a driver record."""
    return value_contracts(contracts, option_moves(drivers, np.unique(contracts.asset)))


def add_options(
    options: Options,
    drivers: xr.Dataset,
    outputs: dict[str, np.ndarray],
    is_wide: bool,
    valued: Valued | None = None,
) -> None:
    """Add a book's options to the variables of the cube.

    Parameters
    ----------
    options : Options
    drivers : Dataset
    outputs : dict of ndarray (cell, scenario)
        In the order of `risk.schema.CUBE`; changed in place.
    is_wide : bool
        False: venue gain and market cost are not wanted, and their arrays may be short.
    valued : Valued, optional
        What `value_options` gives, if it is already known.
    """
    shape = outputs["pnl"].shape
    for values in outputs.values():
        if len(values) == len(outputs["pnl"]):
            values[options.own_cells] = 0
    if not len(options.contracts.asset):
        return
    if not is_wide:
        outputs = outputs | {name: np.empty(shape) for name in ("venue_gain", "market_cost")}
    if valued is None:
        valued = value_options(options.contracts, drivers)
    add_bought(options.contracts, options.bought, valued, outputs["pnl"])
    add_written(options.contracts, options.written, valued, tuple(outputs.values()))


def holding_outcomes(
    contracts: Contracts, holdings: Holdings, drivers: xr.Dataset, valued: Valued | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Outcome of every option position in every scenario; for a few scenarios only.

    Returns
    -------
    amounts : ndarray (5, scenario, position)
        P&L, venue gain, deficit, market cost and liquidated notional, USD.
    liquidated : ndarray of bool (scenario, position)
    """
    n = len(holdings.row)
    amounts = np.empty((n, 5, drivers.sizes["scenario"]))
    liquidated = np.empty((n, drivers.sizes["scenario"]), bool)
    if n:
        valued = value_options(contracts, drivers) if valued is None else valued
        close_holdings(contracts, valued, holdings, amounts, liquidated)
    return amounts.transpose(1, 2, 0), liquidated.T
