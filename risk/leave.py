"""Leave a process without taking the interpreter apart.

A night leaves millions of objects and compiled loops; to free them one by one takes seconds, and
the system frees them at once.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def leave_with(run: Callable[[], int]) -> NoReturn:
    """Run a command and leave the process with its status.

    What was to be done at the end is done: threads are waited for, handlers of `atexit` called,
    logs and both streams written out. To be called before anything heavy is imported: handlers that
    were registered earlier than this one's are not called.

    Raises
    ------
    SystemExit
        With the status; an exception of `run` is not caught, and ends the process as it always
        does.
    """
    statuses: list[int] = []

    def leave() -> None:
        if statuses:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(statuses[0])

    atexit.register(leave)  # the first to be registered is the last to be called
    statuses.append(run())
    sys.exit(statuses[0])
