"""Reverse stress: the smallest moves that exhaust a fund or breach a limit.

The search sees only a function from drivers to how much of each target is used up (1: exhausted),
so it works on whatever walks the book. Every answer is priced again by whoever asks for it.
Method, resolution and what "no move does" means: ``docs/methods/reverse.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import xarray as xr
from scipy import stats

from risk.scenarios.grids import move_drivers
from risk.scenarios.profiles import OwnExhaustion, Profiles

#: From a driver record to the share of every target used up (scenario, target).
Exhaustion = Callable[[xr.Dataset], np.ndarray]

#: Part of the random key of the joint search.
SCHEME = 1

#: Step of the first pass over common and single moves.
STEP = 0.01

#: Points of the first pass along a ray.
POINTS = 32

#: Points per pass when the bracket of a common or single move is narrowed, and how many passes.
NARROWER, PASSES = 8, 5

#: Rounds of turning the ray of the joint search, and least gain to go on turning as widely.
ROUNDS, GAIN = 12, 1e-3

#: Points on a turned ray, which is looked at from half the distance known so far, and how often
#: the end of the one that is kept is narrowed.
TURNED, SETTLED = 16, 3

SEARCHES = ("common_fall", "common_rise", "single_fall", "single_rise", "joint")


@dataclass(frozen=True)
class Bounds:
    """How far a move may go, as fractions of the mark."""

    fall: float = -0.95
    rise: float = 3.0


def reverse_stress(
    exhaustion: Exhaustion,
    targets: Sequence[str],
    assets: Sequence[str],
    covariance: np.ndarray,
    *,
    gap: float,
    bounds: Bounds | None = None,
    seed: int = 0,
    df: float = np.inf,
    own: OwnExhaustion | None = None,
    verify: Exhaustion | None = None,
) -> xr.Dataset:
    """Smallest common, smallest single-asset and most plausible joint move, for every target.

    Parameters
    ----------
    exhaustion : callable
        From a driver record to (scenario, target): deficit over fund, or value over limit; a
        breach is 1 or more. It need not be monotone.
    targets : sequence of str
    assets : sequence of str
    covariance : ndarray (asset, asset)
        Of the assets' log moves over the horizon; positive definite.
    gap : float
        Share of each excursion that lands as one jump.
    bounds : Bounds, optional
        Moves looked at.
    seed : int
        Of the directions tried in the joint search.
    df : float
        Degrees of freedom of the Student-t that turns a distance into a probability.
    own : callable, optional
        From a driver record to (scenario, asset, target), where `exhaustion` is its sum over the
        assets in every straight move: the joint search then reads a table made of one walk, and
        asks `exhaustion` about its answers only.
    verify : callable, optional
        An independent `exhaustion` the answers are priced with again.

    Returns
    -------
    Dataset (target, search)
        `found`; `move` (target, search, asset) as fractions of the mark; `asset_moved` of the
        single-asset searches; `exhaustion` at the move, and `verified`, the same by `verify`;
        `distance`, Mahalanobis, in standard
        deviations; `probability` that a day lies as far out in any direction. NaN (and an empty
        name) where no move within the bounds does it: that is an answer.
    """
    bounds = bounds or Bounds()
    n_targets, n_assets = len(targets), len(assets)

    def drivers_of(moves: np.ndarray) -> xr.Dataset:
        label = [f"move {i}" for i in range(len(moves))]
        return move_drivers(assets, moves, gap=gap, label=label)

    def used(moves: np.ndarray) -> np.ndarray:
        return exhaustion(drivers_of(moves))

    @cache
    def ladder(limit: float) -> tuple[np.ndarray, np.ndarray]:
        """Common moves in steps of `STEP`, and what each asset's part of them uses up."""
        assert own is not None
        amounts = _steps(limit)
        return amounts, own(drivers_of(np.repeat(amounts[:, None], n_assets, axis=1)))

    best = np.full((n_targets, len(SEARCHES), n_assets), np.nan)
    moved = np.full((n_targets, len(SEARCHES)), "", object)
    for column, (limit, pattern) in enumerate(
        (
            (bounds.fall, np.ones((1, n_assets))),
            (bounds.rise, np.ones((1, n_assets))),
            (bounds.fall, np.eye(n_assets)),
            (bounds.rise, np.eye(n_assets)),
        )
    ):
        if own is None:
            amounts, share = _first_pass(used, pattern, limit)
        else:
            amounts, alone = ladder(limit)
            share = np.einsum("pa,nat->npt", pattern, alone)
        size = _smallest(used, pattern, amounts, share)
        # Ties between assets within the resolution go to the first in order.
        which = np.argmin(np.where(np.isnan(size), np.inf, np.abs(size)), axis=0)
        for target in range(n_targets):
            amount = size[which[target], target]
            if np.isfinite(amount):
                best[target, column] = amount * pattern[which[target]]
                if len(pattern) > 1:
                    moved[target, column] = assets[which[target]]
    factor = np.linalg.cholesky(covariance)
    quick = used
    if own is not None and n_targets:
        quick = Profiles(own, assets, fall=bounds.fall, rise=bounds.rise, gap=gap)
    rays = _directions(best, factor, seed)
    radius = _first_on(quick, factor, rays, bounds, n_targets)
    for target in range(n_targets):
        own_moves = best[target][np.isfinite(best[target]).all(axis=1)]
        best[target, -1] = _joint(
            _only(quick, target), _only(used, target), factor, rays, radius[:, target],
            own_moves, bounds, seed,
        )  # fmt: skip
    found = np.isfinite(best).all(axis=2)
    share, verified = (
        _own_share(priced, drivers_of, best, found) for priced in (exhaustion, verify or exhaustion)
    )
    return _result(best, moved, share, verified, targets, assets, factor, df)


