"""What a block keeps of its account pools, so that positions can be measured over all blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from risk.liquidation.columns import LIQUIDATED
from risk.liquidation.cross.outcomes import AMOUNTS, PoolOutcomes, PoolResults, join_outcomes

#: Rows of a block's file before the amounts: scenario, leg and status.
_AHEAD = 3


def save_outcomes(folder: Path, name: str, outcomes: PoolOutcomes) -> str:
    """Write the outcomes of one block under its name; returns their checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, values in _pack(outcomes).items():
        np.save(_file(folder, name, part), values, allow_pickle=False)
    return _digest(outcomes)


def check_outcomes(folder: Path, name: str, checksum: str) -> bool:
    """Whether the outcomes are still what `save_outcomes` wrote."""
    try:
        return _digest(_read(folder, name)) == checksum
    except (OSError, ValueError):
        return False


def load_outcomes(folder: Path, names: Iterable[str]) -> PoolOutcomes:
    """Join the outcomes of consecutive blocks, in the order of `names`."""
    parts, first = [], 0
    for name in names:
        part = _read(folder, name)
        parts.append((first, part))
        first += len(part.counts)
    return join_outcomes(parts)


def load_results(folder: Path, names: Sequence[str]) -> PoolResults:
    """The same, no more than the tails of positions need: less than half the memory."""
    sizes = [
        np.load(_file(folder, name, "rows"), mmap_mode="r", allow_pickle=False).shape[1]
        for name in names
    ]
    n = sum(sizes)
    found = PoolResults(
        np.empty(n, "i4"), np.empty(n, "i4"), np.empty(n), np.empty(n), np.empty(n, bool)
    )
    at, first = 0, 0
    for name, size in zip(names, sizes, strict=True):
        rows, counts = _load(folder, name)
        part = slice(at, at + size)
        found.scenario[part] = rows[0] + first
        found.leg[part] = rows[1]
        found.is_liquidated[part] = rows[2] == LIQUIDATED
        found.pnl[part] = rows[_AHEAD + AMOUNTS.index("pnl")]
        found.deficit[part] = rows[_AHEAD + AMOUNTS.index("deficit")]
        at, first = at + size, first + len(counts)
    return found


def _pack(outcomes: PoolOutcomes) -> dict[str, np.ndarray]:
    where = (outcomes.scenario, outcomes.leg, outcomes.status)
    rows = np.stack([*(column.astype("f8") for column in where), *outcomes.amounts.T])
    return {"rows": rows, "counts": outcomes.counts}


def _read(folder: Path, name: str) -> PoolOutcomes:
    rows, counts = _load(folder, name)
    scenario, leg, status = rows[:_AHEAD]
    amounts = np.ascontiguousarray(rows[_AHEAD:].T)
    return PoolOutcomes(
        scenario.astype("i8"), leg.astype("i8"), amounts, status.astype("i1"), counts
    )


def _load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows, counts = (
        np.load(_file(folder, name, part), allow_pickle=False) for part in ("rows", "counts")
    )
    return rows, counts


def _file(folder: Path, name: str, part: str) -> Path:
    return folder / f"{name}.{part}.npy"


def _digest(outcomes: PoolOutcomes) -> str:
    digest = hashlib.sha256()
    for values in _pack(outcomes).values():
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
