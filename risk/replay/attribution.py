"""Hypothetical against risk-theoretical P&L of a day, where the scenarios rest on proxies.

An asset younger than the windows has no moves of its own in some of them: there the forecast uses
the proxy rule. On the day itself its real move is known, and what the proxy rule makes of the
market's move can stand beside it: the same ladders are walked with both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.liquidation import Ladders, walk
from risk.replay.forecast import Models, day_drivers, day_ratios
from risk.scenarios.moves import Ratios
from risk.scenarios.proxies import fill_by_proxy


def proxied_assets(past: xr.Dataset, windows: int, assets: Sequence[str]) -> list[str]:
    """Assets that lack a price in some of the latest windows, in the order given.

    Parameters
    ----------
    past : Dataset (day, asset)
        Up to and including the night.
    windows : int
        Daily windows of the forecast; each needs the close before it.
    assets : sequence of str
        Those with a price that night.
    """
    bars = past.sel(asset=list(assets)).isel(day=slice(-windows - 1, None))
    hole = np.zeros(len(assets), bool)
    for name in ("low", "high", "close"):
        hole |= bars[name].isnull().any("day").values
    return [name for name, is_proxied in zip(assets, hole, strict=True) if is_proxied]


def proxy_moves(
    moves: Ratios,
    bars: xr.Dataset,
    night: Any,
    assets: Sequence[str],
    proxied: Sequence[str],
    models: Models,
) -> Ratios:
    """The day's moves with those of some assets replaced by what the proxy rule makes of the rest.

    The systematic part alone: the residual the scenarios add is drawn from other days and knows
    nothing of this one.

    Parameters
    ----------
    moves : Ratios of ndarray (1, asset)
        The real ones.
    bars : Dataset (day, asset)
        The whole history; the day after `night` is read.
    night : date
    assets : sequence of str (asset,)
    proxied : sequence of str
        Whose move is taken away.
    models : Models
        Of the night, with a calibration.
    """
    calibration = models.calibration
    assert calibration is not None
    names = [str(name) for name in bars["asset"].values]
    every = day_ratios(bars, night, names)
    gone = np.isin(names, list(proxied))
    masked = Ratios(*(np.where(gone, np.nan, part) for part in every))
    day = np.array([np.datetime64(night, "D") + 1])
    found = fill_by_proxy(
        masked,
        day,
        np.zeros(1, "i8"),
        names,
        list(proxied),
        calibration["beta"],
        factor_betas=calibration["factor_beta"],
    ).moves
    theory = Ratios(*(part.copy() for part in moves))
    for column, name in enumerate(proxied):
        for part, source in zip(theory, found, strict=True):
            part[0, list(assets).index(name)] = source[0, column]
    return theory


def attribution_row(
    base: Mapping[str, Any],
    ladders: Ladders,
    realised: xr.Dataset,
    theory: Ratios,
    proxied: Sequence[str],
    gap: float | None,
    notional: Mapping[str, float],
) -> dict[str, Any]:
    """One night's row of ATTRIBUTION: both P&Ls of the book, and of its proxied assets alone.

    Parameters
    ----------
    base : mapping
        Night and day.
    ladders : Ladders
        Their cells carry the label ``asset``.
    realised : Dataset (cell)
        The walk of the real moves.
    theory : Ratios of ndarray (1, asset)
        From `proxy_moves`.
    proxied : sequence of str
    gap : float or None
        As for the real day.
    notional : mapping of str to float
        USD, by asset with a price.
    """
    drivers = day_drivers(theory, list(ladders.assets), base["night"], gap)
    modelled = walk(ladders, drivers).isel(scenario=0)
    mine = np.isin(ladders.cells["asset"].to_pylist(), list(proxied))
    pnl = {"hypothetical": realised.pnl.values, "theoretical": modelled.pnl.values}
    total = sum(notional.values())
    return dict(base) | {
        "proxied": ", ".join(proxied),
        "proxied_share": sum(notional[name] for name in proxied) / total,
        **{f"{kind}_usd": float(values.sum()) for kind, values in pnl.items()},
        **{f"proxied_{kind}_usd": float(values[mine].sum()) for kind, values in pnl.items()},
    }


def attribution_pairs(table: pa.Table) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Hypothetical and risk-theoretical P&L of the nights, by what they are of."""
    columns = {
        "book": ("hypothetical_usd", "theoretical_usd"),
        "proxied": ("proxied_hypothetical_usd", "proxied_theoretical_usd"),
    }
    return {
        name: (table[real].to_numpy(), table[model].to_numpy())
        for name, (real, model) in columns.items()
    }
