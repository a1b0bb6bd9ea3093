"""The empirical measures beside other estimators, and how they settle as scenarios are added."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike
from scipy import stats

from risk.measures.dependence import Design
from risk.measures.extreme import fit_tail
from risk.measures.intervals import (
    dependent_ends,
    expected_shortfall_ends,
    value_at_risk_ends,
)
from risk.measures.parametric import (
    cornish_fisher_value_at_risk,
    normal_expected_shortfall,
    normal_value_at_risk,
    student_t_expected_shortfall,
    student_t_value_at_risk,
)
from risk.measures.precision import (
    expected_shortfall_standard_error,
    harrell_davis,
    value_at_risk_standard_error,
)
from risk.measures.samples import check_confidence, check_losses, check_weights
from risk.measures.tail import tail_of

#: One row per estimator; a null value is not available, for the reason in `note`.
ESTIMATES = pa.schema(
    [
        pa.field("measure", pa.string(), False),
        pa.field("confidence", pa.float64(), False),
        pa.field("estimator", pa.string(), False),
        pa.field("value", pa.float64(), True),
        pa.field("standard_error", pa.float64(), True),
        pa.field("note", pa.string(), True),
    ]
)

#: Share of the losses a generalised Pareto tail is fitted to, and the least number of them.
_TAIL, _LEAST = 0.05, 30

#: Fewest scenarios a picture of convergence begins with, and points to the decade.
_FIRST, _PER_DECADE = 100, 6


def compare_estimators(
    pnl: ArrayLike, confidence: float, es_confidence: float, *, weights: Any = None
) -> pa.Table:
    """Value at risk and expected shortfall by every estimator there is for the sample.

    Parameters
    ----------
    pnl : array_like (n,)
        P&L, gains positive.
    confidence, es_confidence : float
        Levels of the value at risk and of the expected shortfall.
    weights : array_like (n,), optional
        Probability of each scenario; only moments and the empirical measures use them.

    Returns
    -------
    Table
        Schema ``ESTIMATES``.

    Raises
    ------
    ValueError
        As `value_at_risk`.
    """
    level, es_level = check_confidence(confidence), check_confidence(es_confidence)
    losses = check_losses(pnl).ravel()
    gains = -losses
    chance = None if weights is None else check_weights(weights, losses.size)
    mean, sd, skew, excess = _moments(gains, chance)
    rows: list[dict[str, Any]] = []

    def add(measure: str, estimator: str, found: Callable[[], tuple[float, float | None]]) -> None:
        at = level if measure == "value_at_risk" else es_level
        row = {"measure": measure, "confidence": at, "estimator": estimator}
        try:
            value, error = found()
        except (ValueError, RuntimeError, FloatingPointError) as reason:
            rows.append(row | {"note": str(reason)})
            return
        if not math.isfinite(value):
            rows.append(row | {"note": "the estimator gives no finite number"})
            return
        known = error if error is not None and math.isfinite(error) else None
        rows.append(row | {"value": value, "standard_error": known})

    def equal() -> None:
        if chance is not None:
            raise ValueError("needs equally likely scenarios")

    def empirical() -> tuple[float, float | None]:
        value = float(tail_of(losses, level, chance)[0])
        return value, None if chance is not None else value_at_risk_standard_error(gains, level)

    def empirical_es() -> tuple[float, float | None]:
        value = float(tail_of(losses, es_level, chance)[1])
        error = None if chance is not None else expected_shortfall_standard_error(gains, es_level)
        return value, error

    def harrell() -> tuple[float, float | None]:
        equal()
        found = harrell_davis(losses, level)
        return found.value, found.standard_error

    def pareto(measure: str, at: float) -> tuple[float, float | None]:
        equal()
        ordered = np.sort(losses)
        n_tail = int(_TAIL * losses.size)
        if n_tail < _LEAST:
            raise ValueError(f"needs {_LEAST} losses in the worst {_TAIL:.0%}; there are {n_tail}")
        tail = fit_tail(losses, float(ordered[losses.size - n_tail - 1]))
        return float(getattr(tail, measure)(at)), None

    def degrees() -> float:
        if not excess > 0.0:
            raise ValueError("the sample's tails are no fatter than the normal's")
        return 4.0 + 6.0 / excess

    add("value_at_risk", "empirical, rank ceil(n c)", empirical)
    add("value_at_risk", "Harrell-Davis", harrell)
    add("value_at_risk", "generalised Pareto tail", lambda: pareto("value_at_risk", level))
    add("value_at_risk", "normal", lambda: (normal_value_at_risk(mean, sd, level), None))
    add("value_at_risk", "Student-t by its kurtosis",
        lambda: (student_t_value_at_risk(mean, sd, degrees(), level), None))  # fmt: skip
    add("value_at_risk", "Cornish-Fisher",
        lambda: (cornish_fisher_value_at_risk(mean, sd, skew, excess, level), None))  # fmt: skip
    add("expected_shortfall", "empirical, fractional tail", empirical_es)
    add("expected_shortfall", "generalised Pareto tail",
        lambda: pareto("expected_shortfall", es_level))  # fmt: skip
    add("expected_shortfall", "normal",
        lambda: (normal_expected_shortfall(mean, sd, es_level), None))  # fmt: skip
    add("expected_shortfall", "Student-t by its kurtosis",
        lambda: (student_t_expected_shortfall(mean, sd, degrees(), es_level), None))  # fmt: skip
    return pa.Table.from_pylist(rows, schema=ESTIMATES)


def convergence(
    pnl: ArrayLike,
    confidence: float,
    es_confidence: float,
    *,
    coverage: float = 0.95,
    design: Design | None = None,
) -> pa.Table:
    """Measures and intervals on the first n scenarios, for growing n.

    Parameters
    ----------
    pnl : array_like (n,)
        P&L of equally likely scenarios in the order they were drawn.
    confidence, es_confidence : float
    coverage : float
    design : Design, optional
        How the scenarios depend on each other; independent when absent.

    Returns
    -------
    Table
        `n`, `value_at_risk`, `expected_shortfall`, each with `_low` and `_high` (null: none).
    """
    level, es_level = check_confidence(confidence), check_confidence(es_confidence)
    losses = check_losses(pnl).ravel()
    n = losses.size
    if n < _FIRST:
        sizes = [n]
    else:
        decades = math.log10(n / _FIRST)
        grid = np.geomspace(_FIRST, n, max(int(decades * _PER_DECADE) + 1, 2))
        sizes = sorted({round(size) for size in grid})
    rows = []
    for size in sizes:
        part = np.sort(losses[:size])
        value = float(tail_of(part, level, None)[0])
        shortfall = float(tail_of(part, es_level, None)[1])
        if design is None:
            ends = (
                value_at_risk_ends(part, level, coverage),
                expected_shortfall_ends(part, es_level, coverage),
            )
        else:
            some, first = losses[:size], design.first(size)
            ends = (
                dependent_ends(some, level, coverage, None, first)[0],
                dependent_ends(some, es_level, coverage, None, first)[1],
            )
        kept = [float(end) if np.isfinite(end) else None for pair in ends for end in pair]
        rows.append(
            {
                "n": size,
                "value_at_risk": value,
                "value_at_risk_low": kept[0],
                "value_at_risk_high": kept[1],
                "expected_shortfall": shortfall,
                "expected_shortfall_low": kept[2],
                "expected_shortfall_high": kept[3],
            }
        )
    names = ("value_at_risk", "expected_shortfall")
    columns = [("n", pa.int64())]
    columns += [(name + end, pa.float64()) for name in names for end in ("", "_low", "_high")]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def _moments(gains: np.ndarray, chance: np.ndarray | None) -> tuple[float, float, float, float]:
    """Mean, standard deviation, skewness and excess kurtosis of the P&L."""
    if chance is None:
        sd = float(gains.std(ddof=1)) if gains.size > 1 else 0.0
        if sd == 0.0:
            return float(gains.mean()), 0.0, 0.0, 0.0
        return float(gains.mean()), sd, float(stats.skew(gains)), float(stats.kurtosis(gains))
    mean = float(chance @ gains)
    centred = gains - mean
    sd = math.sqrt(float(chance @ centred**2))
    if sd == 0.0:
        return mean, 0.0, 0.0, 0.0
    scaled = centred / sd
    return mean, sd, float(chance @ scaled**3), float(chance @ scaled**4) - 3.0
