"""Importance sampling of the deficit tail: common jumps happen more often in half of the paths.

A deficit needs a gap, and the gaps that exhaust a fund are common jumps: a handful in ten years. In
every second path they come `tilt` times as often; weights put the probabilities right again. Both
halves are used together (the balance heuristic [1]_), so no weight exceeds two before they are
scaled to add up to one.

References
----------
.. [1] E. Veach and L. Guibas, "Optimally combining sampling techniques for Monte Carlo rendering",
   SIGGRAPH 1995; A. Owen and Y. Zhou, "Safe and effective importance sampling", JASA 95, 2000.
"""

from __future__ import annotations

import numpy as np


def raw_weights(count: np.ndarray, expected: float, tilt: float) -> np.ndarray:
    """Likelihood ratio of each path, mean one.

    Parameters
    ----------
    count : ndarray of int (scenario,)
        Common jumps of each path.
    expected : float
        Their true mean number.
    tilt : float
        How many times as often they happen in half of the paths.

    Examples
    --------
    >>> raw_weights(np.array([0, 1, 2]), 0.01, 50.0).round(3).tolist()
    [1.24, 0.063, 0.001]
    """
    ratio = tilt ** count.astype("f8") * np.exp(-(tilt - 1) * expected)
    return 1 / (0.5 + 0.5 * ratio)
