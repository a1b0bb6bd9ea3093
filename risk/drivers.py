"""The driver record: what a scenario does to each asset, as the ladders need it.

Per (scenario, asset) the lowest, highest and last price ratio to the mark, and the list of gaps:
jumps that set a new extreme. Diffusion closes a position at its trigger; a gap skips the trigger
and closes at the landing. Low, high and last alone would report a deficit of zero.

A record may say more, for options: `volatility` on (scenario, asset), the multiple of today's
30-day implied volatility, with ``attrs["elapsed_days"]``, the time gone by at `last`; or, where
paths are known, `path` and `log_volatility` on (path_asset, step, scenario) with `step_days`.

`peg` on (scenario, settle) is what a unit of a currency is worth at the horizon, in US dollars; 1
where it is not there. Behind the assets there may be instruments, see `risk.instruments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from risk.errors import DataError
from risk.schema import DRIVERS, GAPS

FALL, RISE = -1, 1

#: What a record may hold beside the variables every record has.
VOLATILITY, ELAPSED = "volatility", "elapsed_days"
PEG = "peg"


def make_drivers(
    low: np.ndarray,
    high: np.ndarray,
    last: np.ndarray,
    *,
    assets: Sequence[str],
    label: Sequence[str],
    source: Sequence[str],
    weight: np.ndarray | None = None,
    gaps: dict[str, np.ndarray] | None = None,
) -> xr.Dataset:
    """Assemble and check a driver record.

    Parameters
    ----------
    low, high, last : ndarray (scenario, asset)
        Price ratios to the mark: ``0 <= low <= min(1, last)``, ``high >= max(1, last)``.
    assets : sequence of str (asset,)
    label, source : sequence of str (scenario,)
        Name of each scenario and where it comes from.
    weight : ndarray (scenario,), optional
        Probabilities that add up to one; equal when absent.
    gaps : dict of ndarray (gap,), optional
        The columns of `risk.schema.GAPS`, in path order within (scenario, asset, direction).

    Returns
    -------
    Dataset
        `low`, `high`, `last` on (scenario, asset) and the gap columns on (gap,).

    Raises
    ------
    DataError
        If a ratio is out of order or a gap does not set a new extreme.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.array([[1.0]])
    >>> record = make_drivers(one * 0.6, one, one * 0.7, assets=["BTC"], label=["crash"],
    ...                       source=["by hand"], gaps=fall_gaps(one * 0.6, one * 0.8))
    >>> record.gap_before.item(), record.gap_landing.item()
    (0.8, 0.6)
    """
    n = len(low)
    columns = gaps or {name: np.empty(0) for name in GAPS}
    order = np.lexsort((columns["gap_direction"], columns["gap_asset"], columns["gap_scenario"]))
    data = {
        name: (("scenario", "asset"), np.asarray(array, variable.dtype), {"units": variable.units})
        for (name, variable), array in zip(DRIVERS.items(), (low, high, last), strict=True)
    } | {
        name: ("gap", np.asarray(columns[name][order], variable.dtype), {"units": variable.units})
        for name, variable in GAPS.items()
    }
    weights = np.full(n, 1.0 / n) if weight is None else np.asarray(weight, "f8")
    drivers = xr.Dataset(
        data,
        coords={
            "asset": np.asarray(assets, object),
            "label": ("scenario", np.asarray(label, object)),
            "source": ("scenario", np.asarray(source, object)),
            "weight": ("scenario", weights, {"units": "1"}),
        },
    )
    check_drivers(drivers)
    return drivers


def with_volatility(drivers: xr.Dataset, multiple: np.ndarray, elapsed_days: float) -> xr.Dataset:
    """Add implied volatilities to a record that holds no paths.

    Parameters
    ----------
    drivers : Dataset
    multiple : ndarray (scenario, asset)
        Of today's 30-day implied volatility; not negative.
    elapsed_days : float
        Time gone by at `last`; an option loses no time value before.

    Raises
    ------
    DataError
        If a multiple is negative or no number.
    """
    if not (np.isfinite(multiple) & (multiple >= 0)).all():
        raise DataError("a multiple of the implied volatility is negative or no number")
    variable = xr.Variable(("scenario", "asset"), np.asarray(multiple, "f8"), {"units": "1"})
    return drivers.assign({VOLATILITY: variable}).assign_attrs({ELAPSED: float(elapsed_days)})


def fall_gaps(landing: np.ndarray, before: np.ndarray) -> dict[str, np.ndarray]:
    """One fall wherever `landing` lies below `before`, both on (scenario, asset)."""
    return _single_gaps(landing, before, FALL)


def rise_gaps(landing: np.ndarray, before: np.ndarray) -> dict[str, np.ndarray]:
    """One rise wherever `landing` lies above `before`, both on (scenario, asset)."""
    return _single_gaps(landing, before, RISE)


def _single_gaps(landing: np.ndarray, before: np.ndarray, direction: int) -> dict[str, np.ndarray]:
    scenario, asset = np.nonzero((landing - before) * direction > 0)
    return {
        "gap_scenario": scenario.astype("i4"),
        "gap_asset": asset.astype("i4"),
        "gap_direction": np.full(len(scenario), direction, "i1"),
        "gap_before": before[scenario, asset],
        "gap_landing": landing[scenario, asset],
    }


def join_gaps(*parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Concatenate gap columns; `make_drivers` sorts them, keeping path order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in GAPS}


def slice_drivers(drivers: xr.Dataset, start: int, stop: int) -> xr.Dataset:
    """Scenarios `start` to `stop` (excluded), their gaps renumbered from zero."""
    first, end = np.searchsorted(drivers.gap_scenario.values, [start, stop])
    part = drivers.isel(scenario=slice(start, stop), gap=slice(int(first), int(end)))
    return part.assign(gap_scenario=part.gap_scenario - np.int32(start))


def take_drivers(drivers: xr.Dataset, index: np.ndarray) -> xr.Dataset:
    """The scenarios at `index` (ascending), their gaps renumbered by their place in it."""
    place = np.searchsorted(index, drivers.gap_scenario.values)
    kept = np.isin(drivers.gap_scenario.values, index)
    part = drivers.isel(scenario=index, gap=np.flatnonzero(kept))
    return part.assign(gap_scenario=("gap", place[kept].astype("i4"), {"units": "1"}))


def check_drivers(drivers: xr.Dataset) -> None:
    """Raise `DataError` unless every ratio is ordered and every gap sets a new extreme."""
    low, high, last = (drivers[name].values for name in DRIVERS)
    bad = ~((low >= 0) & (low <= 1) & (high >= 1) & (low <= last) & (last <= high))
    bad |= ~np.isfinite(high)
    if bad.any():
        scenario, asset = np.argwhere(bad)[0]
        raise DataError(
            f"scenario {drivers.label.values[scenario]!r}, asset {drivers.asset.values[asset]}: "
            f"low {low[scenario, asset]:g}, last {last[scenario, asset]:g}, high "
            f"{high[scenario, asset]:g} break 0 <= low <= 1, last <= high and high >= 1"
        )
    before, landing = drivers.gap_before.values, drivers.gap_landing.values
    step = (landing - before) * drivers.gap_direction.values
    at = (drivers.gap_scenario.values, drivers.gap_asset.values)
    if not ((step > 0) & (landing >= low[at]) & (landing <= high[at])).all():
        raise DataError("a gap does not set a new extreme inside its path's low and high")


#: States of the instruments in a bar; before and landing of every fall and every rise come next.
AT_LOW, AT_HIGH, AT_LAST, AT_GAPS = range(4)

#: Beyond any price: what is settled on the way has no bound that holds for the whole of it.
UNBOUNDED = 1e30


class JointPaths(NamedTuple):
    """How all assets move together in some scenarios, frame by frame: price ratios to the mark.

    A frame has an extreme on either side and an end. Inside it, jumps on the way to an extreme are
    listed in path order; jumps after it land at once in every asset they move.

    Instruments (`risk.instruments`) stand beside the assets: where its asset is at ratio x, one has
    the mark g x, has paid F by unit if linear, and G in coin if inverse. A path has states of the
    three numbers that hold for some frames and change at the end of a frame, after its jumps, at
    once; a bar has one for each of its points.
    """

    low: np.ndarray  # (scenario, frame, asset)
    high: np.ndarray
    last: np.ndarray
    falls: np.ndarray  # (before or landing, jump, scenario, frame, asset)
    rises: np.ndarray
    frame_start: np.ndarray  # (scenario * frame + 1,) into the jumps after a frame
    jump_start: np.ndarray  # (jump + 1,) into the two below
    jump_asset: np.ndarray  # ascending within a jump
    jump_to: np.ndarray
    ride: np.ndarray = np.empty((1, 0, 0, 3))  # (state, scenario, instrument, g or F or G)
    # (scenario, instrument, column): largest abs(g - 1), abs(F), abs(G), and the least g.
    ride_most: np.ndarray = np.empty((0, 0, 4))
    # (frame + 1,): state of each frame and after the last; of a bar nothing.
    ride_state: np.ndarray = np.empty(0, "i8")
    ride_end: np.ndarray = np.empty(0, "i8")  # (instrument,): settled at the end of which frame


def most_ridden(ride: np.ndarray) -> np.ndarray:
    """`JointPaths.ride_most` of `JointPaths.ride`."""
    factor, paid, owed = np.moveaxis(ride, 3, 0)
    far = [np.abs(part).max(axis=0) for part in (factor - 1.0, paid, owed)]
    return np.stack([*far, factor.min(axis=0)], axis=2)


def joint_bars(drivers: xr.Dataset) -> JointPaths:
    """A driver record as joint paths of one frame: what bars say, and no more.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.array([[1.0]])
    >>> record = make_drivers(one * 0.6, one, one * 0.7, assets=["BTC"], label=["crash"],
    ...                       source=["by hand"], gaps=fall_gaps(one * 0.6, one * 0.8))
    >>> joint_bars(record).falls[:, 0, 0, 0, 0].tolist()
    [0.8, 0.6]
    """
    low, high, last = (np.ascontiguousarray(drivers[name].values[:, None, :]) for name in DRIVERS)
    none = np.zeros(1, "i8")
    return JointPaths(
        low,
        high,
        last,
        _gap_points(drivers, FALL, low),
        _gap_points(drivers, RISE, high),
        np.zeros(len(low) + 1, "i8"),
        none,
        none[:0],
        np.empty(0),
    )


def _gap_points(drivers: xr.Dataset, direction: int, extreme: np.ndarray) -> np.ndarray:
    """Where each asset's gaps of one direction begin and land; fewer gaps than others come last."""
    mine = np.flatnonzero(drivers.gap_direction.values == direction)
    scenario, asset = drivers.gap_scenario.values[mine], drivers.gap_asset.values[mine]
    key = scenario.astype("i8") * extreme.shape[2] + asset
    start = np.searchsorted(key, key)  # the gaps are sorted by scenario and asset
    count = np.searchsorted(key, key, side="right") - start
    most = int(count.max(initial=0))
    # An asset without a gap at its place waits there for the others.
    points = np.repeat(extreme[None, None], 2 * most, axis=0).reshape(2, most, *extreme.shape)
    place = most - count + np.arange(len(key)) - start
    before, landing = (drivers[name].values[mine] for name in ("gap_before", "gap_landing"))
    points[0, place, scenario, 0, asset] = before
    points[1, place, scenario, 0, asset] = landing
    for gap in range(most):
        waits = np.flatnonzero((count < most - gap) & (place == most - count))
        points[:, gap, scenario[waits], 0, asset[waits]] = before[waits]
    return points


def scale_moves(drivers: xr.Dataset, multiple: np.ndarray) -> xr.Dataset:
    """The same scenarios in another volatility: every log move times a number per asset.

    Parameters
    ----------
    drivers : Dataset
        A driver record.
    multiple : ndarray (asset,)
        Above zero.

    Returns
    -------
    Dataset
        Extremes, ends and gaps keep their order, so it is a driver record again.

    Examples
    --------
    >>> import numpy as np
    >>> fall = make_drivers(np.array([[0.5]]), np.array([[1.0]]), np.array([[0.5]]),
    ...     assets=["BTC"], label=["fall"], source=["by hand"])
    >>> scale_moves(fall, np.array([2.0]))["low"].values
    array([[0.25]])
    """
    multiple = np.asarray(multiple, "f8")
    if not (multiple > 0).all():
        raise DataError("moves are scaled by numbers above zero")
    power = multiple[drivers["gap_asset"].values]
    moves = {name: drivers[name].copy(data=drivers[name].values ** multiple) for name in DRIVERS}
    jumps = {
        name: drivers[name].copy(data=drivers[name].values ** power)
        for name in ("gap_before", "gap_landing")
    }
    return drivers.assign(moves | jumps)
