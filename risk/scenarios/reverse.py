"""Reverse stress: the smallest moves that exhaust a fund or breach a limit.

The search sees only a function from drivers to how much of each target is used up (1: exhausted),
so it works on whatever walks the book. Every answer is priced again by whoever asks for it.
Method, resolution and what "no move does" means: ``docs/methods/reverse.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import xarray as xr
from scipy import stats

from risk.scenarios.grids import move_drivers
from risk.scenarios.joint import Bounds, Used, directions, first_breaches, nearest_breach
from risk.scenarios.profiles import OwnExhaustion, Profiles

#: From a driver record to the share of every target used up (scenario, target).
Exhaustion = Callable[[xr.Dataset], np.ndarray]

#: Step of the first pass over common and single moves.
STEP = 0.01

#: Points per pass when the bracket of a common or single move is narrowed, and how many passes.
NARROWER, PASSES = 8, 5

SEARCHES = ("common_fall", "common_rise", "single_fall", "single_rise", "joint")


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
    rays = directions(best, factor, seed)
    radius = first_breaches(quick, factor, rays, bounds, n_targets)
    for target in range(n_targets):
        own_moves = best[target][np.isfinite(best[target]).all(axis=1)]
        best[target, -1] = nearest_breach(
            _only(quick, target), _only(used, target), factor, rays, radius[:, target],
            own_moves, bounds, seed,
        )  # fmt: skip
    found = np.isfinite(best).all(axis=2)
    share, verified = (
        _own_share(priced, drivers_of, best, found) for priced in (exhaustion, verify or exhaustion)
    )
    return _result(best, moved, share, verified, targets, assets, factor, df)


def _only(used: Used, target: int) -> Used:
    """The share of one target alone (scenario,)."""
    return lambda moves: used(moves)[:, target]


def _steps(limit: float) -> np.ndarray:
    """Amounts up to a limit, in steps of about `STEP`."""
    n = max(int(np.ceil(abs(limit) / STEP - 1e-9)), 1)
    return np.linspace(limit / n, limit, n)


def _first_pass(used: Used, pattern: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Amounts, and what each pattern of moves uses up (amount, pattern, target)."""
    amounts = _steps(limit)
    moves = amounts[:, None, None] * pattern
    share = used(moves.reshape(-1, pattern.shape[1]))
    return amounts, share.reshape(len(amounts), len(pattern), share.shape[1])


def _smallest(
    used: Used,
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
