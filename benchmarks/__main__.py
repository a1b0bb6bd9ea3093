"""Speed and memory against the budgets, as tables: ``make bench``, or ``python -m benchmarks``.

Every section runs in a process of its own, so that its peak memory is its own. ``--large`` adds
the sizes that take minutes.
"""

from __future__ import annotations

import subprocess
import sys

SECTIONS = {
    "The ladder kernel, one thread, against NumPy in chunks": "benchmarks.kernel",
    "The engine, against drawing the same paths": "benchmarks.engine",
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
        done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
