"""Roll-ups of a cube variable too large to hold: read by runs of scenarios, summed by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xarray as xr
from scipy import sparse

from risk.errors import DataError
from risk.measures.samples import Floats

#: Size of one run of scenarios in memory, and how many are read at once.
_READ_BYTES, _THREADS = 1 << 25, 2
_FEW = 64


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
    offsets = np.cumsum([0, *(size for _, size in groups)])
    rows = np.concatenate(
        [of_cell + first for (of_cell, _), first in zip(groups, offsets, strict=False)]
    )
    columns = np.tile(np.arange(n_cells), len(groups))
    kept = np.concatenate([of_cell >= 0 for of_cell, _ in groups])
    # Each row of a sparse product is added up cell by cell in order: the same bytes every time.
    member = sparse.csr_array(
        (np.ones(kept.sum()), (rows[kept], columns[kept])), shape=(int(offsets[-1]), n_cells)
    )
    sums = np.empty((int(offsets[-1]), n))

    def add_up(part: slice) -> None:
        block = variable[part].values
        # A few scenarios at a time: what is transposed stays in the processor's cache.
        for start in range(0, len(block), _FEW):
            few = np.ascontiguousarray(block[start : start + _FEW].T, dtype="f8")
            sums[:, part.start + start : part.start + start + few.shape[1]] = member @ few

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(add_up, _runs(variable)))
    if not np.isfinite(sums).all():
        raise DataError(f"cube variable {variable.name!r} holds values that are not finite")
    return sums


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
