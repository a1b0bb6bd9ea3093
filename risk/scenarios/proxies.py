"""Assets without a price in a window: the market's move times beta, plus a day of their own risk.

The own risk is a residual the asset showed on another day, drawn by a key of seed, asset and day:
without it a proxied asset would follow the market to the letter and its tail be too thin.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xarray as xr

from risk.scenarios.moves import (
    PROXY_FLOOR,
    Ratios,
    beta_of,
    market_ratios,
    scale_move,
)

#: Part of every random key; raised when the meaning of a draw changes.
SCHEME = 1

#: Fewest windows of its own an asset draws residuals from; below it, it draws from the others'.
MIN_DONORS = 30


class Proxied(NamedTuple):
    """Moves without holes, and where they came from."""

    moves: Ratios
    proxied: np.ndarray  # bool (window, asset)
    n_donors: np.ndarray  # (asset,): windows its residuals were drawn from; 0: from other assets


def fill_by_proxy(
    every: Ratios,
    days: np.ndarray,
    wanted: np.ndarray,
    names: Sequence[str],
    assets: Sequence[str],
    betas: xr.DataArray,
    *,
    factor_betas: xr.DataArray | None = None,
    seed: int | None = None,
    set_code: int = 0,
) -> Proxied:
    """Moves of the universe in the wanted windows, holes filled by the proxy rule.

    The systematic part is the sum of beta times move over the factors; where a factor has no price
    it is the one beta times the market's move. The residual is the difference between an asset's
    move and its systematic part in another window, low, high and last together.

    Parameters
    ----------
    every : Ratios of ndarray (window, name)
        All windows of the history; donors of residuals.
    days : ndarray (window,)
        Last bar of each, datetime64 of days or hours: part of the random key.
    wanted : ndarray of int (scenario,)
        Rows of `every` that become scenarios.
    names : sequence of str (name,)
        The history's assets.
    assets : sequence of str (asset,)
        The universe.
    betas : DataArray (asset)
        Slopes to ``betas.attrs["market"]``, an asset or ``equal_weight``.
    factor_betas : DataArray (asset, factor), optional
        Slopes to several assets together.
    seed : int, optional
        Of the residuals; without it there are none.
    set_code : int
        Part of the random key. The methods share one, so that they differ by method alone.
    """
    known = np.isfinite(every.last)
    market = market_ratios(every, names, betas)
    column = {name: place for place, name in enumerate(names)}
    systematic = {
        name: _systematic(every, column, market, betas, factor_betas, name)
        for name in {*names, *assets}
    }
    own = {name: _residuals(every, systematic[name], column[name], known) for name in sorted(names)}
    pool = [part for part in own.values() if len(part) >= MIN_DONORS]
    shape = (len(wanted), len(assets))
    moves = Ratios(*(np.empty(shape) for _ in Ratios._fields))
    proxied = np.ones(shape, bool)
    n_donors = np.zeros(len(assets), "i8")
    for place, name in enumerate(assets):
        if name in column:
            proxied[:, place] = ~known[wanted, column[name]]
            for part, source in zip(moves, every, strict=True):
                part[:, place] = source[wanted, column[name]]
        gone = np.flatnonzero(proxied[:, place])
        filled = Ratios(*(part[wanted[gone]] for part in systematic[name]))
        mine = own.get(name, np.empty((0, 3)))
        donors = [mine] if len(mine) >= MIN_DONORS else pool
        n_donors[place] = len(mine) if len(mine) >= MIN_DONORS else 0
        if seed is not None and donors:
            drawn = _draw(donors, (seed, set_code, name), days[wanted[gone]])
            filled = _add(filled, drawn)
        for part, values in zip(moves, filled, strict=True):
            part[gone, place] = values
    return Proxied(moves, proxied, n_donors)


def proxy_summary(drivers: xr.Dataset, notional_usd: Mapping[str, float]) -> pa.Table:
    """Which assets were proxied, how often, and how much of the book hangs on them.

    Parameters
    ----------
    drivers : Dataset
        From `risk.scenarios.historical.historical_drivers`.
    notional_usd : mapping of str to float
        Notional of the book by asset, USD.

    Returns
    -------
    Table
        `asset`, `windows_share` (of the windows), `n_donors` (0: residuals of other assets),
        `notional_usd`, `notional_share` (of the whole book); largest notional first, assets never
        proxied left out.
    """
    total = sum(notional_usd.values())
    rows = [
        {
            "asset": str(name),
            "windows_share": float(share),
            "n_donors": int(donors),
            "notional_usd": float(notional_usd.get(str(name), 0.0)),
            "notional_share": notional_usd.get(str(name), 0.0) / total if total else 0.0,
        }
        for name, share, donors in zip(
            drivers["asset"].values,
            drivers["proxied_share"].values,
            drivers["n_donors"].values,
            strict=True,
        )
        if share > 0
    ]
    schema = pa.schema(
        [
            ("asset", "string"),
            ("windows_share", "f8"),
            ("n_donors", "i8"),
            ("notional_usd", "f8"),
            ("notional_share", "f8"),
        ]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    return table.sort_by([("notional_usd", "descending"), ("asset", "ascending")])


def _systematic(
    every: Ratios,
    column: Mapping[str, int],
    market: Ratios,
    betas: xr.DataArray,
    factor_betas: xr.DataArray | None,
    name: str,
) -> Ratios:
    """The market's part of one asset's move in every window (window,)."""
    one_beta = scale_move(market, beta_of(betas, name))
    if factor_betas is None or name not in factor_betas["asset"].values:
        return one_beta
    factors = [str(factor) for factor in factor_betas["factor"].values]
    if not factors or any(factor not in column for factor in factors):
        return one_beta
    slopes = factor_betas.sel(asset=name).values
    low, high, last = (np.ones(len(market.last)) for _ in Ratios._fields)
    for factor, slope in zip(factors, slopes, strict=True):
        move = [part[:, column[factor]] - 1 for part in every]
        adverse, favourable = (move[0], move[1]) if slope >= 0 else (move[1], move[0])
        low, high, last = low + slope * adverse, high + slope * favourable, last + slope * move[2]
    there = np.isfinite(last)
    several = _ordered(low, high, last)
    return Ratios(*(np.where(there, a, b) for a, b in zip(several, one_beta, strict=True)))


def _residuals(every: Ratios, systematic: Ratios, at: int, known: np.ndarray) -> np.ndarray:
    """Low, high and last beyond the systematic part, where the asset has its own (donor, 3)."""
    there = known[:, at]
    parts = [p[there, at] - s[there] for p, s in zip(every, systematic, strict=True)]
    return np.stack(parts, axis=1)


def _draw(donors: Sequence[np.ndarray], key: tuple[int, int, str], days: np.ndarray) -> np.ndarray:
    """One residual per day (day, 3); each day's draw knows no other."""
    seed, set_code, name = key
    found = np.empty((len(days), 3))
    for row, day in enumerate(days.astype("i8")):
        path = (SCHEME, set_code, zlib.crc32(name.encode()), int(day))
        words = np.random.SeedSequence(seed, spawn_key=path).generate_state(2, np.uint64)
        source = donors[int(words[0]) % len(donors)]
        found[row] = source[int(words[1]) % len(source)]
    return found


def _add(move: Ratios, residual: np.ndarray) -> Ratios:
    return _ordered(*(part + residual[:, k] for k, part in enumerate(move)))


def _ordered(low: np.ndarray, high: np.ndarray, last: np.ndarray) -> Ratios:
    """Above `PROXY_FLOOR`, the last inside low and high, the start (one) too."""
    last = np.maximum(last, PROXY_FLOOR)
    low = np.minimum(np.maximum(low, PROXY_FLOOR), np.minimum(last, 1.0))
    return Ratios(low, np.maximum(high, np.maximum(last, 1.0)), last)
