"""Amounts of a settle currency that lost its peg, in US dollars.

The ladders reckon in the settle currency at par: at the horizon one unit is worth `p` dollars
instead. With e0 the equity at the snapshot and V what was earned since, the holder has

    P&L = p (e0 + V) - e0

and everybody else's amounts are worth `p` of what they were. Cash is conserved in the settle
currency; in dollars the collateral's own loss (1 - p) e0 comes on top. Options are not converted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from risk.drivers import PEG
from risk.instruments import settle_of
from risk.liquidation.columns import Plain, Steps

#: What is paid in the settle currency, beside the P&L.
_AMOUNTS = ("venue_gain", "deficit", "market_cost", "liquidated_notional")


def prices_of(drivers: xr.Dataset, settle: Sequence[str]) -> np.ndarray:
    """US dollars of each settle currency at the horizon, in units of par (scenario, currency).

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> record = xr.Dataset({"peg": (("scenario", "settle"), 0.87 * one)}, {"settle": ["USDC"]})
    >>> prices_of(record, ["USDC", "BTC"]).tolist()
    [[0.87, 1.0]]
    """
    prices = np.ones((drivers.sizes["scenario"], len(settle)))
    if PEG in drivers:
        known = {str(name): place for place, name in enumerate(drivers["settle"].values)}
        for column, name in enumerate(settle):
            if name in known:
                prices[:, column] = drivers[PEG].values[:, known[name]]
    return prices


def one_cell_each(plain: Plain, steps: Steps) -> tuple[Plain, Steps]:
    """The same ladders, every one in a cell of its own: a cell may mix settle currencies."""
    n_plain, n = len(plain.sums.asset), len(plain.sums.asset) + len(steps.sums.asset)
    first = np.minimum(np.arange(n + 1), n_plain)
    behind = np.maximum(np.arange(n + 1) - n_plain, 0)
    return (
        plain._replace(sums=plain.sums._replace(cell_start=first)),
        steps._replace(sums=steps.sums._replace(cell_start=behind)),
    )


def cells_in_dollars(
    plain: Plain,
    steps: Steps,
    drivers: xr.Dataset,
    n_cells: int,
    apart: dict[str, np.ndarray],
    is_wide: bool,
) -> dict[str, np.ndarray]:
    """Cells in US dollars from ladders in their settle currencies.

    Parameters
    ----------
    plain, steps : Plain, Steps
        As they were before `one_cell_each`.
    drivers : Dataset
        Driver record that says which pegs were lost.
    n_cells : int
    apart : dict of ndarray (ladder, scenario)
        Every variable of `risk.schema.CUBE`, plain ladders first; of venue gain and market cost
        one row unless `is_wide`.

    Returns
    -------
    dict of ndarray (cell, scenario)
    """
    names = [str(name) for name in drivers["asset"].values]
    driver = np.concatenate([plain.sums.asset, steps.sums.asset])
    price = prices_of(drivers, [settle_of(names[at]) for at in driver]).T
    cell = np.concatenate(
        [
            np.repeat(np.arange(n_cells), np.diff(sums.cell_start))
            for sums in (plain.sums, steps.sums)
        ]
    )
    equity = _equities(plain, steps)[:, None]
    cells = {}
    for name, amount in apart.items():
        if len(amount) != len(cell) or (not is_wide and name in ("venue_gain", "market_cost")):
            cells[name] = amount
            continue
        if name == "pnl":
            # The difference last: where no peg moved the P&L keeps its every bit.
            amount = amount * price + (price - 1.0) * equity
        elif name in _AMOUNTS:
            amount = amount * price
        cells[name] = np.zeros((n_cells, amount.shape[1]), amount.dtype)
        np.add.at(cells[name], cell, amount)
    return cells


def _equities(plain: Plain, steps: Steps) -> np.ndarray:
    """Equity at the snapshot of the positions of every ladder, US dollars."""
    ladder = np.repeat(np.arange(len(plain.sums.asset)), np.diff(plain.sums.start))
    whole = np.bincount(ladder, plain.equity, len(plain.sums.asset))
    held = steps.held.intercept + steps.held.head * steps.held.notional
    ladder = np.repeat(np.arange(len(steps.sums.asset)), np.diff(steps.sums.start))
    first = np.flatnonzero(np.isneginf(steps.previous))
    cut = np.bincount(ladder[first], held[steps.owner[first]], len(steps.sums.asset))
    return np.concatenate([whole, cut])


def outcome_in_dollars(
    outcome: dict[str, np.ndarray], price: np.ndarray, equity: np.ndarray
) -> dict[str, np.ndarray]:
    """One scenario's outcomes on (position,) in US dollars; `price` of each settle currency."""
    changed = {name: outcome[name] * price for name in _AMOUNTS}
    return outcome | changed | {"pnl": outcome["pnl"] * price + (price - 1.0) * equity}
