"""Implied volatility: its history, and how it moves with the price.

One index per asset (a 30-day implied volatility, such as DVOL). Its daily log change is regressed
on the day's log return and on how large the return was; the rest is a shock of its own. Method and
limits: ``docs/methods/options.md``.
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
from scipy import optimize, stats

from risk.errors import DataError

#: Beside the prices; optional.
FILE = "implied_volatility.parquet"

#: Fewest daily changes an index is calibrated on.
MIN_CHANGES = 60

#: A fraction per year above this is a percentage that was not divided by 100.
_LARGEST = 20.0


def load_implied(folder: Path | str, as_of: date) -> xr.DataArray | None:
    """Closes of the implied-volatility indices up to and including `as_of`.

    Parameters
    ----------
    folder : Path
        Where the history lies; ``implied_volatility.parquet`` in it has the columns ``ts`` (UTC
        day), ``asset`` and ``close`` (fraction per year).
    as_of : date

    Returns
    -------
    DataArray (day, asset) or None
        NaN on days without one; None where there is no file or nothing up to `as_of`.

    Raises
    ------
    DataError
        If the file is damaged, lacks a column, repeats a day, or a volatility is no fraction.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        return None
    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name} is not a readable Parquet file: {error}") from error
    if missing := [name for name in ("ts", "asset", "close") if name not in table.column_names]:
        raise DataError(f"{file.name}: missing column {', '.join(missing)}")
    if not pa.types.is_timestamp(table.schema.field("ts").type):
        raise DataError(f"{file.name}: column ts is no timestamp; make it one with UTC zone")
    close = table["close"].cast(pa.float64()).to_numpy()
    bad = ~((close > 0) & (close < _LARGEST))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{file.name} row {row}: close {close[row]:g} is no fraction per year between 0 and "
            f"{_LARGEST:g}; divide percentages by 100"
        )
    day = table["ts"].cast(pa.timestamp("ms", tz="UTC")).to_numpy().astype("M8[D]")
    named = pc.fill_null(table["asset"].cast(pa.string()), "").to_numpy(zero_copy_only=False)
    kept = day <= np.datetime64(as_of, "D")
    if not kept.any():
        return None
    day, named, close = day[kept], named[kept], close[kept]
    assets, column = np.unique(named, return_inverse=True)
    row = (day - day.min()).astype("i8")
    if len(set(zip(row.tolist(), column.tolist(), strict=True))) < len(row):
        raise DataError(f"{file.name}: an asset has two rows on one day; keep one of them")
    grid = np.full((int(row.max()) + 1, len(assets)), np.nan)
    grid[row, column] = close
    days = (day.min() + np.arange(len(grid))).astype("M8[ns]")
    return xr.DataArray(
        grid, dims=("day", "asset"), coords={"day": days, "asset": assets.astype(object)},
        attrs={"units": "1/year"},
    )  # fmt: skip


def calibrate_implied(
    history: xr.Dataset, implied: xr.DataArray | None, assets: Sequence[str], market: str
) -> xr.Dataset:
    """How implied volatilities move with the prices.

    Over t days in which the price moves by the log return x, the log of an index moves by ``slope x
    + curve (|x| - typical sqrt(t))`` and a random walk with Student-t days.

    Parameters
    ----------
    history : Dataset (day, asset)
        From `risk.market.history.load_history`.
    implied : DataArray (day, asset), optional
        From `load_implied`.
    assets : sequence of str
        The universe. An asset without an index, or with too short a one, takes the figures and the
        shocks of the index of `market`, or of the first index there is.
    market : str

    Returns
    -------
    Dataset (asset)
        `implied_slope`, `implied_curve` and their standard errors, `implied_typical` (mean absolute
        daily log return), `implied_residual` (daily standard deviation of the shocks),
        `implied_explained` (share of the variance of the changes), `implied_days`, `implied_level`
        (last close), `implied_source` (whose index); `implied_index` into the rows of
        `implied_factor` (index, index_2), the Cholesky factor of the shocks' correlation; the
        scalar `implied_df`. Without any index empty but for `implied_source`, all "": implied
        volatilities then stay where they are.
    """
    names = [str(name) for name in assets]
    fits = {} if implied is None else _fits(history, implied, names)
    if not fits:
        none = {"implied_source": ("asset", np.full(len(names), "", object))}
        return xr.Dataset(none, {"asset": np.array(names, object)})
    used = sorted(fits)
    leader = market if market in fits else used[0]
    source = [name if name in fits else leader for name in names]
    residuals = np.stack([fits[name]["residuals"] for name in used], axis=1)
    both = np.isfinite(residuals).all(axis=1)
    correlation = np.eye(len(used))
    if both.sum() >= MIN_CHANGES and len(used) > 1:
        correlation = np.corrcoef(residuals[both].T)
    # A hair towards independence, so that two equal indices still have a factor.
    correlation = 0.999 * correlation + 0.001 * np.eye(len(used))
    scaled = residuals / np.nanstd(residuals, axis=0)
    columns = {
        name: np.array([fits[one][name] for one in source])
        for name in ("slope", "curve", "slope_se", "curve_se", "typical", "residual", "explained",
                     "days", "level")
    }  # fmt: skip
    data: dict[str, tuple] = {
        f"implied_{name}": ("asset", values) for name, values in columns.items()
    }
    return xr.Dataset(
        data
        | {
            "implied_source": ("asset", np.array(source, object)),
            "implied_index": ("asset", np.array([used.index(name) for name in source], "i8")),
            "implied_factor": (("index", "index_2"), np.linalg.cholesky(correlation)),
            "implied_df": ((), _degrees_of_freedom(scaled[np.isfinite(scaled)])),
        },
        {"asset": np.array(names, object)},
    )


