"""The cube and its drivers on disk: created empty, filled block by block, opened lazily.

One Zarr group per scenario set. A worker writes whole chunks, one per block and variable, and
nobody else touches them; values that were never written read as NaN (or -1), never as zero.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, TransposeCodec

from risk.drivers import ELAPSED, PEG, VOLATILITY, make_drivers, with_volatility
from risk.errors import RunError
from risk.instruments import assets_alone
from risk.schema import CUBE, DRIVERS, GAPS, SCENARIO_COORDS, Variable

_CUBE, _DRIVERS = "cube.zarr", "drivers.zarr"
#: What scenarios are called, and where they come from.
_TEXTS = ("label", "source")
#: Totals that were added up once; goes when the run is finished.
TOTALS = "totals.npz"
#: Scenarios that are read and added up at once.
_AT_ONCE = 16_384
_INCOMPRESSIBLE = frozenset({"pnl", *DRIVERS})


def create_stores(
    folder: Path,
    scenarios: Mapping[str, xr.Dataset],
    cells: pa.Table,
    assets: Iterable[str],
    block: int,
) -> None:
    """Lay out `cube.zarr` and `drivers.zarr` with every coordinate and no value.

    Parameters
    ----------
    folder : Path
        The run's folder.
    scenarios : mapping of str to Dataset (scenario,)
        Per scenario set, the coordinates `label`, `source` and `weight`.
    cells : Table (cell,)
        Roll-up labels.
    assets : iterable of str
        The drivers' assets.
    block : int
        Scenarios per chunk.
    """
    labels = {
        name: ("cell", np.asarray(cells[name].to_pylist(), object)) for name in cells.column_names
    }
    asset = {"asset": np.asarray(list(assets), object)}
    for store, variables, dim, coords, n in (
        (_CUBE, CUBE, "cell", labels, cells.num_rows),
        (_DRIVERS, DRIVERS, "asset", asset, len(asset["asset"])),
    ):
        zarr.open_group(folder / store, mode="w")
        for name, one in scenarios.items():
            # Scenario coordinates would otherwise be read as data variables.
            kept = {coord: one[coord].variable for coord in SCENARIO_COORDS}
            empty = xr.Dataset(coords=kept | coords)
            empty.to_zarr(folder / store, group=name, mode="w", consolidated=False)
            group = zarr.open_group(folder / store, path=name, mode="r+")
            for variable, kind in variables.items():
                _create(group, variable, kind, (one.sizes["scenario"], n), block, dim)


def _create(
    group: zarr.Group, name: str, kind: Variable, shape: tuple[int, int], block: int, dim: str
) -> None:
    # Scenarios of one cell lie together inside a chunk, as the ladders make and measures read them.
    group.create_array(
        name,
        filters=[TransposeCodec(order=(1, 0))],
        # Counts and steps shrink several times; P&L and prices do not, and cost half a second a
        # block. LZ4 of shuffled bytes takes a third of the time of Zstandard and twice the room.
        compressors=None if name in _INCOMPRESSIBLE else BloscCodec(cname="lz4", shuffle="shuffle"),
        shape=shape,
        chunks=(min(block, shape[0]), max(shape[1], 1)),
        dtype=kind.dtype,
        fill_value=-1 if kind.dtype.startswith("i") else float("nan"),
        dimension_names=("scenario", dim),
        attributes={"units": kind.units, "long_name": kind.meaning},
    )


def write_block(
    folder: Path, scenario_set: str, start: int, cube: xr.Dataset, drivers: xr.Dataset
) -> dict[str, str]:
    """Write one block's chunks and gap list; return the checksum of each array.

    Parameters
    ----------
    folder : Path
    scenario_set : str
    start : int
        First scenario of the block.
    cube : Dataset (scenario, cell)
    drivers : Dataset (scenario, asset) and (gap,)
    """
    sums = {}
    for store, data, variables in ((_CUBE, cube, CUBE), (_DRIVERS, drivers, DRIVERS)):
        group = zarr.open_group(folder / store, path=scenario_set, mode="r+")
        for name, kind in variables.items():
            values = data[name].values.astype(kind.dtype, copy=False)
            _array(group, name)[start : start + len(values)] = values
            sums[f"{store}/{name}"] = _digest(values.T)
    columns = np.stack([drivers[name].values.astype("f8") for name in GAPS])
    columns[0] += start
    path = _gap_file(folder, scenario_set, start)
    path.parent.mkdir(exist_ok=True)
    # Aside and renamed: a worker that was given up for dead may still be writing the same.
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("wb") as file:
        np.save(file, columns, allow_pickle=False)
    os.replace(draft, path)
    return sums | {"gaps": _digest(columns)}


def check_block(
    folder: Path, scenario_set: str, start: int, stop: int, sums: Mapping[str, str]
) -> bool:
    """Whether a block's arrays are still what `write_block` wrote."""
    try:
        for store, variables in ((_CUBE, CUBE), (_DRIVERS, DRIVERS)):
            group = zarr.open_group(folder / store, path=scenario_set, mode="r")
            for name in variables:
                values = np.asarray(_array(group, name)[start:stop])
                if _digest(values.T) != sums[f"{store}/{name}"]:
                    return False
        return _digest(np.load(_gap_file(folder, scenario_set, start))) == sums["gaps"]
    except (OSError, ValueError, KeyError, RuntimeError):
        return False  # unreadable is the same as undone: the block is run again