def _only(
    used: Callable[[np.ndarray], np.ndarray], target: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The share of one target alone (scenario,)."""
    return lambda moves: used(moves)[:, target]


def _steps(limit: float) -> np.ndarray:
    """Amounts up to a limit, in steps of about `STEP`."""
    n = max(int(np.ceil(abs(limit) / STEP - 1e-9)), 1)
    return np.linspace(limit / n, limit, n)


def _first_pass(
    used: Callable[[np.ndarray], np.ndarray], pattern: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Amounts, and what each pattern of moves uses up (amount, pattern, target)."""
    amounts = _steps(limit)
    moves = amounts[:, None, None] * pattern
    share = used(moves.reshape(-1, pattern.shape[1]))
    return amounts, share.reshape(len(amounts), len(pattern), share.shape[1])


def _smallest(
    used: Callable[[np.ndarray], np.ndarray],
    pattern: np.ndarray,
    amounts: np.ndarray,
    share: np.ndarray,
) -> np.ndarray:
    """Smallest amount of a pattern of moves that breaches each target (pattern, target).

    The first pass brackets the first breach; narrower passes move its end down, of those patterns
    alone that come first for some target. The others are NaN.
    """
    breach = share >= 1
    first = np.where(breach.any(axis=0), breach.argmax(axis=0), len(amounts))
    leads = (first == first.min(axis=0)) & (first < len(amounts))
    high = np.where(leads, amounts[np.minimum(first, len(amounts) - 1)], np.nan)
    low = np.where(first > 0, amounts[np.maximum(first - 1, 0)], 0.0)
    rows, columns = np.nonzero(leads)
    for _ in range(PASSES if len(rows) else 0):
        fraction = np.arange(1, NARROWER + 1) / NARROWER
        a, b = low[rows, columns], high[rows, columns]
        tried = a[:, None] + (b - a)[:, None] * fraction
        tried[:, -1] = b  # the known breach, to the last digit
        moves = tried[:, :, None] * pattern[rows][:, None, :]
        found = used(moves.reshape(-1, pattern.shape[1]))
        own = found.reshape(len(rows), NARROWER, -1)[np.arange(len(rows)), :, columns] >= 1
        at = np.where(own.any(axis=1), own.argmax(axis=1), NARROWER - 1)
        high[rows, columns] = tried[np.arange(len(rows)), at]
        before = tried[np.arange(len(rows)), np.maximum(at - 1, 0)]
        low[rows, columns] = np.where(at > 0, before, a)
    return high


def _directions(best: np.ndarray, factor: np.ndarray, seed: int) -> np.ndarray:
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


def _joint(
    quick: Callable[[np.ndarray], np.ndarray],
    used: Callable[[np.ndarray], np.ndarray],
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
    quick: Callable[[np.ndarray], np.ndarray],
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
    used: Callable[[np.ndarray], np.ndarray],
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


def _first_on(
    used: Callable[[np.ndarray], np.ndarray],
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
    used: Callable[[np.ndarray], np.ndarray],
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
    used: Callable[[np.ndarray], np.ndarray],
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


def _own_share(
    exhaustion: Exhaustion,
    drivers_of: Callable[[np.ndarray], xr.Dataset],
    best: np.ndarray,
    found: np.ndarray,
) -> np.ndarray:
    """What each answer uses up of its own target (target, search)."""
    share = np.full(found.shape, np.nan)
    rows, columns = np.nonzero(found)
    if len(rows):
        used = exhaustion(drivers_of(best[rows, columns]))
        share[found] = used[np.arange(len(rows)), rows]
    return share


def _result(
    best: np.ndarray,
    moved: np.ndarray,
    share: np.ndarray,
    verified: np.ndarray,
    targets: Sequence[str],
    assets: Sequence[str],
    factor: np.ndarray,
    df: float,
) -> xr.Dataset:
    found = np.isfinite(best).all(axis=2)
    distance = np.full(found.shape, np.nan)
    distance[found] = np.linalg.norm(np.linalg.solve(factor, np.log1p(best[found]).T), axis=0)
    n = len(assets)
    if np.isfinite(df):
        probability = stats.f.sf(distance**2 * df / ((df - 2) * n), n, df)
    else:
        probability = stats.chi2.sf(distance**2, n)
    dims = ("target", "search")
    return xr.Dataset(
        {
            "found": (dims, found),
            "move": ((*dims, "asset"), best, {"units": "1"}),
            "asset_moved": (dims, moved),
            "exhaustion": (dims, share, {"units": "1"}),
            "verified": (dims, verified, {"units": "1"}),
            "distance": (dims, distance, {"units": "standard deviations"}),
            "probability": (dims, probability, {"units": "1"}),
        },
        coords={
            "target": np.asarray(targets, object),
            "search": np.asarray(SEARCHES, object),
            "asset": np.asarray(assets, object),
        },
    )
