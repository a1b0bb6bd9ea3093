"""The unit of randomness, of work and of resuming, and the receipt that proves it was done."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Block:
    """Consecutive scenarios of one set: `start` to `stop`, excluded."""

    scenario_set: str
    number: int
    start: int
    stop: int

    @property
    def key(self) -> str:
        """Name of the block in files and logs."""
        return f"{self.scenario_set}-{self.number:06d}"


def plan_blocks(sizes: Mapping[str, int], size: int) -> tuple[Block, ...]:
    """Split every scenario set into blocks.

    Parameters
    ----------
    sizes : mapping of str to int
        Scenarios per set.
    size : int
        Scenarios per block; the last block of a set may hold fewer.

    Returns
    -------
    tuple of Block
        In set order, then by number.

    Examples
    --------
    >>> [block.key for block in plan_blocks({"stress": 6, "monte_carlo": 5000}, 4096)]
    ['stress-000000', 'monte_carlo-000000', 'monte_carlo-000001']
    """
    return tuple(
        Block(name, number, start, min(start + size, n))
        for name, n in sizes.items()
        for number, start in enumerate(range(0, n, size))
    )


def write_receipt(folder: Path, block: Block, checksums: Mapping[str, str]) -> None:
    """Record, in one atomic step, that a block is on disk."""
    # The writer's own name: two workers may do one block where one was given up for dead.
    draft = folder / f"{block.key}.{socket.gethostname()}-{os.getpid()}.part"
    with draft.open("w") as file:
        json.dump(dict(checksums), file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, folder / f"{block.key}.json")


def read_receipt(folder: Path, block: Block) -> dict[str, str] | None:
    """Checksums of a finished block, or None."""
    try:
        return json.loads((folder / f"{block.key}.json").read_text())
    except (FileNotFoundError, ValueError):
        return None  # absent or damaged: the block is run again