def finish_drivers(folder: Path, n_blocks: Mapping[str, int]) -> None:
    """Join the blocks' gap lists, in block order, into the driver store; add the pegs lost.

    Raises
    ------
    RunError
        If a set's lists are not as many as its blocks.
    """
    for name, n in n_blocks.items():
        files = sorted((folder / "gaps").glob(f"{name}-*.npy"))
        if len(files) != n:
            raise RunError(
                f"{folder / 'gaps'}: {len(files)} of the {n} blocks of {name} are to be seen; if "
                "workers of other machines write here, their file system shows files too late"
            )
        columns = np.concatenate([np.load(file) for file in files], axis=1)
        gaps = xr.Dataset(
            {
                gap: ("gap", column.astype(kind.dtype), {"units": kind.units})
                for (gap, kind), column in zip(GAPS.items(), columns, strict=True)
            }
        )
        gaps.to_zarr(folder / _DRIVERS, group=name, mode="a", consolidated=False)
        record = folder / "scenarios" / f"{name}.zarr"
        if record.exists():
            stored = plain_text(xr.open_zarr(record, consolidated=False, chunks=None))
            if PEG in stored:
                pegs = stored[[PEG]].reset_coords(drop=True).load()
                pegs.to_zarr(folder / _DRIVERS, group=name, mode="a", consolidated=False)


def open_tree(path: Path, drop: Sequence[str] = ()) -> xr.DataTree:
    """Open a Zarr tree: values read lazily, labels as plain strings, everything in name order.

    Variables to `drop` are not read; labels are read at once.
    """
    # Chunks hold whole cells: read them in that order, or every read turns them over.
    with zarr.config.set({"array.order": "F"}):
        tree = xr.open_datatree(
            path, engine="zarr", consolidated=False, chunks=None, drop_variables=list(drop)
        )
    return xr.DataTree.from_dict(
        {name: _in_order(node.to_dataset()) for name, node in sorted(tree.children.items())}
    )


def read_dataset(path: Path) -> xr.Dataset:
    """Read one Zarr group into memory: labels as plain strings, variables in name order."""
    return _in_order(xr.open_zarr(path, consolidated=False, chunks=None).load())


def _in_order(dataset: xr.Dataset) -> xr.Dataset:
    # A file system lists names in any order; the order of a report must not follow it.
    return plain_text(dataset)[sorted(map(str, dataset.data_vars))]


def open_cube(folder: Path, *, labels: bool = True) -> xr.DataTree:
    """Open `cube.zarr` of a run folder: one group per scenario set.

    Without `labels` the texts of the scenarios stay on disk.
    """
    return open_tree(folder / _CUBE, () if labels else _TEXTS)


