"""The joint search of reverse stress: the breach nearest to today, along rays that are turned.

It works in whitened space, where distance is Mahalanobis distance, and sees only a function from
moves (scenario, asset) to the share of targets used up. Method: ``docs/methods/reverse.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Part of the random key of the search.
SCHEME = 1

#: Points of the first pass along a ray.
POINTS = 32

#: Rounds of turning the ray, and least gain to go on turning as widely.
ROUNDS, GAIN = 12, 1e-3

#: Points on a turned ray, which is looked at from half the distance known so far, and how often
#: the end of the one that is kept is narrowed.
TURNED, SETTLED = 16, 3

#: From moves (scenario, asset) to the share of every target used up, or of one.
Used = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Bounds:
    """How far a move may go, as fractions of the mark."""

    fall: float = -0.95
    rise: float = 3.0


def directions(best: np.ndarray, factor: np.ndarray, seed: int) -> np.ndarray:
    """Rays the joint search starts from, in whitened space (ray, asset).

    Every asset's most plausible joint move given its own, both ways; the principal components;
    the simple moves found for any target; and a few random ones.
    """
    n = len(factor)
    covariance = factor @ factor.T
    given = np.linalg.solve(factor, covariance / np.sqrt(np.diag(covariance))).T
    components = np.linalg.solve(factor, np.linalg.eigh(covariance)[1]).T
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(SCHEME,))))
    simple = best.reshape(-1, n)
    simple = simple[np.isfinite(simple).all(axis=1)]
    own = np.linalg.solve(factor, np.log1p(simple).T).T
    others = (given, -given, components, -components, rng.standard_normal((n, n)))
    return _unit(np.vstack([own, *others]))


def nearest_breach(
    quick: Used,
    used: Used,
    factor: np.ndarray,
    rays: np.ndarray,
    radius: np.ndarray,
    simple: np.ndarray,
    bounds: Bounds,
    seed: int,
) -> np.ndarray:
    """Moves (asset,) of the breach nearest to the origin in whitened space; NaN if there is none.

    The nearest of the starting rays is turned towards the steepest ascent at its end, as in
    first-order reliability methods [1]_, and at random; it is kept when its end comes nearer. The
    turning asks `quick`, the end is settled by `used`; no answer is farther than the target's own
    `simple` ones (move, asset).

    References
    ----------
    .. [1] R. Rackwitz and B. Fiessler, "Structural reliability under combined random load
       sequences", Computers and Structures 9, 1978.
    """
    n = len(factor)
    known = np.linalg.solve(factor, np.log1p(simple).T).T
    length = np.linalg.norm(known, axis=1)
    best, reach = np.full(n, np.nan), np.inf
    if len(known):
        best, reach = simple[np.argmin(length)], float(length.min())
    if np.isfinite(radius).any():
        place = int(np.nanargmin(radius))
        ray, nearest = _turn(quick, factor, rays[place], float(radius[place]), bounds, seed)
        settled = _settle(used, factor, ray, nearest, bounds)
        if settled < reach:
            best = np.expm1(factor @ (ray * settled))
    return best


def _turn(
    quick: Used,
    factor: np.ndarray,
    ray: np.ndarray,
    nearest: float,
    bounds: Bounds,
    seed: int,
) -> tuple[np.ndarray, float]:
    """The ray turned to where its breach comes nearest, and how near."""
    n = len(factor)
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(SCHEME, n))))
    spread = 0.5
    for _ in range(ROUNDS):
        up = _steepest(quick, factor, ray * nearest, bounds)
        turns = [ray + k * (up - ray) for k in (0.1, 0.25, 0.5, 1.0)] if up is not None else []
        turns += list(ray + spread * rng.standard_normal((12, n)) / np.sqrt(n))
        # Less of what does not matter: each asset's own share of the move taken out.
        turns += list(_without(ray, factor))
        tried = _unit(np.array(turns))
        low, high = np.full(len(tried), 0.5 * nearest), np.full(len(tried), nearest)
        found = _narrow(quick, factor, tried, low, np.minimum(high, _end(tried, factor, bounds)), 2)
        if np.isfinite(found).any() and np.nanmin(found) < nearest * (1 - GAIN):
            place = int(np.nanargmin(found))
            ray, nearest = tried[place], float(found[place])
        elif spread < 0.02:
            break
        else:
            spread /= 2
    return ray, nearest


def _settle(
    used: Used,
    factor: np.ndarray,
    ray: np.ndarray,
    nearest: float,
    bounds: Bounds,
) -> float:
    """The first breach on a ray around where it is expected, else anywhere; NaN if none."""
    end = float(_end(ray[None], factor, bounds)[0])
    near, beyond = nearest * (1 - 1 / TURNED), min(nearest * (1 + 1 / TURNED), end)
    for low, high in ((near, nearest), (nearest, beyond), (0.0, end)):
        found = _narrow(used, factor, ray[None], np.array([low]), np.array([high]), SETTLED)[0]
        if np.isfinite(found):
            return float(found)
    return np.nan


def first_breaches(
    used: Used,
    factor: np.ndarray,
    rays: np.ndarray,
    bounds: Bounds,
    n_targets: int,
) -> np.ndarray:
    """Distance of the first breach of every target on every ray (ray, target), to `POINTS`."""
    end = _end(rays, factor, bounds)
    fraction = np.arange(1, POINTS + 1) / POINTS
    logs = (rays @ factor.T)[:, None, :] * (end[:, None] * fraction)[:, :, None]
    share = used(np.expm1(logs).reshape(-1, rays.shape[1]))
    breach = share.reshape(len(rays), POINTS, n_targets) >= 1
    first = fraction[breach.argmax(axis=1)] * end[:, None]
    return np.where(breach.any(axis=1), first, np.nan)


def _narrow(
    used: Used,
    factor: np.ndarray,
    rays: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    passes: int,
) -> np.ndarray:
    """First breach between two distances on every ray (ray,); NaN where there is none."""
    logs = rays @ factor.T
    alive = high > low
    low, high = low.copy(), np.where(alive, high, np.nan)
    for _ in range(passes):
        at = np.flatnonzero(alive)
        if not len(at):
            break
        fraction = np.arange(1, TURNED + 1) / TURNED
        tried = low[at, None] + (high - low)[at, None] * fraction
        tried[:, -1] = high[at]
        moves = np.expm1(tried[:, :, None] * logs[at][:, None, :])
        breach = used(moves.reshape(-1, rays.shape[1])).reshape(len(at), TURNED) >= 1
        alive[at] = breach.any(axis=1)
        row, first = np.arange(len(at)), breach.argmax(axis=1)
        high[at] = np.where(alive[at], tried[row, first], np.nan)
        low[at] = np.where(first > 0, tried[row, np.maximum(first - 1, 0)], low[at])
    return np.where(alive, high, np.nan)


def _end(rays: np.ndarray, factor: np.ndarray, bounds: Bounds) -> np.ndarray:
    """How far every ray goes before some asset leaves the bounds (ray,)."""
    logs = rays @ factor.T
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.where(logs < 0, np.log1p(bounds.fall) / logs, np.log1p(bounds.rise) / logs)
    return np.where(logs == 0, np.inf, limit).min(axis=1)


def _steepest(
    used: Used,
    factor: np.ndarray,
    point: np.ndarray,
    bounds: Bounds,
) -> np.ndarray | None:
    """Direction of steepest ascent of the share used, at a point of whitened space."""
    step = 0.02 * np.linalg.norm(point)
    around = point + step * np.vstack([np.eye(len(point)), -np.eye(len(point))])
    moves = np.clip(np.expm1(around @ factor.T), bounds.fall, bounds.rise)
    share = used(moves)
    slope = share[: len(point)] - share[len(point) :]
    length = np.linalg.norm(slope)
    return slope / length if np.isfinite(length) and length > 0 else None


def _without(ray: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The ray with each asset left to what the others imply (asset, asset)."""
    moves = factor @ ray
    precision = np.linalg.inv(factor @ factor.T)
    out = np.tile(moves, (len(ray), 1))
    for place in range(len(ray)):
        others = np.delete(np.arange(len(ray)), place)
        implied = -precision[place, others] @ moves[others] / precision[place, place]
        out[place, place] = implied
    return np.linalg.solve(factor, out.T).T


def _unit(rays: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    return rays[length[:, 0] > 0] / length[length[:, 0] > 0]
