"""What Prefect and the log keep of a night or a backtest: its name, how it ended, its card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import get_client, runtime
from prefect.client.schemas import State, StateType
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.logging import get_run_logger
from prefect.states import Completed, Crashed

from flows.card import show_card, show_failure
from flows.notices import CONSOLE, log_file
from risk.errors import BulkheadError
from risk.store import Run
from risk.terminal import verdict


def begin(run_id: str, name: str, *, is_finished: bool) -> None:
    """Name the flow run after its work; put an end to those that were killed in the same work."""
    state = "is finished already" if is_finished else "begins"
    get_run_logger().info("%s, run %s: %s", name, run_id, state)
    with get_client(sync_client=True) as client:
        if not is_finished:  # then this process holds the lock: no other one is alive
            work = FlowRunFilter(
                tags=FlowRunFilterTags(all_=[run_id]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
            )
            for killed in client.read_flow_runs(flow_run_filter=work):
                message = "was killed; a later start went on where it was"
                client.set_flow_run_state(killed.id, Crashed(message=message), force=True)
        client.update_flow_run(
            runtime.flow_run.id,
            name=name,
            tags=[*runtime.flow_run.tags, run_id],
        )


def end(run: Run) -> State[str]:
    """Show the card, and name the state after the limits: a breach finishes, but is seen."""
    show_card(run)
    get_run_logger().info("%s: %s", verdict(run), run.path)
    name = "Breached" if run.breaches else "Completed"
    return Completed(name=name, message=f"{verdict(run)}: {run.path}", data=str(run.path))


@contextmanager
def recorded(log: Path, work: str) -> Iterator[None]:
    """Write the log file of the work; when it fails, say so wherever somebody looks."""
    with log_file(log):
        try:
            yield
        except Exception as error:
            get_run_logger().error("the %s failed: %s", work, sentence(error), exc_info=error)
            if runtime.deployment.id:  # nobody else tells the terminal that serves the schedule
                CONSOLE.print(f"the {work} failed: {sentence(error)}", markup=False, soft_wrap=True)
            show_failure(sentence(error), log, work)
            raise


def sentence(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, BulkheadError):
        return str(error)
    return f"{type(error).__name__}: {error}"
