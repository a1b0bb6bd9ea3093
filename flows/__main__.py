"""A night from a terminal, `python -m flows CONFIG`, or a backtest, `python -m flows backtest`.

Nothing heavy stands at the top: Prefect's server boots while the libraries are imported.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from risk.leave import leave_with

    def run() -> int:
        """Import after what is done at the end is registered."""
        from flows.start import main

        return main(sys.argv[1:])

    leave_with(run)
