"""Prefect's server as a child of this process, started before anything heavy is imported.

Standard library only, so that the server boots beside the imports of the night. `PREFECT_API_URL`
names a server that already runs; without it one is started here, with its scheduler and its UI, on
the database in `PREFECT_HOME`. Run as a module, this is that child: it leaves when its parent does,
even when the parent was killed.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"

#: Seconds a server may take; a database on a slow disk is migrated when it is first used.
PATIENCE = 180

_LOGGING = Path(__file__).with_name("logging.yml")


def prepare_environment() -> None:
    """Settings that must stand before NumPy and Prefect are imported; what is set is left alone."""
    home = Path(os.environ.get("PREFECT_HOME", ".prefect")).absolute()
    os.environ["PREFECT_HOME"] = str(home)
    defaults = {
        # One native thread, or a matrix product depends on the machine.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        # Nothing is sent home.
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_SETTINGS_PATH": str(_LOGGING),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


class Server:
    """A Prefect server of this process.

    Attributes
    ----------
    url : str
        Address of its API.
    seconds : float
        How long it took to answer; known after `wait`.
    """

    def __init__(self, port: int | None = None) -> None:
        """Start it, on a free port unless one is given, and do not wait."""
        self.port = port or _free_port()
        self.url = f"http://{HOST}:{self.port}/api"
        self.seconds = 0.0
        home = Path(os.environ["PREFECT_HOME"])
        home.mkdir(parents=True, exist_ok=True)
        self._log = home / "server.log"
        self._begun = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.server", str(self.port), str(os.getpid())],
                env=_server_environment(self.port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the night, which still has to tell the server how it ended.
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return once it answers.

        Raises
        ------
        RuntimeError
            If it dies, or does not answer in time; the file with its last words is named.
        """
        while not _is_healthy(self.url):
            if self._process.poll() is not None:
                raise RuntimeError(f"Prefect's server did not start; see {self._log}")
            if time.perf_counter() - self._begun > PATIENCE:
                raise RuntimeError(
                    f"Prefect's server did not answer in {PATIENCE} s; see {self._log}"
                )
            time.sleep(0.05)
        self.seconds = time.perf_counter() - self._begun

    def stop(self) -> None:
        """Stop it; a second call does nothing."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_prefect(port: int | None = None) -> Server | None:
    """Start the server this process needs; None where `PREFECT_API_URL` names one that runs.

    Call it before Prefect is imported: Prefect reads `PREFECT_API_URL`, which is set here, and at
    exit still hands its last log lines over, so that the server must be the last to go. It may not
    answer yet; see `Server.wait`.
    """
    prepare_environment()
    if os.environ.get("PREFECT_API_URL"):
        return None
    server = Server(port)
    os.environ["PREFECT_API_URL"] = server.url
    atexit.register(server.stop)
    return server


def _server_environment(port: int) -> Mapping[str, str]:
    settings = {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT__SERVER_FINAL": "1",
    }
    # The server logs as Prefect means it to; only the night has its own way.
    return {
        name: value
        for name, value in (os.environ | settings).items()
        if name != "PREFECT_LOGGING_SETTINGS_PATH"
    }


def port_is_free(port: int) -> bool:
    """Whether a server can be started there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def _leave_with(parent: int) -> None:
    """Stop this process when its parent is gone: a killed night must not leave a server behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Be the server: on the port given first, for the process given second."""
    port, parent = map(int, sys.argv[1:])
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    import uvicorn

    with suppress(KeyboardInterrupt):
        uvicorn.run(
            "prefect.server.api.server:create_app",
            factory=True,
            host=HOST,
            port=port,
            log_level="error",
            lifespan="on",
        )


if __name__ == "__main__":
    main()
