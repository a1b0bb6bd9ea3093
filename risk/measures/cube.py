"""Measures of a P&L cube by roll-up level: sum first, measure after.

The cube is read by runs of scenarios and added up into groups, never loaded whole: what is held
is one variable's group sums (group, scenario) for a bounded batch of groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from risk.errors import DataError
from risk.measures.contribution import tail_shares
from risk.measures.dependence import Design, Independent
from risk.measures.intervals import (
    dependent_ends,
    expected_shortfall_ends,
    value_at_risk_ends,
)
from risk.measures.rollup import group_sums
from risk.measures.samples import Floats, check_confidence, check_losses, check_weights
from risk.measures.tail import tail_of
from risk.schema import CUBE, LABELS

#: The one node that is always there, and the name of its only group.
TOTAL, ALL = "total", "all"
#: Least probability that a printed interval holds the true value.
COVERAGE = 0.95
#: Level of the deficit that default resources are sized with, and of the count's high quantile.
EXTREME, HIGH_COUNT = 0.999, 0.99

#: Is shown a scenario set's name, a variable's and its sum over all cells.
Keep = Callable[[str, str, Floats], None]

#: Memory set aside for one variable's group sums.
_BATCH_BYTES = 1 << 28

_ESTIMATORS = {
    "value_at_risk": "empirical quantile, rank ceil(n c)",
    "expected_shortfall": "coherent fractional tail mean",
}
_INTERVALS = {
    "value_at_risk": f"order statistics, {COVERAGE:.0%}",
    "expected_shortfall": f"asymptotic, log-scale upper end, {COVERAGE:.0%}",
}
_ENDS = {"value_at_risk": value_at_risk_ends, "expected_shortfall": expected_shortfall_ends}


@dataclass(frozen=True)
class _Groups:
    """One roll-up level: its group names and the group of each cell."""

    level: str
    names: list[str]
    of_cell: np.ndarray


def measure_cube(
    cube: xr.DataTree,
    *,
    confidences: Sequence[float],
    levels: Sequence[str],
    sets: Sequence[str] | None = None,
    designs: Mapping[str, Design] | None = None,
    keep: Keep | None = None,
) -> xr.DataTree:
    """Measure every group of every roll-up level of a cube.

    Parameters
    ----------
    cube : DataTree
        One group per scenario set with the variables of `risk.schema.CUBE` on (scenario, cell);
        `cell` carries the labels, `scenario` may carry `weight`. Lazily opened arrays are read
        by runs of scenarios.
    confidences : sequence of float
        Levels in (0, 1).
    levels : sequence of str
        Labels to roll up by, such as ``["venue", "asset"]``; the total is always measured.
    sets : sequence of str, optional
        Scenario sets to measure, in this order; all when absent.
    designs : mapping of str to Design, optional
        How the scenarios of a set depend on each other (`risk.measures.dependence`); those of a
        set that is not named are independent.
    keep : callable (scenario set, variable, total (scenario,)), optional
        Shown the sum over all cells of everything that is read.

    Returns
    -------
    DataTree
        Node ``/total`` and one per level, on (scenario_set, confidence, group), USD unless the
        attrs say otherwise: `value_at_risk` and `expected_shortfall` (each with `_low` and
        `_high`, NaN for none), `expected_shortfall_contribution` (adds up over the groups to the
        total's), `deficit_expected_shortfall`; and on (scenario_set, group):
        `deficit_expected_shortfall_999`, `liquidations_p99`, `n_scenarios` and the means
        `pnl_mean`, `venue_gain_mean`, `deficit_mean`, `market_cost_mean`, `liquidations_mean`,
        `stops_mean`, `liquidated_notional_mean`, with `liquidated_notional_p99`. A variable
        the cube lacks is absent. Intervals are NaN where the sample is too small and for designed
        stresses, which are no sample; their attrs name the method of every set.

    Raises
    ------
    DataError
        If a set, a label or `pnl` is missing, or a value is not finite.
    ValueError
        If a level is outside (0, 1) or is no roll-up label.

    Examples
    --------
    >>> pnl = xr.DataArray([[-6.0, -4.0], [-3.0, 1.0], [0.0, 1.0], [5.0, 0.0]],
    ...                    dims=("scenario", "cell"), coords={"venue": ("cell", ["a", "b"])})
    >>> cube = xr.DataTree.from_dict({"historical": xr.Dataset({"pnl": pnl})})
    >>> measures = measure_cube(cube, confidences=[0.5], levels=["venue"])
    >>> measures["total"].expected_shortfall.item()
    6.0
    >>> measures["venue"].expected_shortfall_contribution.sel(group="a").item()
    4.5
    """
    confidences = [check_confidence(level) for level in confidences]
    unknown = [level for level in levels if level not in LABELS]
    if unknown:
        raise ValueError(f"no roll-up label {unknown[0]!r}; there are {', '.join(LABELS)}")
    sets = list(cube.children) if sets is None else list(sets)
    absent = [name for name in sets if name not in cube.children]
    if absent or not sets:
        raise DataError(
            f"the cube has no scenario set {', '.join(map(repr, absent)) or 'at all'}; "
            f"it has {', '.join(cube.children) or 'none'}"
        )
    parts: dict[str, list[xr.Dataset]] = {level: [] for level in (TOTAL, *levels)}
    for name in sets:
        design = (designs or {}).get(name, Independent())
        measured = _measure_set(cube[name].dataset, name, confidences, levels, design, keep)
        for level, dataset in measured.items():
            parts[level].append(dataset)
    return xr.DataTree.from_dict({level: _joined(found) for level, found in parts.items()})


def _joined(parts: list[xr.Dataset]) -> xr.Dataset:
    """The sets of one level, with the method of each set's interval in the attrs."""
    methods = [
        f"{name.replace('_', ' ')}: {part.attrs.pop('method')}"
        for part in parts
        for name in part["scenario_set"].values
    ]
    whole = xr.concat(parts, "scenario_set", join="outer")
    for base, text in _INTERVALS.items():
        for end in ("_low", "_high"):
            whole[base + end].attrs["interval"] = f"{text}; {'; '.join(methods)}"
    return whole


def _measure_set(
    cube: xr.Dataset,
    name: str,
    confidences: list[float],
    levels: Sequence[str],
    design: Design,
    keep: Keep | None,
) -> dict[str, xr.Dataset]:
    if "pnl" not in cube:
        raise DataError(f"the cube's scenario set {name!r} has no variable 'pnl'")
    n = cube.sizes["scenario"]
    weights = _weights(cube, n)
    sampled = None if name.startswith("stress") else design
    found: dict[str, dict[str, list[Any]]] = {}
    groups = [_groups(cube, level, name) for level in (TOTAL, *levels)]
    shares = None
    for variable in (key for key in CUBE if key in cube):
        for batch in _batches(groups, n):
            sums = group_sums(cube[variable], [(part.of_cell, len(part.names)) for part in batch])
            # The total is the first group of the first batch.
            if keep is not None and batch[0].level == TOTAL:
                keep(name, variable, sums[0].copy())
            if variable == "pnl":
                if shares is None:
                    losses = check_losses(sums[0])
                    shares = [tail_shares(losses, level, weights) for level in confidences]
                columns = _pnl_measures(sums, confidences, weights, shares, sampled)
            else:
                columns = _amount_measures(variable, sums, confidences, weights)
            first = 0
            for part in batch:
                rows = slice(first, first + len(part.names))
                first = rows.stop
                for key, values in columns.items():
                    found.setdefault(part.level, {}).setdefault(key, []).append(values[rows])
    # A level without groups (an empty book) keeps the variables of the total, without a value.
    none = {key: [pieces[0][:0]] for key, pieces in found[TOTAL].items()}
    method = "none, no sample" if sampled is None else sampled.method
    if weights is not None:
        method += ", weighted"
    return {
        part.level: _dataset(
            found.get(part.level, none), part.names, name, confidences, n
        ).assign_attrs(method=method)
        for part in groups
    }


def _weights(cube: xr.Dataset, n: int) -> Floats | None:
    """The scenarios' probabilities, or None if they are equally likely."""
    if n == 0:
        raise DataError("a scenario set without scenarios cannot be measured")
    if "weight" not in cube.coords:
        return None
    weights = check_weights(cube["weight"].values, n)
    return None if np.ptp(weights) <= 1e-9 / n else weights


def _groups(cube: xr.Dataset, level: str, name: str) -> _Groups:
    n_cells = cube.sizes["cell"]
    if level == TOTAL:
        return _Groups(level, [ALL], np.zeros(n_cells, int))
    if level not in cube.coords:
        raise DataError(f"the cells of scenario set {name!r} carry no label {level!r}")
    # By way of a list: labels come as objects, as fixed or as variable-length strings.
    labels = np.array(cube[level].values.tolist(), str)
    names, of_cell = np.unique(labels, return_inverse=True)
    return _Groups(level, names.tolist(), of_cell)


def _batches(groups: list[_Groups], n: int) -> Iterator[list[_Groups]]:
    """Split the groups so that one batch's sums stay within the memory set aside."""
    room = max(_BATCH_BYTES // (8 * n), 1)
    batch: list[_Groups] = []
    free = room
    for part in groups:
        for first in range(0, len(part.names), room):
            names = part.names[first : first + room]
            inside = (part.of_cell >= first) & (part.of_cell < first + len(names))
            piece = _Groups(part.level, names, np.where(inside, part.of_cell - first, -1))
            if len(names) > free:
                yield batch
                batch, free = [], room
            batch.append(piece)
            free -= len(names)
    yield batch


def _pnl_measures(
    sums: Floats,
    confidences: list[float],
    weights: Floats | None,
    shares: list[Floats],
    design: Design | None,
) -> dict[str, Floats]:
    shape = (len(sums), len(confidences))
    columns = {key + end: np.full(shape, np.nan) for key in _ENDS for end in ("", "_low", "_high")}
    columns["expected_shortfall_contribution"] = np.empty(shape)
    columns["pnl_mean"] = _mean(sums, weights)
    tails = [np.flatnonzero(share) for share in shares]
    is_unordered = design is None or isinstance(design, Independent)
    is_simple = weights is None and is_unordered
    for row, pnl in enumerate(sums):
        losses, chance = 0.0 - pnl, weights
        if is_simple:
            losses.sort()
        elif weights is not None and is_unordered:
            # Sorted once: what every level sorts again is then in order.
            order = np.argsort(losses, kind="stable")
            losses, chance = losses[order], weights[order]
        for column, level in enumerate(confidences):
            at = row, column
            measured = tail_of(losses, level, chance)
            columns["value_at_risk"][at], columns["expected_shortfall"][at] = measured
            if design is not None:
                found = (
                    [ends(losses, level, COVERAGE) for ends in _ENDS.values()]
                    if is_simple
                    else dependent_ends(losses, level, COVERAGE, chance, design)
                )
                for key, (low, high) in zip(_ENDS, found, strict=True):
                    columns[f"{key}_low"][at], columns[f"{key}_high"][at] = low, high
            tail = tails[column]
            columns["expected_shortfall_contribution"][at] = (
                0.0 - (pnl[tail] * shares[column][tail]).sum()
            )
    return columns


def _amount_measures(
    variable: str, sums: Floats, confidences: list[float], weights: Floats | None
) -> dict[str, Floats]:
    columns = {f"{variable}_mean": _mean(sums, weights)}
    if variable in ("liquidations", "liquidated_notional"):
        columns[f"{variable}_p99"] = np.asarray(tail_of(sums, HIGH_COUNT, weights)[0])
    if variable == "deficit":
        if is_sorted := weights is None:
            # Once for all levels. Most deficits are zero, and to select among equal values takes
            # NumPy seven times as long as to sort them all.
            sums.sort(axis=1)
        measured = [
            tail_of(sums, level, weights, is_sorted=is_sorted)[1]
            for level in (*confidences, EXTREME)
        ]
        columns["deficit_expected_shortfall"] = np.stack(measured[:-1], axis=1)
        columns["deficit_expected_shortfall_999"] = np.asarray(measured[-1])
    return columns


def _mean(sums: Floats, weights: Floats | None) -> Floats:
    return sums.mean(axis=1) if weights is None else (sums * weights).sum(axis=1)


def _dataset(
    found: dict[str, list[Any]], names: list[str], name: str, confidences: list[float], n: int
) -> xr.Dataset:
    measured: dict[str, Any] = {}
    for key, pieces in found.items():
        values = np.concatenate(pieces)
        if values.ndim == 2:
            dims: tuple[str, ...] = ("scenario_set", "confidence", "group")
            values = values.T
        else:
            dims = ("scenario_set", "group")
        measured[key] = (dims, values[None], _attrs(key))
    counts = np.full((1, len(names)), n)
    measured["n_scenarios"] = (("scenario_set", "group"), counts, _attrs("n_scenarios"))
    return xr.Dataset(
        measured,
        coords={
            # As objects: Zarr has no stable type for strings of fixed length.
            "scenario_set": np.array([name], object),
            "confidence": confidences,
            "group": np.array(names, object),
        },
        attrs={"coverage": COVERAGE},
    )


def _attrs(key: str) -> dict[str, str]:
    counts = ("liquidations", "stops", "n_scenarios")
    attrs = {"units": "1" if key.startswith(counts) else "USD"}
    for base, estimator in _ESTIMATORS.items():
        if key in (base, f"{base}_contribution") or key == f"deficit_{base}":
            attrs["estimator"] = estimator
    if key.endswith("_p99"):
        attrs["estimator"] = "empirical quantile at 0.99, rank ceil(n c)"
    if key.endswith("_999"):
        attrs["estimator"] = "coherent fractional tail mean at 0.999"
    return attrs
