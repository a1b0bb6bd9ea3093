"""A block task small enough to see through: it squares its scenario numbers into a file."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np


def square(workspace, block):
    """Write the squares; log every attempt."""
    folder = Path(workspace)
    with (folder / "attempts.log").open("a") as log:
        log.write(block.key + "\n")
    values = np.arange(block.start, block.stop) ** 2
    np.save(folder / f"{block.key}.npy", values)
    return {"values": hashlib.sha256(values.tobytes()).hexdigest()}


def check(workspace, block, sums):
    """Whether the file still holds what the receipt says."""
    path = Path(workspace) / f"{block.key}.npy"
    return path.exists() and hashlib.sha256(np.load(path).tobytes()).hexdigest() == sums["values"]


def die_once(workspace, block):
    """Kill the worker, the first time block 3 is tried."""
    marker = Path(workspace) / "died"
    if block.number == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(workspace, block)


def always_die(workspace, block):
    """Kill every worker that tries."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail(workspace, block):
    """Raise in block 2."""
    if block.number == 2:
        raise ValueError("block 2 is bad")
    return square(workspace, block)


def slow_square(workspace, block):
    """Square, but slowly enough to be killed in the middle."""
    time.sleep(0.1)
    return square(workspace, block)


#: Files that `scaled` reads.
READS = ("rungs/*.npy",)


def scaled(workspace, block):
    """Multiply the scenario numbers by a column that lies in the workspace."""
    folder = Path(workspace)
    factor = np.load(folder / "rungs/column.npy", mmap_mode="r")[0]
    values = np.arange(block.start, block.stop) * factor
    (folder / "scaled").mkdir(exist_ok=True)
    np.save(folder / f"scaled/{block.key}.npy", values)
    return {"values": hashlib.sha256(values.tobytes()).hexdigest()}


def check_scaled(workspace, block, sums):
    """Whether the file still holds what the receipt says."""
    path = Path(workspace) / f"scaled/{block.key}.npy"
    return path.exists() and hashlib.sha256(np.load(path).tobytes()).hexdigest() == sums["values"]


def own_version():
    """A version that every process has for itself."""
    return f"process {os.getpid()}"
