"""What a block keeps of its account pools, so that positions can be measured over all blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from risk.liquidation.cross.book import AMOUNTS, COUNTS, PoolOutcomes


def save_outcomes(folder: Path, name: str, outcomes: PoolOutcomes) -> str:
    """Write the outcomes of one block under its name; returns their checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, values in _pack(outcomes).items():
        np.save(folder / f"{name}.{part}.npy", values, allow_pickle=False)
    return _digest(outcomes)


def check_outcomes(folder: Path, name: str, checksum: str) -> bool:
    """Whether the outcomes are still what `save_outcomes` wrote."""
    try:
        return _digest(_read(folder, name)) == checksum
    except (OSError, ValueError):
        return False


def load_outcomes(folder: Path, names: Iterable[str]) -> PoolOutcomes:
    """Join the outcomes of consecutive blocks, in the order of `names`."""
    blocks = [_open(folder, name) for name in names]
    n = sum(rows.shape[1] for rows, _ in blocks)
    found = PoolOutcomes(
        np.empty(n, "i8"),
        np.empty(n, "i8"),
        np.empty((n, len(AMOUNTS))),
        np.empty(n, "i1"),
        np.concatenate([np.empty((0, len(COUNTS)), "i4"), *(counts for _, counts in blocks)]),
    )
    # Block by block into place, so that no row is in memory twice.
    at, first = 0, 0
    for rows, counts in blocks:
        part = slice(at, at + rows.shape[1])
        found.scenario[part], found.leg[part], found.status[part] = rows[:3]
        found.scenario[part] += first
        found.amounts[part] = rows[3:].T
        at, first = part.stop, first + len(counts)
    return found


def _pack(outcomes: PoolOutcomes) -> dict[str, np.ndarray]:
    where = (outcomes.scenario, outcomes.leg, outcomes.status)
    rows = np.stack([*(column.astype("f8") for column in where), *outcomes.amounts.T])
    return {"rows": rows, "counts": outcomes.counts}


def _read(folder: Path, name: str) -> PoolOutcomes:
    rows, counts = _open(folder, name)
    scenario, leg, status = rows[:3]
    amounts = np.ascontiguousarray(rows[3:].T)
    return PoolOutcomes(
        scenario.astype("i8"), leg.astype("i8"), amounts, status.astype("i1"), np.array(counts)
    )


def _open(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and counts of a block, mapped: what is not looked at is not read."""
    rows, counts = (
        np.load(folder / f"{name}.{part}.npy", mmap_mode="r", allow_pickle=False)
        for part in ("rows", "counts")
    )
    return rows, counts


def _digest(outcomes: PoolOutcomes) -> str:
    digest = hashlib.sha256()
    for values in _pack(outcomes).values():
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
