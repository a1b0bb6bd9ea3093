"""Funding rates of perpetuals: their history in ticks of eight hours, and how they move.

A rate is pulled back to its long-run level (an autoregression of order one) and is shocked by what
it was shocked by before: rows of past residuals of all assets together, so that they stay heavy
and move together, on top of the part that goes with the price. Method and limits:
``docs/methods/carry.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.errors import DataError

#: Beside the prices; optional.
FILE = "funding.parquet"

#: Rates of other intervals are added up to this one.
TICK = np.timedelta64(8, "h")

#: Fewest pairs of consecutive ticks an asset is calibrated on, and how far back it looks.
MIN_TICKS, TICKS = 90, 1095

#: A rate that never comes back would wander off; none is more persistent than this.
_MOST_PERSISTENT = 0.999


def load_funding(folder: Path | str, as_of: date) -> xr.DataArray | None:
    """Funding paid in every tick of eight hours up to and including the end of `as_of`.

    Parameters
    ----------
    folder : Path
        Where the history lies; ``funding.parquet`` in it has the columns ``ts`` (UTC instant of the
        settlement), ``asset`` and ``funding_rate`` (fraction per settlement, longs pay where
        positive).
    as_of : date

    Returns
    -------
    DataArray (instant, asset) or None
        Rate per 8 hours, at the tick's end; NaN where a settlement is missing. None where there is
        no file or nothing up to `as_of`.

    Raises
    ------
    DataError
        If the file is damaged, lacks a column, repeats a settlement, or a rate is no fraction.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        return None
    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name} is not a readable Parquet file: {error}") from error
    if missing := [n for n in ("ts", "asset", "funding_rate") if n not in table.column_names]:
        raise DataError(f"{file.name}: missing column {', '.join(missing)}")
    if not pa.types.is_timestamp(table.schema.field("ts").type):
        raise DataError(f"{file.name}: column ts is no timestamp; make it one with UTC zone")
    rate = table["funding_rate"].cast(pa.float64()).to_numpy()
    bad = ~(np.abs(rate) < 1)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{file.name} row {row}: funding_rate {rate[row]:g} is no fraction between -1 and 1"
        )
    instant = table["ts"].cast(pa.timestamp("s", tz="UTC"), safe=False).to_numpy()
    named = pc.fill_null(table["asset"].cast(pa.string()), "").to_numpy(zero_copy_only=False)
    kept = instant <= np.datetime64(as_of, "D") + np.timedelta64(1, "D")
    if not kept.any():
        return None
    instant, named, rate = instant[kept], named[kept], rate[kept]
    assets, column = np.unique(named, return_inverse=True)
    seconds = instant.astype("M8[s]").astype("i8")
    pair = seconds * len(assets) + column
    if len(np.unique(pair)) < len(pair):
        raise DataError(f"{file.name}: an asset has two rates at one instant; keep one of them")
    width = int(TICK / np.timedelta64(1, "s"))
    tick = -(-seconds // width)
    row = tick - tick.min()
    shape = (int(row.max()) + 1, len(assets))
    total, count = np.zeros(shape), np.zeros(shape, "i8")
    np.add.at(total, (row, column), rate)
    np.add.at(count, (row, column), 1)
    # An asset that settles more often has as many settlements a tick as it usually has.
    usual = [int(np.bincount(some[some > 0]).argmax()) for some in count.T]
    instants = ((tick.min() + np.arange(shape[0])) * width).astype("M8[s]").astype("M8[ns]")
    return xr.DataArray(
        np.where(count == usual, total, np.nan),
        dims=("instant", "asset"),
        coords={"instant": instants, "asset": assets.astype(object)},
        attrs={"units": "1", "long_name": "funding rate per 8 hours"},
    )


def calibrate_funding(
    funding: xr.DataArray | None, history: xr.Dataset, assets: Sequence[str], market: str
) -> xr.Dataset:
    """How funding rates move from one tick of eight hours to the next.

    Parameters
    ----------
    funding : DataArray (instant, asset), optional
        From `load_funding`.
    history : Dataset (day, asset)
        From `risk.market.history.load_history`; closes are read.
    assets : sequence of str
        The universe. An asset without rates, or with too few, takes the figures and the residuals
        of `market`, or of the first asset that has some.
    market : str

    Returns
    -------
    Dataset (asset)
        `funding_level`, `funding_persistence`, `funding_sd` (of the residuals) and their standard
        errors, `funding_explained` (share of the rate's variance), `funding_price_correlation` (of
        a day's residuals with its log return), `funding_ticks`, `funding_source` (whose rates), and
        `funding_residual` (asset, funding_draw): past residuals in standard deviations, rows of one
        tick together. Rates are per 8 hours. Without any rates empty but for `funding_source`, all
        "": rates then stay where they are.
    """
    names = [str(name) for name in assets]
    known = [] if funding is None else [str(name) for name in funding["asset"].values]
    rates = {
        name: funding.sel(asset=name).values[-TICKS - 1 :]
        for name in names
        if funding is not None and name in known
    }
    fits = {name: fit for name, rate in rates.items() if (fit := _fit(rate)) is not None}
    if not fits or funding is None:
        none = {"funding_source": ("asset", np.full(len(names), "", object))}
        return xr.Dataset(none, {"asset": np.array(names, object)})
    leader = market if market in fits else sorted(fits)[0]
    source = [name if name in fits else leader for name in names]
    instants = funding["instant"].values[-TICKS - 1 :]
    for name, fit in fits.items():
        fit["price_correlation"] = _price_correlation(fit["residual"], instants, history, name)
    units = {"level": "1", "persistence": "1", "sd": "1", "explained": "1",
             "price_correlation": "1", "level_se": "1", "persistence_se": "1", "sd_se": "1",
             "ticks": "1"}  # fmt: skip
    data: dict[str, tuple] = {
        f"funding_{key}": ("asset", np.array([fits[one][key] for one in source]), {"units": unit})
        for key, unit in units.items()
    }
    rows = np.stack([_filled(fits[one]["residual"] / fits[one]["sd"]) for one in source])
    data["funding_source"] = ("asset", np.array(source, object))
    data["funding_residual"] = (("asset", "funding_draw"), rows, {"units": "1"})
    return xr.Dataset(data, {"asset": np.array(names, object)})


def _fit(rate: np.ndarray) -> dict | None:
    """Least squares of each rate on the one before; None where there are too few pairs."""
    before, after = rate[:-1], rate[1:]
    both = np.isfinite(before) & np.isfinite(after)
    n = int(both.sum())
    if n < MIN_TICKS or np.ptp(before[both]) == 0:
        return None
    x, y = before[both], after[both]
    spread = ((x - x.mean()) ** 2).sum()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    slope = min(max(slope, 0.0), _MOST_PERSISTENT)
    level = float((y.mean() - slope * x.mean()) / (1 - slope))
    residual = np.where(both, after - level - slope * (before - level), np.nan)
    sd = float(np.sqrt(np.nansum(residual**2) / (n - 2)))
    excess = float(np.nanmean(residual**4) / np.nanmean(residual**2) ** 2)
    return {
        "level": level,
        "persistence": slope,
        "sd": sd,
        "level_se": sd / ((1 - slope) * np.sqrt(n)),
        "persistence_se": sd / np.sqrt(spread),
        "sd_se": sd * np.sqrt(max(excess - 1, 0.0) / (4 * n)),
        "explained": 1 - float(np.nansum(residual**2) / ((y - y.mean()) ** 2).sum()),
        "ticks": n,
        "residual": residual,
    }


def _price_correlation(
    residual: np.ndarray, instants: np.ndarray, history: xr.Dataset, name: str
) -> float:
    """Correlation of a day's residuals with its log return; 0 where too few days have both."""
    if name not in history["asset"].values:
        return 0.0
    # A tick that ends at midnight belongs to the day before.
    day = (instants[1:] - np.timedelta64(1, "ns")).astype("M8[D]")
    days, place, n_ticks = np.unique(day, return_inverse=True, return_counts=True)
    total = np.bincount(place, residual, len(days))
    close = np.log(history["close"].sel(asset=name).values)
    moves = dict(zip(history["day"].values.astype("M8[D]")[1:], np.diff(close), strict=True))
    move = np.array([moves.get(one, np.nan) for one in days])
    both = np.isfinite(total) & np.isfinite(move) & (n_ticks == n_ticks.max())
    if both.sum() < MIN_TICKS // 3 or np.ptp(move[both]) == 0:
        return 0.0
    return float(np.corrcoef(total[both], move[both])[0, 1])


def _filled(residual: np.ndarray) -> np.ndarray:
    """Holes filled with the asset's own other residuals, in their order."""
    missing = ~np.isfinite(residual)
    return np.where(missing, np.resize(residual[~missing], len(residual)), residual)


def window_funding(
    funding: xr.DataArray | None, assets: Sequence[str], starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Funding paid in windows of the past.

    Parameters
    ----------
    funding : DataArray (instant, asset), optional
        From `load_funding`.
    assets : sequence of str
    starts, ends : ndarray of datetime64 (window,)
        A window pays what is settled after its start, its end included.

    Returns
    -------
    paid : ndarray (window, asset)
        Sum of the rates that are known.
    missing : ndarray of int (window, asset)
        Ticks of eight hours whose rate is not known.
    """
    n_ticks = np.round((ends - starts) / TICK).astype("i8")
    paid = np.zeros((len(ends), len(assets)))
    missing = np.repeat(n_ticks[:, None], len(assets), axis=1)
    if funding is None:
        return paid, missing
    instants = funding["instant"].values
    first, last = (np.searchsorted(instants, edge, side="right") for edge in (starts, ends))
    known = {str(name): place for place, name in enumerate(funding["asset"].values)}
    for column, name in enumerate(assets):
        if name not in known:
            continue
        rate = funding.values[:, known[name]]
        has = np.isfinite(rate)
        total = np.append(0.0, np.cumsum(np.where(has, rate, 0.0)))
        count = np.append(0, np.cumsum(has))
        paid[:, column] = total[last] - total[first]
        missing[:, column] = np.maximum(n_ticks - (count[last] - count[first]), 0)
    return paid, missing
