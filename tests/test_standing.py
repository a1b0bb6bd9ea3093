"""Limits from one night to the next: new, continuing, cured, and never silently lost."""

from __future__ import annotations

import datetime as dt
from collections import namedtuple

import pyarrow as pa
import pytest

from risk.reports.limits import Limit
from risk.schema import FACTS
from risk.standing import limit_changes, previous_night
from tests.makers import AS_OF


def facts(**values):
    """Facts of one night: measure x at some value."""
    rows = [
        {"fact_id": name, "value": value, "unit": "USD", "decimals": 0, "scope": "", "as_of": AS_OF}
        for name, value in values.items()
    ]
    return pa.Table.from_pylist(rows, schema=FACTS)


def limit(name="VaR", measure="x", **changes):
    rules = {"scope": "whole book", "warning": 80.0, "breach": 100.0, "owner": "desk", **changes}
    return Limit(name=name, measure=measure, **rules)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (50, 120, "new"),
        (90, 120, "new"),  # a warning that became a breach
        (120, 130, "continuing"),
        (130, 90, "eased"),
        (130, 50, "cured"),
        (50, 90, "new"),
        (85, 95, "continuing"),
        (90, 10, "cured"),
        (10, 20, None),
        (120, None, "lost"),
        (None, 120, "new"),
    ],
)
def test_what_became_of_a_limit(before, after, expected):
    (row,) = limit_changes((limit(),), facts(x=before), facts(x=after)).to_pylist()
    assert row["change"] == expected
    assert (row["value_before"], row["value"]) == (before, after)


def test_the_first_night_has_no_night_before_it():
    table = limit_changes((limit(), limit("ES", "y")), None, facts(x=120, y=1))
    rows = {row["limit"]: row for row in table.to_pylist()}
    assert rows["VaR"]["change"] == "new"
    assert rows["ES"]["change"] is None
    assert {row["state_before"] for row in rows.values()} == {"no night"}


def test_a_fact_that_is_gone_is_lost_and_not_cured():
    (row,) = limit_changes((limit(),), facts(x=120), facts(y=1)).to_pylist()
    assert (row["state"], row["change"]) == ("not evaluated", "lost")


def test_tonights_limits_judge_both_nights():
    """The limit was lowered from 200 to 100: 120 was a breach yesterday too, by tonight's rule."""
    (row,) = limit_changes((limit(),), facts(x=120), facts(x=120)).to_pylist()
    assert row["change"] == "continuing"


def test_a_limit_from_below_is_crossed_from_above():
    floor = limit("Coverage", side="below", warning=99.5, breach=99.0)
    (row,) = limit_changes((floor,), facts(x=99.9), facts(x=98.0)).to_pylist()
    assert (row["state"], row["change"]) == ("breach", "new")


def test_breaches_come_first():
    table = limit_changes(
        (limit("a", "x"), limit("b", "y"), limit("c", "z")), None, facts(x=1, y=90, z=100)
    )
    assert table["limit"].to_pylist() == ["c", "b", "a"]


def test_the_previous_night_is_an_earlier_one_and_its_last_run():
    run = namedtuple("run", "as_of name")
    day = dt.timedelta(days=1)
    runs = [run(AS_OF - 2 * day, "old"), run(AS_OF - day, "first"), run(AS_OF - day, "again"),
            run(AS_OF, "tonight with other settings")]  # fmt: skip
    assert previous_night(runs, AS_OF).name == "again"
    assert previous_night(runs[:1], AS_OF).name == "old"
    assert previous_night(runs, AS_OF - 2 * day) is None
