"""What a block keeps of its options, so that positions can be measured over all blocks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

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
        os.replace(draft, _file(folder, name, part))
    return _digest(arrays)


def check_valued(folder: Path, name: str, checksum: str) -> bool:
    """Whether the arrays are still what `save_valued` wrote."""
    try:
        return _digest(_read(folder, name)) == checksum
    except (OSError, ValueError):
        return False


def load_valued(folder: Path, names: Sequence[str]) -> Valued:
    """Join the arrays of consecutive blocks, in the order of `names`."""
    shapes = [
        np.load(_file(folder, name, "value"), mmap_mode="r", allow_pickle=False).shape
        for name in names
    ]
    ends = np.empty((*shapes[0][:2], sum(shape[2] for shape in shapes)))
    stairs, first = [], 0
    # Block by block into place: the values are never in memory twice.
    for name, shape in zip(names, shapes, strict=True):
        part = _read(folder, name)
        ends[:, :, first : first + shape[2]] = part["value"]
        part["stairs"][1] += first
        stairs.append(part["stairs"])
        first += shape[2]
    joined = np.concatenate(stairs, axis=1)
    # Stable: within a contract the scenarios stay in order.
    joined = joined[:, np.argsort(joined[0], kind="stable")]
    start = np.searchsorted(joined[0], np.arange(ends.shape[1] + 1))
    return Valued(ends[0], ends[1], start.astype("i8"), joined[1].astype("i8"), *joined[2:])


def join_valued(parts: Sequence[Valued]) -> Valued:
    """The scenarios of all the parts, in their order; there is at least one part."""
    first, scenarios, contracts = 0, [], []
    for part in parts:
        scenarios.append(part.scenario + first)
        contracts.append(np.repeat(np.arange(len(part.start) - 1), np.diff(part.start)))
        first += part.value.shape[1]
    contract = np.concatenate(contracts)
    # Stable: within a contract the scenarios stay in order.
    order = np.argsort(contract, kind="stable")
    stairs = [
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("level", "mark", "ratio")
    ]
    return Valued(
        np.concatenate([part.value for part in parts], axis=1),
        np.concatenate([part.last for part in parts], axis=1),
        np.searchsorted(contract[order], np.arange(len(parts[0].start))).astype("i8"),
        np.concatenate(scenarios)[order],
        *stairs,
    )


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


def _read(folder: Path, name: str) -> dict[str, np.ndarray]:
    return {
        part: np.load(_file(folder, name, part), allow_pickle=False) for part in ("value", "stairs")
    }


def _file(folder: Path, name: str, part: str) -> Path:
    return folder / f"{name}.{part}.npy"


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for values in arrays.values():
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
