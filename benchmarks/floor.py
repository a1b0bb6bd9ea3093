"""What this machine can do at best: memory it reads and writes, normals it draws, a second.

Figures are printed against these, measured in the same run, because a budget in seconds says as
much of the machine as of the program.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

#: Far beyond the caches.
_BYTES = 1 << 28


def fastest(call: Callable[[], object], tries: int = 5) -> float:
    """Least CPU seconds of a call of this thread that was made once before, so that it is warm."""
    call()
    taken = []
    for _ in range(tries):
        begun = time.thread_time()
        call()
        taken.append(time.thread_time() - begun)
    return min(taken)


def bandwidth() -> tuple[float, float]:
    """Bytes a second that one thread reads, and that it writes to pages it has."""
    data = np.ones(_BYTES // 8)
    return _BYTES / fastest(data.sum, 3), _BYTES / fastest(lambda: data.fill(2.0), 3)


def draw_seconds(n_paths: int, n_steps: int, n_assets: int) -> float:
    """CPU seconds of drawing and correlating a path's normals, and no more than that.

    The least that a Monte Carlo of correlated assets can do; no bridge, no mixing, no jumps.
    """
    sample = 512 * n_steps
    rng = np.random.Generator(np.random.Philox(1))
    factor = np.eye(n_assets)
    seconds = fastest(lambda: rng.standard_normal((sample, n_assets)) @ factor, 3)
    return seconds * n_paths * n_steps / sample