def total(outcome: xr.Dataset, name: str, cells: np.ndarray | None = None) -> xr.DataArray:
    """Sum of a cube variable over all cells; what was never written makes it NaN, never less.

    Parameters
    ----------
    outcome : Dataset (scenario, cell)
        One scenario set of a cube.
    name : str
        One of `risk.schema.CUBE`.
    cells : ndarray of bool (cell,), optional
        Of these cells alone.

    Returns
    -------
    DataArray (scenario)
        In the unit of the variable.
    """
    values = outcome[name]
    n = values.sizes["scenario"]
    stored = values.encoding.get("preferred_chunks", {}).get("scenario")
    # A whole stored variable may not fit in memory.
    step = max(1, _AT_ONCE // stored) * stored if stored else max(n, 1)
    parts = []
    for start in range(0, max(n, 1), step):
        some = values[start : start + step].load()
        some = some if cells is None else some.isel(cell=cells)
        parts.append(some.sum("cell", skipna=False, keep_attrs=True))
    return parts[0] if len(parts) == 1 else xr.concat(parts, "scenario", combine_attrs="override")


def save_totals(folder: Path, totals: Mapping[str, np.ndarray]) -> None:
    """Keep P&L summed over all cells (scenario,) of some sets, for `read_totals`."""
    with (folder / TOTALS).open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(totals))


def read_totals(folder: Path, cube: xr.DataTree, names: Iterable[str]) -> dict[str, xr.DataArray]:
    """P&L of every set summed over all cells: what was kept of it, else added up now."""
    path, found = folder / TOTALS, {}
    kept = np.load(path, allow_pickle=False) if path.exists() else {}
    for name in names:
        outcome = cube[name].to_dataset()
        if name not in kept:
            found[name] = total(outcome, "pnl")
            continue
        labels = {key: one for key, one in outcome.coords.items() if one.dims == ("scenario",)}
        attrs = outcome["pnl"].attrs
        found[name] = xr.DataArray(kept[name], labels, ["scenario"], name="pnl", attrs=attrs)
    return found


def open_drivers(folder: Path, *, instruments: bool = False, labels: bool = True) -> xr.DataTree:
    """Open `drivers.zarr` of a run folder: one group per scenario set.

    Its `asset` holds the assets, and with `instruments` those behind them (`risk.instruments`).
    Without `labels` the texts of the scenarios stay on disk: they may take longer to read than the
    numbers.
    """
    tree = open_tree(folder / _DRIVERS, () if labels else _TEXTS)
    if instruments:
        return tree
    return xr.DataTree.from_dict(
        {name: assets_alone(node.to_dataset()) for name, node in tree.children.items()}
    )


def plain_text(dataset: xr.Dataset) -> xr.Dataset:
    """Text of any width as objects: Zarr warns about fixed widths, NumPy cannot cast others."""
    text = {
        name: variable.astype(object)
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "UT"
    }
    return dataset.assign(text) if text else dataset


def save_record(path: Path, drivers: xr.Dataset) -> None:
    """Write a whole driver record (a historical or stress set) as one Zarr group."""
    drivers.to_zarr(path, mode="w", consolidated=False)


def load_record(path: Path, *, instruments: bool = False) -> xr.Dataset:
    """Read a whole driver record into memory, with or without its instruments."""
    stored = xr.open_zarr(path, consolidated=False, chunks=None).load()
    drivers = make_drivers(
        *(stored[name].values for name in DRIVERS),
        assets=[str(asset) for asset in stored.asset.values],
        label=stored.label.values,
        source=stored.source.values,
        weight=stored.weight.values,
        gaps={name: stored[name].values for name in GAPS},
    )
    if VOLATILITY in stored:
        drivers = with_volatility(drivers, stored[VOLATILITY].values, stored.attrs[ELAPSED])
    if PEG in stored:
        drivers = drivers.assign({PEG: plain_text(stored)[PEG]})
    return drivers if instruments else assets_alone(drivers)


def load_depths(path: Path) -> np.ndarray:
    """Share of the usual depth that the scenarios of a record leave (scenario,); 1 where unsaid."""
    stored = xr.open_zarr(path, consolidated=False, chunks=None)
    if "depth" not in stored.coords:
        return np.ones(stored.sizes["scenario"])
    return stored["depth"].values.astype("f8")


def _gap_file(folder: Path, scenario_set: str, start: int) -> Path:
    return folder / "gaps" / f"{scenario_set}-{start:012d}.npy"


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
