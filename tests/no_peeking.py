"""For workers: refuse to open anything below the folder that only the driver may see."""

from __future__ import annotations

import os
import sys

_FORBIDDEN = os.environ["BULKHEAD_FORBIDDEN"]


def _watch(event, args):
    if event == "open" and str(args[0]).startswith(_FORBIDDEN):
        raise PermissionError(f"a worker opened {args[0]}")


sys.addaudithook(_watch)
