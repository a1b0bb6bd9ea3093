"""Compiled steps of a Monte Carlo path: correlated diffusion with its extremes, then jumps.

Everything is in logarithms of the price ratio, on (asset, scenario), one tile of scenarios at a
time so that it stays in the processor's cache. The loops run in a fixed order and without fused or
reassociated arithmetic: the bytes do not depend on threads, which a matrix product's may.
"""

from __future__ import annotations

import numpy as np

from risk.compiled import njit


@njit
def diffuse(
    normal: np.ndarray,
    reach_low: np.ndarray,
    reach_high: np.ndarray,
    factor: np.ndarray,
    variance: np.ndarray,
    mixing: np.ndarray,
    root: np.ndarray,
    last: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """Advance every path by one step, in place.

    Given its ends, a Brownian bridge of variance v has minimum (a + b - sqrt((b - a)^2 + 2 v E))/2
    with E standard exponential, and likewise its maximum.

    Parameters
    ----------
    normal, reach_low, reach_high : ndarray (asset, scenario)
        Independent standard normals and standard exponentials.
    factor : ndarray (asset, asset)
        Lower Cholesky factor of the covariance of one step.
    variance : ndarray (asset,)
        Its diagonal.
    mixing, root : ndarray (asset, scenario)
        Multiplier of the variance on this day, and its square root.
    last, low, high : ndarray (asset, scenario)
        Changed in place.
    """
    n_assets, n = normal.shape
    move = np.empty(n)
    for i in range(n_assets):
        move[:] = 0.0
        j = 0
        while j + 4 <= i + 1:
            w0, w1, w2, w3 = factor[i, j], factor[i, j + 1], factor[i, j + 2], factor[i, j + 3]
            z0, z1, z2, z3 = normal[j], normal[j + 1], normal[j + 2], normal[j + 3]
            for s in range(n):
                move[s] += w0 * z0[s] + w1 * z1[s] + w2 * z2[s] + w3 * z3[s]
            j += 4
        while j <= i:
            w0, z0 = factor[i, j], normal[j]
            for s in range(n):
                move[s] += w0 * z0[s]
            j += 1
        v, mixed, widened = variance[i], mixing[i], root[i]
        x, down, up = last[i], low[i], high[i]
        e_low, e_high = reach_low[i], reach_high[i]
        for s in range(n):
            spread = v * mixed[s]
            # The compensator uses the day's own variance: the price has mean one given the mixing,
            # where an average one would leave an infinite mean under Student-t.
            step = widened[s] * move[s] - 0.5 * spread
            middle = x[s] + 0.5 * step
            end = x[s] + step
            square = step * step
            bottom = middle - 0.5 * np.sqrt(square + 2.0 * spread * e_low[s])
            top = middle + 0.5 * np.sqrt(square + 2.0 * spread * e_high[s])
            bottom = bottom if bottom < end else end
            top = top if top > end else end
            x[s] = end
            down[s] = bottom if bottom < down[s] else down[s]
            up[s] = top if top > up[s] else up[s]


@njit
def correlate(factor: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Matrix product in a fixed order (asset, scenario); BLAS may change it with its threads."""
    n_assets, n = normal.shape
    out = np.zeros((n_assets, n))
    for i in range(n_assets):
        for j in range(factor.shape[1]):
            w = factor[i, j]
            if w != 0.0:
                for s in range(n):
                    out[i, s] += w * normal[j, s]
    return out


@njit
def jump(
    asset: np.ndarray,
    scenario: np.ndarray,
    size: np.ndarray,
    last: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    gap: np.ndarray,
    before: np.ndarray,
    landing: np.ndarray,
    n_gaps: int,
) -> int:
    """Apply jumps in their order, in place; record those that set a new extreme.

    Parameters
    ----------
    asset, scenario, size : ndarray (jump,)
        Which path, and the log size.
    last, low, high : ndarray (asset, scenario)
        Changed in place.
    gap : ndarray (gap, 3)
        Scenario, asset and direction of each gap; filled from row `n_gaps`.
    before, landing : ndarray (gap,)
        Running extreme before the jump, and where it lands.
    n_gaps : int
        Gaps recorded so far.

    Returns
    -------
    int
        Gaps recorded after these jumps.
    """
    for k in range(len(size)):
        i, s = asset[k], scenario[k]
        end = last[i, s] + size[k]
        last[i, s] = end
        if end < low[i, s]:
            gap[n_gaps] = s, i, -1
            before[n_gaps], landing[n_gaps] = low[i, s], end
            low[i, s] = end
            n_gaps += 1
        elif end > high[i, s]:
            gap[n_gaps] = s, i, 1
            before[n_gaps], landing[n_gaps] = high[i, s], end
            high[i, s] = end
            n_gaps += 1
    return n_gaps
