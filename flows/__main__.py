"""A night from a terminal, `python -m flows CONFIG`, or a backtest, `python -m flows backtest`.

Nothing heavy stands at the top: Prefect's server boots while the libraries are imported.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from flows.start import main

    sys.exit(main(sys.argv[1:]))
