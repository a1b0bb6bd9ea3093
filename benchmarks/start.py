"""What compiling costs a first process, and that a second pays nothing of it.

Both draw one block and walk a small book through it, feature by feature, with a cache of machine
code of their own. Run ``python -m benchmarks.start``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.engine import FEATURES, measure, prepare
from benchmarks.table import Row, show

ROOT = Path(__file__).resolve().parents[1]


def job(features: list[str], is_toy: bool) -> None:
    """A small book with each feature, from draw to arrays; a toy stops at the ladders."""
    for name in features:
        with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as folder:
            prepare(Path(folder), 2_000, 4, 2, **FEATURES[name])
            if not is_toy:
                measure(Path(folder), 256, 0)


def start(cache: Path, features: list[str], is_toy: bool) -> tuple[float, int]:
    """Wall seconds of a fresh process that does the job, and how many loops it compiled."""
    before = len(list(cache.rglob("*.nbc")))
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", f"from benchmarks.start import job; job({features!r}, {is_toy})"],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)}, cwd=ROOT, check=True,
    )  # fmt: skip
    return time.perf_counter() - begun, len(list(cache.rglob("*.nbc"))) - before


def main(arguments: list[str]) -> None:
    """Print the table."""
    is_toy = "--toy" in arguments
    features = list(FEATURES)[:1] if is_toy else list(FEATURES)
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as name:
        cold, compiled = start(Path(name), features, is_toy)
        warm, more = start(Path(name), features, is_toy)
    rows: list[Row] = [
        ("first process, nothing compiled: s", f"{cold:.1f}", ""),
        ("  loops it compiled and kept", f"{compiled}", "> 0"),
        ("second process: s", f"{warm:.1f}", ""),
        ("  loops it compiled", f"{more}", "<= 0"),
    ]
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
