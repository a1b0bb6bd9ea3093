"""Tail measures of P&L: value at risk, expected shortfall, their errors and their parts.

P&L is gain positive, losses are loss positive, results are losses positive; `confidence` lies in
(0, 1). Labelled arrays are measured along ``dim="scenario"``.
"""

from risk.measures.compare import ESTIMATES, compare_estimators, convergence
from risk.measures.contribution import (
    expected_shortfall_contributions,
    incremental,
    value_at_risk_contribution_errors,
    value_at_risk_contributions,
)
from risk.measures.cube import measure_cube
from risk.measures.dependence import (
    Design,
    Independent,
    Overlapping,
    Replicated,
    mirrored_pairs,
    replications,
)
from risk.measures.extreme import Tail, fit_tail
from risk.measures.intervals import (
    Interval,
    expected_shortfall_interval,
    value_at_risk_interval,
)
from risk.measures.parametric import (
    cornish_fisher_value_at_risk,
    normal_expected_shortfall,
    normal_value_at_risk,
    student_t_expected_shortfall,
    student_t_value_at_risk,
)
from risk.measures.precision import (
    HarrellDavis,
    expected_shortfall_standard_error,
    harrell_davis,
    value_at_risk_standard_error,
)
from risk.measures.samples import SampleError
from risk.measures.tail import expected_shortfall, value_at_risk
from risk.measures.weighting import age_weights, volatility_scaled

__all__ = [
    "ESTIMATES",
    "Design",
    "HarrellDavis",
    "Independent",
    "Interval",
    "Overlapping",
    "Replicated",
    "SampleError",
    "Tail",
    "age_weights",
    "compare_estimators",
    "convergence",
    "cornish_fisher_value_at_risk",
    "expected_shortfall",
    "expected_shortfall_contributions",
    "expected_shortfall_interval",
    "expected_shortfall_standard_error",
    "fit_tail",
    "harrell_davis",
    "incremental",
    "measure_cube",
    "mirrored_pairs",
    "normal_expected_shortfall",
    "normal_value_at_risk",
    "replications",
    "student_t_expected_shortfall",
    "student_t_value_at_risk",
    "value_at_risk",
    "value_at_risk_contribution_errors",
    "value_at_risk_contributions",
    "value_at_risk_interval",
    "value_at_risk_standard_error",
    "volatility_scaled",
]
