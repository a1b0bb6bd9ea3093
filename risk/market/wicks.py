"""Find and clip bad prints: a last trade far outside its bar's body that nothing else confirms.

Liquidation is tested at the mark price, and a last trade on a thin book can lie tens of percent
beyond it for a second (LINK, 2020-03-12: a last trade at 0.0001 on a day of 1.99 to 3.85).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

#: A wick shorter than this log distance is never doubted: 40 % down, 65 % up.
DOUBTFUL = 0.5

#: A wick up to this many times the day's median wick is part of a market-wide move.
MARKET_MULTIPLE = 3.0


def clip_wicks(bars: xr.Dataset, *, apply: bool = True) -> xr.Dataset:
    """Clip the bad prints of last trades and say where they were.

    The wick is the log distance from the bar's body (open and close) to its low or high. It is a
    bad print when it is longer than all of: `DOUBTFUL`; `MARKET_MULTIPLE` times the median wick
    of all assets on that day and side; the log range of the asset's previous bar (an asset that
    was already in turmoil may spike). It is cut to the longest wick of the assets not doubted
    that day and side, `DOUBTFUL` when there is none. Nothing after the day enters, so the result
    does not change as history grows.

    Parameters
    ----------
    bars : Dataset (day or hour, asset)
        `open`, `high`, `low`, `close` and `is_last` (the bar is made of last trades).
    apply : bool
        Whether to clip, or only to find.

    Returns
    -------
    Dataset (day, asset)
        The same bars with `low` and `high` clipped, and `bad_print` where a wick was found.
    """
    top = np.fmax(bars.open.values, bars["close"].values)
    bottom = np.fmin(bars.open.values, bars["close"].values)
    span = np.log(bars.high.values / bars.low.values)
    before = np.vstack([np.zeros(span.shape[1]), np.nan_to_num(span[:-1])])
    found = np.zeros(span.shape, bool)
    for name, body, sign in (("low", bottom, -1), ("high", top, 1)):
        wick = sign * np.log(bars[name].values / body)
        alive = np.isfinite(wick).any(axis=1)
        median = np.zeros(len(wick))
        median[alive] = np.nanmedian(wick[alive], axis=1)
        limit = np.maximum(np.maximum(DOUBTFUL, MARKET_MULTIPLE * median[:, None]), before)
        bad = bars.is_last.values & (wick > limit)
        others = np.where(bad | np.isnan(wick), -np.inf, wick).max(axis=1)
        cut = np.where(np.isfinite(others), others, DOUBTFUL)[:, None]
        found |= bad
        if apply:
            clipped = np.where(bad, body * np.exp(sign * cut), bars[name].values)
            bars = bars.assign({name: bars[name].copy(data=clipped)})
    return bars.assign(bad_print=(bars["low"].dims, found))
