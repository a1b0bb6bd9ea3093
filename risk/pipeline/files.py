"""How the stages write and read the small files of a run's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from risk.block import OPTIONS, POOLS
from risk.cube import plain_text
from risk.liquidation.cross import (
    PoolOutcomes,
    PoolResults,
    join_outcomes,
    load_outcomes,
    load_results,
    take_outcomes,
)
from risk.liquidation.options import Valued, join_valued, load_valued, take_valued
from risk.store import file_digest


def write_tree(tree: xr.DataTree, path: Path) -> None:
    """Write a tree to Zarr with its text in fixed width."""
    plain = xr.DataTree.from_dict(
        {name: plain_text(node.to_dataset()) for name, node in tree.children.items()}
    )
    plain.to_zarr(path, mode="w", consolidated=False)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, keys sorted, whole or not at all."""
    # In one step: a resumed night trusts what it finds, so a kill must not leave half a file.
    draft = path.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def load_calibration(folder: Path) -> xr.Dataset:
    """The calibration of the night."""
    return xr.open_zarr(folder / "calibration.zarr", consolidated=False, chunks=None).load()


def valued_options(
    folder: Path, scenario_set: str, index: np.ndarray | None = None
) -> Valued | None:
    """What the options' contracts are worth in the scenarios of a set, or in some; None without.

    Of some (ascending), only the blocks that hold them are read.
    """
    names = _blocks(folder / OPTIONS, scenario_set, ".value.npy")
    if not names:
        return None
    if index is None:
        return load_valued(folder / OPTIONS, names)
    sizes = _lengths(folder / OPTIONS, names, ".value.npy", axis=2)
    held = [
        take_valued(load_valued(folder / OPTIONS, [name]), some)
        for name, some in _by_block(names, sizes, index)
    ]
    return join_valued(held)


def pooled_outcomes(
    folder: Path, scenario_set: str, index: np.ndarray | None = None
) -> PoolOutcomes | None:
    """What account pools came to in the scenarios of a set, or in some; None without pools.

    Of some (ascending), only the blocks that hold them are read.
    """
    names = _blocks(folder / POOLS, scenario_set, ".rows.npy")
    if not names:
        return None
    if index is None:
        return load_outcomes(folder / POOLS, names)
    sizes = _lengths(folder / POOLS, names, ".counts.npy", axis=0)
    parts, first = [], 0
    for name, some in _by_block(names, sizes, index):
        parts.append((first, take_outcomes(load_outcomes(folder / POOLS, [name]), some)))
        first += len(some)
    return join_outcomes(parts)


def _blocks(folder: Path, scenario_set: str, ending: str) -> list[str]:
    """Names of the blocks of a set that kept something, in their order."""
    files = sorted(folder.glob(f"{scenario_set}-*{ending}"))
    return [file.name.removesuffix(ending) for file in files]


def _lengths(folder: Path, names: list[str], ending: str, axis: int) -> list[int]:
    """How many scenarios each block has: the length of an axis of one of its arrays."""
    files = [folder / f"{name}{ending}" for name in names]
    return [np.load(file, mmap_mode="r", allow_pickle=False).shape[axis] for file in files]


def _by_block(
    names: list[str], sizes: list[int], index: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Blocks that hold some of the scenarios at `index`, with those, counted inside the block.

    Examples
    --------
    >>> [(name, at.tolist()) for name, at in _by_block(["a", "b"], [4, 4], np.array([1, 5, 7]))]
    [('a', [1]), ('b', [1, 3])]
    """
    first = 0
    for name, size in zip(names, sizes, strict=True):
        mine = index[(index >= first) & (index < first + size)] - first
        if len(mine):
            yield name, mine
        first += size


def pooled_results(folder: Path, scenario_set: str) -> PoolResults | None:
    """Of the same what the tails of positions need."""
    names = _blocks(folder / POOLS, scenario_set, ".rows.npy")
    return load_results(folder / POOLS, names) if names else None


def digests(where: Path, pattern: str) -> dict[str, str]:
    """Digest of each file below a folder, by its name inside it; or of the one file given."""
    if where.is_file():
        return {where.name: file_digest(where)}
    files = sorted(path for path in where.rglob(pattern) if path.is_file())
    return {path.relative_to(where).as_posix(): file_digest(path) for path in files}
