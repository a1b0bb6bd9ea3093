"""Schedule the night: a Prefect deployment with the config's cron, and the process that runs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

from flows.server import HOST, port_is_free, start_prefect
from risk.config import load_config
from risk.errors import ConfigError

#: Where Prefect's UI is looked for.
_PORT = 4200


def serve(config: Path, *, progress: Callable[[str], None] | None = None) -> None:
    """Schedule the night and run it whenever it is due, until this process is stopped.

    A night that was due while nothing was served is run late, when serving starts again; a night
    that is finished already is recognised. Two never run at once.

    Parameters
    ----------
    config : Path
        YAML file with a `schedule`.
    progress : callable, optional
        Called with one line when the schedule stands.

    Raises
    ------
    ConfigError
        If the config is bad or the port of the UI is taken.
    """
    schedule = load_config(config).schedule
    port = int(os.environ.get("PREFECT_SERVER_API_PORT", _PORT))
    if not os.environ.get("PREFECT_API_URL") and not port_is_free(port):
        raise ConfigError(
            f"port {port} is taken; set PREFECT_API_URL=http://{HOST}:{port}/api if a Prefect "
            "server answers there, or PREFECT_SERVER_API_PORT to another port"
        )
    server = start_prefect(port)

    from prefect import serve as run_when_due
    from prefect.deployments.runner import EntrypointType, RunnerDeployment
    from prefect.schedules import Cron

    from flows.nightly import nightly

    deployment = cast(
        RunnerDeployment,  # the sync half of a function that Prefect declares as both
        nightly.to_deployment(
            name=config.stem,
            description=f"The night of {config.name}, as of the UTC day before it is due",
            schedule=Cron(schedule.cron, timezone=schedule.timezone),
            parameters={"config": str(config.resolve()), "as_of": "scheduled"},
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
    )
    if server is not None:
        server.wait()
    if progress is not None:
        url = os.environ["PREFECT_API_URL"].removesuffix("/api")
        progress(
            f"{config.name}: every night at {schedule.cron!r} ({schedule.timezone}); Prefect's UI "
            f"is at {url}; Ctrl-C stops"
        )
    # The schedule stays when this process stops: a restart must not lose the night.
    run_when_due(deployment, limit=1, pause_on_shutdown=False, print_starting_message=False)
