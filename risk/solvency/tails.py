"""The numbers the market-risk rules ask for, from windows of ten days."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view

from risk.capital import MarketTails, has_real_prices
from risk.errors import DataError
from risk.measures import expected_shortfall, value_at_risk
from risk.solvency.windows import WindowPnl

#: Base horizon of MAR33.4, and the days of a year.
HORIZON_DAYS, YEAR_DAYS = 10, 365


class Horizons(NamedTuple):
    """Liquidity horizons of the factors, in days, and what the rules measure at.

    Attributes
    ----------
    majors : frozenset of str
        Assets with the shorter horizon.
    major_days, other_days : int
    not_modellable_days : int
        Least horizon of a factor without enough real prices.
    confidence : float
        Of the expected shortfall.
    reduced_floor : float
        Least share of the full set's expected shortfall that the reduced set must explain.
    """

    majors: frozenset[str]
    major_days: int
    other_days: int
    not_modellable_days: int
    confidence: float
    reduced_floor: float


def market_tails(windows: WindowPnl, bars: xr.Dataset, wanted: Horizons) -> MarketTails:
    """Measure current, reduced and stressed tails of ten-day windows.

    The reduced set is the largest history that still explains enough: assets with prices of their
    own from a day on, that day being the earliest from which their expected shortfall of the latest
    year reaches `wanted.reduced_floor` of all assets'. The worst year is looked for from there.

    Raises
    ------
    DataError
        If the history is shorter than a year of windows.
    """
    n_year = YEAR_DAYS - HORIZON_DAYS + 1
    if len(windows.day) < n_year:
        raise DataError(
            f"a year of ten-day windows needs {YEAR_DAYS + 1} days of history; there are "
            f"{len(windows.day) + HORIZON_DAYS}"
        )
    assets = np.array(windows.assets, object)
    modelled = _modellable(bars, windows.assets)
    pnl = np.where(modelled, windows.pnl, 0.0)
    latest = pnl[-n_year:]
    n_reduced_from, reduced = _reduced_set(windows, pnl, modelled, wanted, n_year)
    start = _worst_year(pnl[n_reduced_from:, reduced].sum(axis=1), wanted.confidence, n_year)
    stress = slice(n_reduced_from + start, n_reduced_from + start + n_year)

    def nested(rows: np.ndarray, columns: np.ndarray) -> dict[int, float]:
        """Ten-day expected shortfall of the factors with at least each horizon."""
        days = np.where(
            [name in wanted.majors for name in assets], wanted.major_days, wanted.other_days
        )
        found = {}
        for horizon in sorted({HORIZON_DAYS, wanted.major_days, wanted.other_days}):
            loss = expected_shortfall(
                rows[:, columns & (days >= horizon)].sum(axis=1), wanted.confidence
            )
            found[horizon] = max(float(loss), 0.0)
        return found

    full = {"current": nested(latest, modelled), "reduced": nested(latest, reduced)}
    whole = full["current"][HORIZON_DAYS]
    worst = pnl[stress]
    return MarketTails(
        full_current=full["current"],
        reduced_current=full["reduced"],
        reduced_stressed=nested(worst, reduced),
        value_at_risk=max(float(value_at_risk(windows.pnl[-n_year:].sum(axis=1), 0.99)), 0.0),
        stressed_value_at_risk=max(
            float(value_at_risk(windows.pnl[stress].sum(axis=1), 0.99)), 0.0
        ),
        not_modellable=_stress_losses(windows, modelled, stress, wanted),
        reduced_share=full["reduced"][HORIZON_DAYS] / whole if whole else 1.0,
        n_factors=int(modelled.sum()),
        n_reduced=int(reduced.sum()),
        stress_start=windows.day[stress][0].item(),
        stress_end=windows.day[stress][-1].item(),
        history_start=windows.day[n_reduced_from].item(),
        n_windows=n_year,
    )


def _modellable(bars: xr.Dataset, assets: Sequence[str]) -> np.ndarray:
    """Which assets pass the test of real prices over the latest year (asset,)."""
    close = bars["close"].sel(asset=list(assets)).transpose("day", "asset").values[-YEAR_DAYS:]
    return np.array([has_real_prices(np.isfinite(column)) for column in close.T], bool)


def _reduced_set(
    windows: WindowPnl, pnl: np.ndarray, modelled: np.ndarray, wanted: Horizons, n_year: int
) -> tuple[int, np.ndarray]:
    """First window of the search for the worst year, and the assets it is made with."""
    n = len(windows.day)
    # First window from which on the asset is never proxied; beyond the last: never.
    holes = ~windows.is_own[::-1]
    since = n - np.where(holes.any(axis=0), holes.argmax(axis=0), n)
    whole = float(expected_shortfall(pnl[-n_year:].sum(axis=1), wanted.confidence))
    for first in sorted({int(at) for at in since[modelled] if at <= n - n_year}):
        members = modelled & (since <= first)
        mine = pnl[-n_year:, members].sum(axis=1)
        if float(expected_shortfall(mine, wanted.confidence)) >= wanted.reduced_floor * whole:
            return first, members
    return n - n_year, modelled


def _worst_year(pnl: np.ndarray, confidence: float, n_year: int) -> int:
    """Where the year with the largest expected shortfall begins; the latest of equal ones."""
    years = sliding_window_view(pnl, n_year)
    losses = expected_shortfall(years, confidence)
    return len(losses) - 1 - int(np.argmax(losses[::-1]))


def _stress_losses(
    windows: WindowPnl, modelled: np.ndarray, stress: slice, wanted: Horizons
) -> dict[str, float]:
    """Stand-alone stress loss of each factor that may not be modelled."""
    found = {}
    for at in np.flatnonzero(~modelled):
        name = windows.assets[at]
        days = max(
            wanted.not_modellable_days,
            wanted.major_days if name in wanted.majors else wanted.other_days,
        )
        loss = float(expected_shortfall(windows.pnl[stress, at], wanted.confidence))
        found[name] = max(loss, 0.0) * (days / HORIZON_DAYS) ** 0.5
    return found
