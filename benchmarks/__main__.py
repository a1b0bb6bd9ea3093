"""Speed and memory against the budgets, as tables: ``make bench``, or ``python -m benchmarks``.

Every section runs in a process of its own, so that its peak memory is its own, and says how long it
took. ``--large`` adds the sizes that take minutes, ``--toy`` shows in seconds that all of it runs.
"""

from __future__ import annotations

import subprocess
import sys
import time

SECTIONS = {
    "The ladder kernel, one thread, against NumPy and the machine": "benchmarks.kernel",
    "The engine, against drawing the same paths": "benchmarks.engine",
    "Beside others": "benchmarks.peers",
    "Cold and warm start": "benchmarks.start",
    "Measures of a stored cube, and the roll-up": "benchmarks.measures",
    "The whole night, from the command line": "benchmarks.night",
    "A backtest, from the command line": "benchmarks.replay",
    "Variance reduction, against plain draws": "benchmarks.variance",
    "Calibration, grids and reverse stress": "benchmarks.scenarios",
}


def main(arguments: list[str]) -> int:
    """Run every section; the first that fails gives the exit status."""
    for title, module in SECTIONS.items():
        print(f"\n{title}", flush=True)
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
        if done.returncode:
            return done.returncode
        print(f"({module}: {time.perf_counter() - begun:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
