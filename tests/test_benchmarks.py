"""Every benchmark runs, at toy size, and says of each budget whether it is kept."""

from __future__ import annotations

import importlib
import re

import numpy as np
import pytest

from benchmarks.__main__ import SECTIONS
from benchmarks.books import quiet_day
from benchmarks.table import verdict

#: Run in a process of its own, because it starts a night from the command line.
SLOW = {"benchmarks.night", "benchmarks.start"}
MODULES = [*SECTIONS.values(), "benchmarks.scale"]


@pytest.mark.parametrize(
    "module", [pytest.param(m, marks=pytest.mark.slow if m in SLOW else ()) for m in MODULES]
)
def test_a_benchmark_prints_a_verdict_beside_every_budget(module, capsys):
    importlib.import_module(module).main(["--toy"])
    lines = capsys.readouterr().out.splitlines()
    assert any("verdict" in line for line in lines)
    budgets = [line for line in lines if re.search(r"  [<>]=? [\d.,]+ ", line)]
    assert all(line.endswith(("kept", "MISSED")) for line in budgets)


@pytest.mark.parametrize(
    ("figure", "budget", "found"),
    [("4", "<= 4", "kept"), ("4.01", "<= 4", "MISSED"), ("1,000", ">= 1,000", "kept"),
     ("4", "< 4", "MISSED"), ("5", "> 4", "kept"), ("n/a", "", ""), ("1%", "x 3.1", "")],
)  # fmt: skip
def test_a_verdict_is_that_of_the_budget(figure, budget, found):
    assert verdict(figure, budget) == found


def test_a_quiet_day_of_the_benchmark_stays_between_its_low_and_its_high():
    day = quiet_day(100, 3)
    assert (day.low <= np.minimum(day["last"], 1.0)).all()
    assert (day.high >= np.maximum(day["last"], 1.0)).all()
