"""What a block keeps of its options, so that positions can be measured over all blocks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from risk.liquidation.options.columns import Valued


def save_valued(folder: Path, name: str, valued: Valued) -> str:
    """Write the arrays of one block under its name; returns their checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = _pack(valued)
    for part, values in arrays.items():
        # Aside and renamed: a worker that was given up for dead may still be writing the same.
        draft = folder / f"{name}.{part}.{os.getpid()}.tmp"
        with draft.open("wb") as file:
            np.save(file, values, allow_pickle=False)
        os.replace(draft, folder / f"{name}.{part}.npy")
    return _digest(arrays)


def check_valued(folder: Path, name: str, checksum: str) -> bool:
    """Whether the arrays are still what `save_valued` wrote."""
    try:
        return _digest(_read(folder, name)) == checksum
    except (OSError, ValueError):
        return False


def load_valued(folder: Path, names: Iterable[str]) -> Valued:
    """Join the arrays of consecutive blocks, in the order of `names`."""
    parts = [_read(folder, name, mmap_mode="r") for name in names]
    sizes = [part["value"].shape[2] for part in parts]
    ends = np.empty((2, parts[0]["value"].shape[1], sum(sizes)))
    stairs = np.concatenate([part["stairs"] for part in parts], axis=1)
    at = 0
    # Block by block into place: the values are not in memory twice.
    for part, first, size in zip(parts, np.cumsum(sizes) - sizes, sizes, strict=True):
        ends[:, :, first : first + size] = part["value"]
        n_stairs = part["stairs"].shape[1]
        stairs[1, at : at + n_stairs] += first
        at += n_stairs
    # Stable: within a contract the scenarios stay in order.
    stairs = stairs[:, np.argsort(stairs[0], kind="stable")]
    start = np.searchsorted(stairs[0], np.arange(ends.shape[1] + 1))
    return Valued(ends[0], ends[1], start.astype("i8"), stairs[1].astype("i8"), *stairs[2:])


def take_valued(valued: Valued, index: np.ndarray) -> Valued:
    """The scenarios at `index` (ascending), renumbered by their place in it."""
    place = np.searchsorted(index, valued.scenario)
    kept = np.flatnonzero(np.isin(valued.scenario, index))
    return Valued(
        np.ascontiguousarray(valued.value[:, index]),
        np.ascontiguousarray(valued.last[:, index]),
        np.searchsorted(kept, valued.start).astype("i8"),
        place[kept].astype("i8"),
        *(column[kept] for column in (valued.level, valued.mark, valued.ratio)),
    )


def _pack(valued: Valued) -> dict[str, np.ndarray]:
    contract = np.repeat(np.arange(len(valued.start) - 1), np.diff(valued.start))
    return {
        "value": np.stack([valued.value, valued.last]),
        "stairs": np.stack(
            [contract.astype("f8"), valued.scenario.astype("f8"), valued.level, valued.mark,
             valued.ratio]
        ),
    }  # fmt: skip


def _read(folder: Path, name: str, mmap_mode: Literal["r"] | None = None) -> dict[str, np.ndarray]:
    return {
        part: np.load(folder / f"{name}.{part}.npy", mmap_mode=mmap_mode, allow_pickle=False)
        for part in ("value", "stairs")
    }


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for values in arrays.values():
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
