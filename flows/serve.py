"""Schedule the night, and backtests: Prefect deployments with the config's cron lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flows.server import HOST, port_is_free, start_prefect
from risk.config import load_config
from risk.errors import ConfigError

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

    from risk.config import Schedule

#: Where Prefect's UI is looked for.
_PORT = 4200


def serve(config: Path, *, progress: Callable[[str], None] | None = None) -> None:
    """Schedule the night and run it whenever it is due, until this process is stopped.

    A night that was due while nothing was served is run late, when serving starts again; a night
    that is finished already is recognised. Two never run at once. With `schedule.backtest` in the
    config the nights before are replayed too, as often as it says.

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
    from prefect.deployments.runner import EntrypointType
    from prefect.schedules import Cron

    from flows.nightly import nightly

    deployment = cast(
        "RunnerDeployment",  # the sync half of a function that Prefect declares as both
        nightly.to_deployment(
            name=config.stem,
            description=f"The night of {config.name}, as of the UTC day before it is due",
            schedule=Cron(schedule.cron, timezone=schedule.timezone),
            parameters={"config": str(config.resolve()), "as_of": "scheduled"},
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
    )
    deployments = [deployment]
    if schedule.backtest is not None:
        deployments.append(_backtests(config, schedule))
    if server is not None:
        server.wait()
    if progress is not None:
        url = os.environ["PREFECT_API_URL"].removesuffix("/api")
        also = f", backtests at {schedule.backtest.cron!r}" if schedule.backtest else ""
        progress(
            f"{config.name}: every night at {schedule.cron!r}{also} ({schedule.timezone}); "
            f"Prefect's UI is at {url}; Ctrl-C stops"
        )
    # The schedule stays when this process stops: a restart must not lose the night.
    run_when_due(*deployments, limit=1, pause_on_shutdown=False, print_starting_message=False)


def _backtests(config: Path, schedule: Schedule) -> RunnerDeployment:
    """The deployment that replays the latest nights."""
    from prefect.deployments.runner import EntrypointType
    from prefect.schedules import Cron

    from flows.backtest import backtest

    wanted = schedule.backtest
    assert wanted is not None
    parameters: dict[str, object] = {"config": str(config.resolve()), "nights": wanted.nights}
    if wanted.marks is not None:
        parameters["marks"] = str(wanted.marks.resolve())
    return cast(
        "RunnerDeployment",
        backtest.to_deployment(
            name=config.stem,
            description=f"The latest {wanted.nights} nights of {config.name}, replayed",
            schedule=Cron(wanted.cron, timezone=schedule.timezone),
            parameters=parameters,
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
    )
