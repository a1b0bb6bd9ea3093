"""How tonight's limits stand against the last night's: new, continuing, cured."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

import pyarrow as pa

from risk.reports.limits import NO_NIGHT, Limit, change, evaluate_limits

_TEXT, _NUMBER = pa.string(), pa.float64()

STANDING = pa.schema(
    [
        pa.field("limit", _TEXT, False),
        pa.field("scope", _TEXT, False),
        pa.field("owner", _TEXT, False),
        pa.field("measure", _TEXT, False),
        pa.field("value_before", _NUMBER),
        pa.field("value", _NUMBER),
        pa.field("warning", _NUMBER, False),
        pa.field("breach", _NUMBER, False),
        pa.field("state_before", _TEXT, False),
        pa.field("state", _TEXT, False),
        pa.field("change", _TEXT),
    ]
)


class _Dated(Protocol):
    @property
    def as_of(self) -> dt.date: ...


_Night = TypeVar("_Night", bound=_Dated)


def previous_night(runs: Iterable[_Night], as_of: dt.date) -> _Night | None:
    """The last finished run of an earlier night, or None.

    Parameters
    ----------
    runs : iterable of runs
        As `risk.store.list_runs` gives them: by as-of date, then in the order they finished.
    as_of : date
        Tonight. Another run of the same night is no previous one.
    """
    earlier = [run for run in runs if run.as_of < as_of]
    return earlier[-1] if earlier else None


def limit_changes(limits: tuple[Limit, ...], before: pa.Table | None, after: pa.Table) -> pa.Table:
    """State of every limit on two nights and what became of it.

    Parameters
    ----------
    limits : tuple of Limit
        Tonight's inventory: it judges both nights, so that a changed limit is no change of risk.
    before, after : Table
        Facts (`risk.schema.FACTS`) of the previous finished run, None for the first night, and
        of tonight.

    Returns
    -------
    Table
        Schema STANDING, breaches first, then warnings. `change` is about the level the limit has
        crossed, the breach or the warning: ``new``, ``continuing``, ``eased`` (a breach became a
        warning), ``cured``, ``lost`` (crossed before, not evaluated tonight: nobody knows), or
        null where nothing was and is crossed.
    """
    old = {} if before is None else _values(before)
    was = {
        state.limit.name: (NO_NIGHT if before is None else state.state, state.value)
        for state in evaluate_limits(limits, old)
    }
    rows = []
    for state in evaluate_limits(limits, _values(after)):
        limit = state.limit
        state_before, value_before = was[limit.name]
        rows.append(
            {
                "limit": limit.name,
                "scope": limit.where,
                "owner": limit.owner,
                "measure": limit.measure,
                "value_before": value_before,
                "value": state.value,
                "warning": limit.warning,
                "breach": limit.breach,
                "state_before": state_before,
                "state": state.state,
                "change": change(state_before, state.state),
            }
        )
    return pa.Table.from_pylist(rows, schema=STANDING)


def _values(facts: pa.Table) -> Mapping[str, float | None]:
    return dict(zip(facts["fact_id"].to_pylist(), facts["value"].to_pylist(), strict=True))