def implied_multiples(
    implied: xr.DataArray | None,
    calibration: xr.Dataset,
    starts: np.ndarray,
    ends: np.ndarray,
    last: np.ndarray,
) -> np.ndarray:
    """Multiples of the implied volatility that go with past windows.

    Where an asset's index has a close on the day before a window and on its last day, their
    quotient; else what the calibration expects of the price's own move, without a shock; one
    without any index.

    Parameters
    ----------
    implied : DataArray (day, asset), optional
        From `load_implied`.
    calibration : Dataset (asset)
        From `calibrate_implied`.
    starts, ends : ndarray of datetime64 (scenario,)
        First and last day of each window.
    last : ndarray (scenario, asset)
        Price ratios at its end.

    Returns
    -------
    ndarray (scenario, asset)
    """
    if implied is None or "implied_slope" not in calibration:
        return np.ones_like(last)
    days = ((ends - starts).astype("M8[D]") - np.datetime64(0, "D")).astype("f8") + 1
    move = np.log(np.maximum(last, 1e-12))
    slope, curve, typical = (
        calibration[f"implied_{name}"].values for name in ("slope", "curve", "typical")
    )
    expected = slope * move + curve * (np.abs(move) - typical * np.sqrt(days)[:, None])
    out = np.exp(expected)
    before = implied.reindex(day=(starts - np.timedelta64(1, "D")).astype("M8[ns]")).values
    after = implied.reindex(day=ends.astype("M8[ns]")).values
    known = {str(name): place for place, name in enumerate(implied.asset.values)}
    for column, name in enumerate(calibration["implied_source"].values):
        if str(calibration.asset.values[column]) != name or name not in known:
            continue  # somebody else's index says nothing about this asset's own move
        ratio = after[:, known[name]] / before[:, known[name]]
        out[:, column] = np.where(np.isfinite(ratio), ratio, out[:, column])
    return out


def _fits(history: xr.Dataset, implied: xr.DataArray, names: Sequence[str]) -> dict[str, dict]:
    """The regression of every index that has a price and enough days."""
    found = {}
    for name in (str(one) for one in implied.asset.values):
        if name not in names or name not in history.asset.values:
            continue
        index = np.log(implied.sel(asset=name).values)
        close = np.log(history["close"].sel(asset=name).reindex(day=implied.day).values)
        change, move = np.diff(index), np.diff(close)
        good = np.isfinite(change) & np.isfinite(move)
        if good.sum() < MIN_CHANGES or not np.std(change[good]) > 0:
            continue
        typical = float(np.abs(move[good]).mean())
        x = np.stack([move[good], np.abs(move[good]) - typical], axis=1)
        y = change[good]
        inverse = np.linalg.inv(x.T @ x)
        slope, curve = inverse @ (x.T @ y)
        rest = y - x @ np.array([slope, curve])
        variance = float(rest @ rest) / (len(y) - 2)
        residuals = np.full(len(change), np.nan)
        residuals[good] = rest
        errors = np.sqrt(variance * np.diag(inverse))
        found[name] = {
            "slope": slope,
            "curve": curve,
            "slope_se": errors[0],
            "curve_se": errors[1],
            "typical": typical,
            "residual": np.sqrt(variance),
            "explained": 1.0 - variance / float(np.var(y)),
            "days": int(good.sum()),
            "level": float(np.exp(index[np.isfinite(index)][-1])),
            "residuals": residuals,
        }
    return found


def _degrees_of_freedom(scaled: np.ndarray) -> float:
    """Maximum-likelihood degrees of freedom of a Student-t of unit variance, from 2.5 to 60."""

    def cost(log_df: float) -> float:
        df = np.exp(log_df)
        stretch = np.sqrt(df / (df - 2))
        return -float(np.sum(stats.t.logpdf(scaled * stretch, df) + np.log(stretch)))

    bounds = (np.log(2.5), np.log(60.0))
    return float(np.exp(optimize.minimize_scalar(cost, bounds=bounds, method="bounded").x))
