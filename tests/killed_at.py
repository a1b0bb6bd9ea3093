"""The command, killed before the n-th change of a file below a folder (0: never, but counted)."""

from __future__ import annotations

import os
import signal
import sys

from risk.cli import run_command
from tests.kill_points import changes

_AT, _BELOW = int(os.environ["BULKHEAD_KILL_AT"]), os.environ["BULKHEAD_KILL_BELOW"]
_N = 0


def _watch(event, args):
    global _N
    if changes(event, args) and str(args[0]).startswith(_BELOW):
        _N += 1
        if _N == _AT:
            os.write(2, f"\nkilled before {event} {str(args[0]).removeprefix(_BELOW)}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.addaudithook(_watch)
    status = run_command(sys.argv[1:])
    print(f"\nchanges {_N}", file=sys.stderr)
    sys.exit(status)
