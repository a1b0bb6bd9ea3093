"""Levels of a tail in whole units of weight."""

from __future__ import annotations

import math

import numpy as np

from risk.errors import ConfigError, DataError
from risk.liquidation.tails.state import Levels

#: Weights that differ are rounded to multiples of this, which add up exactly in a float64.
_UNIT = 2.0**-52

#: A level is trusted to this precision before it is turned into a rank, as in `risk.measures`.
_SLACK = 1e-12


def whole_weights(
    weight: np.ndarray, var_confidence: float, es_confidence: float
) -> tuple[Levels, np.ndarray]:
    """The levels in whole units of weight, and every scenario's weight in them."""
    for level in (var_confidence, es_confidence):
        if not 0.0 < level < 1.0:
            raise ConfigError(f"a confidence must lie in (0, 1), such as 0.99; got {level}")
    n = len(weight)
    if not n:
        raise DataError("the driver record holds no scenario: no position has a tail")
    total = math.fsum(weight)
    if not (weight >= 0).all() or abs(total - 1.0) > 1e-9:
        raise DataError(f"weights must not be negative and add up to 1; they add up to {total:g}")
    if (weight == weight[0]).all():
        unit, whole = 1.0 / n, np.ones(n)
        limits = [n - math.ceil(n * (c - _SLACK)) for c in (var_confidence, es_confidence)]
    else:
        unit, whole = _UNIT, np.rint(weight / total / _UNIT)
        slack = _SLACK + n * np.finfo("f8").eps
        limits = [math.floor((1.0 - c + slack) / unit) for c in (var_confidence, es_confidence)]
    most = whole.sum() - 1.0
    var_limit, es_limit = (float(min(limit, most)) for limit in limits)
    return Levels(var_limit, es_limit, (1.0 - es_confidence) / unit, unit), whole
