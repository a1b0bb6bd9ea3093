"""The backtests reproduce published figures to their printed precision."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import yaml

import risk.backtest as backtest

FIGURES = yaml.safe_load((Path(__file__).parent / "reference" / "backtest.yaml").read_text())


def hits_with_the_printed_transitions() -> dict:
    """53 runs of exceedances in 1043 days, four of them two days long: 932, 53, 53 and 4."""
    hits = np.zeros(1043)
    hits[10 : 10 + 18 * 53 : 18] = 1
    hits[11 : 11 + 18 * 4 : 18] = 1
    return {"hits": hits}


def seven_isolated_hits() -> dict:
    hits = np.zeros(300)
    hits[5:54:7] = 1
    return {"hits": hits}


def losses_with_the_printed_severity() -> dict:
    """Of 1966 days 57 exceed; a loss is 1.4221 times the value at risk, the shortfall 1.1928."""
    losses = np.where(np.arange(1966) < 57, 1.4221, 0.0)
    return {"losses": losses, "value_at_risk": 1.0, "expected_shortfall": 1.1928}


def pit_with_the_mean_violation(mean: float, confidence: float, n: int = 1966) -> dict:
    a, total = 1 - confidence, mean * n
    whole = int(total)
    pit = np.full(n, 0.5)
    pit[:whole] = 0.0
    pit[whole] = a * (1 - (total - whole))
    return {"pit": pit}


SERIES = {
    "matlab_hits": hits_with_the_printed_transitions,
    "seven_of_300": seven_isolated_hits,
    "matlab_severity": losses_with_the_printed_severity,
}


def region(n_observations: int, confidence: float) -> list[int | None]:
    """Counts just outside those the proportion-of-failures test accepts at 95 %."""
    accepted = [
        x
        for x in range(n_observations // 2)
        if backtest.kupiec(x, n_observations, confidence).p_value > 0.05
    ]
    return [min(accepted) - 1 if min(accepted) else None, max(accepted) + 1]


@pytest.mark.parametrize(
    "figure", FIGURES, ids=lambda figure: f"{figure['call']}-{figure['expected']}"
)
def test_a_published_figure_is_reproduced_to_its_printed_precision(figure):
    arguments = dict(figure["with"])
    if figure["call"] == "kupiec_region":
        assert region(**arguments) == figure["expected"]
        return
    if "mean" in arguments:
        arguments |= pit_with_the_mean_violation(arguments.pop("mean"), arguments["confidence"])
    if "series" in figure:
        arguments |= SERIES[figure["series"]]()
    found = attrgetter(figure["field"])(getattr(backtest, figure["call"])(**arguments))
    if isinstance(found, str):
        assert found == figure["expected"]
    else:
        assert found == pytest.approx(figure["expected"], rel=0, abs=figure["within"] * 1.0001)
    assert figure["source"]
