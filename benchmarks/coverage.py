"""How often the stated intervals hold the true value, over repeated seeds of known laws.

Prints the tables of ``docs/methods/intervals.md``: ``python -m benchmarks.coverage`` takes some
minutes. Every sample is of independent, equally likely scenarios.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from scipy import stats

from risk.measures import (
    expected_shortfall_interval,
    harrell_davis,
    value_at_risk_interval,
    value_at_risk_standard_error,
)

LAWS: dict[str, Any] = {
    "normal": stats.norm(),
    "Student, 5": stats.t(5),
    "Student, 4": stats.t(4),
    "Student, 3": stats.t(3),
    "lognormal": stats.lognorm(1.0),
}
LEVELS = (0.975, 0.99)
SIZES = (500, 1000)


def true_shortfall(law: Any, level: float) -> float:
    """Mean of the losses beyond the level's quantile, by integration over the probability."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    # Substituted by the fourth power: the quantile may be infinite at the end.
    u = 0.5 * (nodes + 1.0)
    values = law.isf((1.0 - level) * u**4) * 4.0 * u**3
    return float(0.5 * (weights * values).sum())


def coverage(law: Any, level: float, n: int, seeds: int) -> dict[str, float]:
    """Share of samples, in percent, whose interval holds the true value."""
    value, shortfall = float(law.ppf(level)), true_shortfall(law, level)
    z = float(stats.norm.ppf(0.975))
    held = dict.fromkeys(("order statistics", "kernel", "Harrell-Davis", "expected shortfall"), 0)
    for seed in range(seeds):
        pnl = -law.rvs(n, random_state=np.random.default_rng(seed))
        ends = value_at_risk_interval(pnl, level)
        high = math.inf if ends.high is None else ends.high
        held["order statistics"] += ends.low <= value <= high
        ends = expected_shortfall_interval(pnl, level)
        held["expected shortfall"] += ends.low is None or ends.low <= shortfall <= ends.high
        middle = np.sort(-pnl)[math.ceil(n * level - 1e-9) - 1]
        held["kernel"] += bool(abs(middle - value) <= z * value_at_risk_standard_error(pnl, level))
        smooth = harrell_davis(-pnl, level)
        held["Harrell-Davis"] += abs(smooth.value - value) <= z * smooth.standard_error
    return {name: 100.0 * count / seeds for name, count in held.items()}


def main(arguments: list[str]) -> None:
    """Print coverage by law, level and size."""
    seeds = 20 if "--small" in arguments else 1000
    print(f"coverage of stated 95 % intervals in percent, {seeds} seeds")
    print("| law | level | n | order statistics | kernel | Harrell-Davis | expected shortfall |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, law in LAWS.items():
        for level in LEVELS:
            for n in SIZES:
                found = coverage(law, level, n, seeds)
                cells = " | ".join(f"{share:.1f}" for share in found.values())
                print(f"| {name} | {100 * level:g} % | {n:,} | {cells} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
