"""How much of a day's excursion lands in one bar: the gap rule, measured on the finest bars.

Daily bars show no jumps. Where bars of minutes or hours exist, the worst single bar of a wild day
says how much of its fall (or rise) could have come before anybody was closed.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.errors import ConfigError
from risk.market.history import BARS, PRICE_KINDS, read_bars

#: Days are looked at when their excursion is at least this fraction of the price before.
WILD = 0.1


def has_fine_bars(path: Path | str) -> bool:
    """Whether a history holds bars finer than a day: only the column that says so is read.

    A file that cannot be read has none; whoever loads it says what is wrong with it.
    """
    path = Path(path)
    file = path / "prices.parquet" if path.is_dir() else path
    try:
        if "interval" not in pq.read_schema(file).names:
            return False
        found = pc.unique(pq.read_table(file, columns=["interval"], partitioning=None)["interval"])
    except (pa.ArrowException, OSError):
        return False
    return any(name in BARS and name != "1d" for name in found.cast(pa.string()).to_pylist())


def gap_shares(path: Path | str, as_of: date, *, wild: float = WILD) -> xr.Dataset:
    """The worst bar of every wild day over the day's excursion, on the finest bars there are.

    Per asset and day the finest complete set of bars counts, marks before last trades. Both sides
    are measured against the close before the day, which the bars must hold too.

    Parameters
    ----------
    path : Path
        As for `risk.market.history.load_history`.
    as_of : date
        Last UTC day read.
    wild : float
        Least excursion of a day that is looked at.

    Returns
    -------
    Dataset (episode)
        `asset`, `day`, `side` (-1 a fall, +1 a rise), `interval`, `price_kind`, `excursion`
        (fraction of the close before), `worst_bar` (how far one bar goes beyond the day's extreme
        before it, same unit) and `share`, the ratio of the two. No episode where no day is wild
        or no bar is finer than a day.
    """
    table, _ = read_bars(path)
    days = table["ts"].to_numpy().astype("M8[D]")
    fine = pc.not_equal(table["interval"], "1d")
    table = table.filter(pc.and_(pa.array(days <= np.datetime64(as_of, "D")), fine))
    rows: list[tuple] = []
    for name in pc.unique(table["asset"]).to_pylist():
        rows += _episodes(name, table.filter(pc.equal(table["asset"], name)), wild)
    rows.sort(key=lambda row: (row[1], row[0], row[2]))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    asset, day, side, interval, kind, excursion, worst = (np.array(column) for column in columns)
    excursion, worst = excursion.astype("f8"), worst.astype("f8")
    with np.errstate(divide="ignore", invalid="ignore"):
        share = worst / excursion
    return xr.Dataset(
        {
            "asset": ("episode", asset.astype(object)),
            "day": ("episode", day.astype("M8[ns]")),
            "side": ("episode", side.astype("i1")),
            "interval": ("episode", interval.astype(object)),
            "price_kind": ("episode", kind.astype(object)),
            "excursion": ("episode", excursion, {"units": "1"}),
            "worst_bar": ("episode", worst, {"units": "1"}),
            "share": ("episode", share, {"units": "1"}),
        }
    )


def calibrated_gap(shares: xr.Dataset | None) -> float:
    """The gap rule the episodes call for: their largest share, rounded up to a hundredth.

    None is a history without bars finer than a day.

    Only bars of five minutes count: within an hour positions are closed on the way, so the share of
    an hourly bar is an upper bound and no jump. The largest share, because a mean over quieter days
    says nothing about the one that matters; rounded, because a third digit of a handful of days is
    noise.

    Raises
    ------
    ConfigError
        If there is no episode of five-minute bars.

    Examples
    --------
    >>> shares = xr.Dataset({
    ...     "share": ("episode", [0.2, 0.231, 0.7]), "interval": ("episode", ["5m", "5m", "1h"])})
    >>> calibrated_gap(shares)
    0.24
    """
    usable = np.empty(0)
    if shares is not None:
        usable = shares["share"].values[shares["interval"].values == "5m"]
    if not len(usable):
        raise ConfigError(
            f"gap: calibrated needs five-minute bars of a day that moved by {WILD:.0%}; "
            "add some to the history, or give a number"
        )
    return float(min(np.ceil(round(100 * float(usable.max()), 9)) / 100, 1.0))


def _episodes(name: str, table: pa.Table, wild: float) -> list[tuple]:
    """Wild days of one asset: (asset, day, side, interval, price kind, excursion, worst bar)."""
    found: dict[np.datetime64, list[tuple]] = {}
    # Least trusted first, so that better bars replace them.
    for interval in sorted(set(BARS) - {"1d"}, key=lambda one: BARS[one], reverse=True):
        for kind in reversed(PRICE_KINDS):
            mine = pc.and_(
                pc.equal(table["interval"], interval), pc.equal(table["price_kind"], kind)
            )
            part = table.filter(mine).sort_by("ts")
            if part.num_rows:
                found |= _complete_days(name, part, interval, kind, wild)
    return [row for rows in found.values() for row in rows]


def _complete_days(
    name: str, part: pa.Table, interval: str, kind: str, wild: float
) -> dict[np.datetime64, list[tuple]]:
    """Episodes of every day that has all its bars and the one before it."""
    stamp = part["ts"].to_numpy()
    low, high, close = (part[column].to_numpy() for column in ("low", "high", "close"))
    step = BARS[interval]
    n = int(np.timedelta64(1, "D") // step)
    midnight = np.flatnonzero(stamp == stamp.astype("M8[D]").astype(stamp.dtype))
    found = {}
    for first in midnight:
        last = first + n - 1
        if first == 0 or last >= len(stamp):
            continue
        if stamp[last] - stamp[first - 1] != n * step:
            continue  # a hole inside the day, or before it
        reference = close[first - 1]
        episodes = []
        for side, extreme, reach in (
            (-1, low[first : last + 1], np.minimum),
            (1, high[first : last + 1], np.maximum),
        ):
            excursion = side * (reach.reduce(extreme) / reference - 1)
            if excursion >= wild:
                # A bar counts as far as it goes beyond all before it: that is what a gap skips.
                so_far = reach.accumulate(np.concatenate([[reference], extreme[:-1]]))
                worst = np.max(side * (extreme - so_far)) / reference
                day = stamp[first].astype("M8[D]")
                episodes.append((name, day, side, interval, kind, excursion, worst))
        found[stamp[first].astype("M8[D]")] = episodes
    return found
