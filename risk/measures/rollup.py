"""Roll-ups of a cube variable too large to hold: read by runs of scenarios, summed by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xarray as xr
from scipy import sparse

from risk.errors import DataError
from risk.measures.samples import Floats

#: Size of one run of scenarios in memory, and how many are read at once.
_READ_BYTES, _THREADS = 1 << 25, 2
_FEW = 64

#: Cells from which on a few scenarios transposed no longer fit the cache.
_WIDE = 1 << 14

_Groups = Sequence[tuple[np.ndarray, int]]
_AddBlock = Callable[[Floats, Floats], None]


def group_sums(variable: xr.DataArray, groups: Sequence[tuple[np.ndarray, int]]) -> Floats:
    """Sums over the cells of each group, read by runs of scenarios.

    Parameters
    ----------
    variable : DataArray (scenario, cell)
        Any variable of a cube, lazily opened or not.
    groups : sequence of (ndarray (cell,), int)
        Per level the group number of each cell (-1 for none) and the number of groups.

    Returns
    -------
    ndarray (group, scenario)
        The levels' groups below each other, in the unit of the variable.

    Raises
    ------
    DataError
        If a value is not finite.
    """
    variable = variable.transpose("scenario", "cell")
    n, n_cells = variable.shape
    sums = np.empty((sum(size for _, size in groups), n))
    # Both add up cell by cell in order, and so to the same bytes; which is faster is the cache's.
    add_block = _by_scenario(groups) if n_cells > _WIDE else _by_product(groups, n_cells)

    def add_up(part: slice) -> None:
        add_block(np.asarray(variable[part].values, "f8"), sums[:, part])

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(add_up, _runs(variable)))
    if not np.isfinite(sums).all():
        raise DataError(f"cube variable {variable.name!r} holds values that are not finite")
    return sums


def _by_product(groups: _Groups, n_cells: int) -> _AddBlock:
    """One sparse product for all levels and a few scenarios."""
    offsets = np.cumsum([0, *(size for _, size in groups)])
    rows = np.concatenate(
        [of_cell + first for (of_cell, _), first in zip(groups, offsets, strict=False)]
    )
    columns = np.tile(np.arange(n_cells), len(groups))
    kept = np.concatenate([of_cell >= 0 for of_cell, _ in groups])
    member = sparse.csr_array(
        (np.ones(kept.sum()), (rows[kept], columns[kept])), shape=(int(offsets[-1]), n_cells)
    )

    def add_block(block: Floats, sums: Floats) -> None:
        # A few scenarios at a time: what is transposed stays in the processor's cache.
        for start in range(0, len(block), _FEW):
            few = np.ascontiguousarray(block[start : start + _FEW].T)
            sums[:, start : start + few.shape[1]] = member @ few

    return add_block


def _by_scenario(groups: _Groups) -> _AddBlock:
    """Level by level, one scenario after the other: nothing is transposed."""
    # One bin more, for the cells of no group.
    levels = [(np.where(of_cell >= 0, of_cell, size), size) for of_cell, size in groups]

    def add_block(block: Floats, sums: Floats) -> None:
        for at, vector in enumerate(block):
            first = 0
            for code, size in levels:
                found = np.bincount(code, vector, size + 1)
                sums[first : first + size, at] = found[:size]
                first += size

    return add_block


def _runs(variable: xr.DataArray) -> Iterator[slice]:
    """Runs of scenarios of a few tens of megabytes, cut where the stored chunks are."""
    n, n_cells = variable.shape
    stored = variable.encoding.get("chunks") or variable.encoding.get("preferred_chunks") or n
    if isinstance(stored, Mapping):
        stored = stored.get("scenario", n)
    chunk = min(int(stored[0] if isinstance(stored, tuple) else stored), n) or 1
    few = max(_READ_BYTES // (8 * max(n_cells, 1)), 1)
    step = max(few // chunk, 1) * chunk if chunk < n else min(few, n)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
