"""Monte Carlo scenarios: correlated heavy-tailed days with jumps, in blocks that know no other.

A block is a pure function of the calibration, the seed, the scenario set and its number. The book
never enters, so a position changes nobody's draws. Formulas, references and limits are in
``docs/methods/monte_carlo.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from risk.drivers import JointPaths, make_drivers
from risk.errors import ConfigError
from risk.instruments import add_instruments, instruments_as_assets
from risk.scenarios.carry import Carry
from risk.scenarios.draws import TILE, Model, Paths, make_normals, reaches
from risk.scenarios.implied import ImpliedPaths, shocks_of
from risk.scenarios.importance import raw_weights
from risk.scenarios.jumps import (
    Common,
    Jumps,
    draw_common,
    draw_own,
    in_order,
    jump_parameters,
    no_jumps,
    place_common,
)
from risk.scenarios.mixing import CopulaMixing, Day, SharedMixing
from risk.scenarios.paths import diffuse, jump
from risk.scenarios.riding import InstrumentPaths
from risk.scenarios.sampling import Sampling
from risk.scenarios.steps import StepStates


def draw_block(
    calibration: xr.Dataset,
    *,
    seed: int,
    set_code: int,
    block: int,
    n: int,
    steps: int,
    horizon_days: int,
    model: Model = "student_t",
    jumps: bool = True,
    sampling: Sampling = "plain",
    tilt: float = 1.0,
    block_size: int | None = None,
    watch: Callable[[int, JointPaths], None] | None = None,
    shown: Sequence[int] | None = None,
    recorded: Sequence[int] = (),
    carry: Carry | None = None,
) -> xr.Dataset:
    """Drivers of one block of scenarios.

    Parameters
    ----------
    calibration : Dataset (asset)
        From `risk.market.calibration.calibrate`; its assets are the universe. The model
        ``t_copula`` needs its `margin_df` and `copula_df`.
    n : int
        Scenarios wanted; the first n of the block whatever n is.
    block_size : int, optional
        Scenarios of a whole block; `n` when absent.
    recorded : sequence of int
        Assets whose prices and implied volatilities are kept step by step, for options. No draw
        depends on it.
    seed, set_code, block, steps, horizon_days, model, jumps, sampling, tilt
        See `Paths`.
    watch : callable (first, JointPaths), optional
        Shown how the assets move together step by step, tile by tile: scenarios from `first` of
        the block on, all n of them in the end. Changes no draw.
    shown : sequence of int, optional
        Which drivers of the record `watch` is shown, assets and instruments, ascending; all when
        absent. Instruments that stand for assets are shown as those.
    carry : Carry, optional
        Instruments that ride on the paths, behind the assets in the record; none when absent.
        Changes no draw of the assets.

    Returns
    -------
    Dataset
        Driver record (`risk.drivers`) of n scenarios, equally weighted unless tilted; the weights
        of a tilted run of several blocks are those of `path_weights`. With recorded assets also
        `path` (ratio) and `log_volatility` (log of the multiple of today's 30-day implied
        volatility) on (path_asset, step, scenario), at the end of each step, and `step_days`. With
        coins that may lose their peg also `peg` (US dollars) on (scenario, settle).

    Raises
    ------
    ConfigError
        If steps, horizon, n, model, sampling or tilt cannot be served.
    """
    if n < 1:
        raise ConfigError(f"monte_carlo: {n} paths; ask for at least one")
    paths = Paths(
        seed, set_code, block, steps, horizon_days, model, jumps, sampling, tilt, block_size or n
    )
    assets = [str(name) for name in calibration["asset"].values]
    rows = np.asarray(recorded, "i8")
    n_riding = 0 if carry is None or carry.as_assets else len(carry.instruments)
    seen = np.arange(len(assets) + n_riding) if shown is None else np.asarray(shown, "i8")
    behind = seen[seen >= len(assets)] - len(assets)
    if carry is not None and carry.as_assets:
        behind = seen  # one for each asset, in their order
    behind = behind if watch else seen[:0]
    riding = None if carry is None else InstrumentPaths(carry, calibration, paths, behind)
    watching = StepStates(paths.steps, (len(assets), TILE), seen[seen < len(assets)])
    ridden: list[tuple[np.ndarray, ...]] = []
    show = (watch, watching) if watch else None
    tiles = list(_tiles(calibration, paths, n, rows, show, riding, ridden))
    low, high, last = (np.exp(np.hstack([t[k] for t in tiles]).T[:n]) for k in range(3))
    where, before, landing = (np.concatenate([t[k] for t in tiles]) for k in (3, 4, 5))
    before, landing = np.exp(before), np.exp(landing)
    # A jump smaller than the last digit of its ratio is no gap.
    keep = (where[:, 0] < n) & ((landing - before) * where[:, 2] > 0)
    weight = None if tilt == 1 else _block_weights(calibration, paths, n)
    drivers = make_drivers(
        low,
        high,
        last,
        assets=assets,
        label=[f"block {block} path {i}" for i in range(n)],
        source=[f"monte_carlo {model} seed {seed}"] * n,
        weight=None if weight is None else weight / weight.sum(),
        gaps={
            "gap_scenario": where[keep, 0],
            "gap_asset": where[keep, 1],
            "gap_direction": where[keep, 2],
            "gap_before": before[keep],
            "gap_landing": landing[keep],
        },
    )
    if riding is not None and carry is not None:
        drivers = _ride(drivers, carry, ridden, riding.coins)
    if not len(rows):
        return drivers
    steps_of, spread = (np.concatenate([t[k] for t in tiles], axis=2)[..., :n] for k in (6, 7))
    dims = ("path_asset", "step", "scenario")
    return drivers.assign(
        path=(dims, np.exp(steps_of)), log_volatility=(dims, spread)
    ).assign_coords(
        path_asset=np.array(assets, object)[rows],
        step_days=("step", (np.arange(paths.steps) + 1) * (horizon_days / paths.steps)),
    )


def _ride(
    drivers: xr.Dataset, carry: Carry, ridden: list[tuple[np.ndarray, ...]], coins: Sequence[str]
) -> xr.Dataset:
    """The record with the instruments of every tile, and the pegs where some may be lost."""
    n = drivers.sizes["scenario"]
    low, high, last, peg = (np.hstack([tile[k] for tile in ridden])[:, :n] for k in range(4))
    where, before, landing = (np.concatenate([tile[k] for tile in ridden]) for k in range(4, 7))
    keep = where[:, 0] < n
    gaps = {
        "gap_scenario": where[keep, 0],
        "gap_asset": where[keep, 1],
        "gap_direction": where[keep, 2],
        "gap_before": before[keep],
        "gap_landing": landing[keep],
    }
    n_assets = drivers.sizes["asset"]
    drivers = add_instruments(drivers, carry.names, low.T, high.T, last.T, gaps)
    if carry.as_assets:
        drivers = instruments_as_assets(drivers, n_assets)
    if len(coins):
        drivers = drivers.assign(peg=(("scenario", "settle"), peg.T, {"units": "USD"}))
        drivers = drivers.assign_coords(settle=np.array(coins, object))
    return drivers


def path_weights(calibration: xr.Dataset, n: int, settings: Mapping[str, Any]) -> np.ndarray:
    """Weights of the n paths of a whole run, adding up to one.

    Only the common jumps are drawn again, so it costs a fraction of the paths.

    Parameters
    ----------
    calibration : Dataset (asset)
    n : int
        Paths of the run.
    settings : mapping
        What every block is drawn with: the fields of `risk.scenarios.draws.Paths` but the block.
    """
    size = settings["block_size"]
    blocks = [Paths(block=number, **settings) for number in range(-(-n // size))]
    if blocks[0].tilt == 1:
        return np.full(n, 1.0 / n)
    weight = np.concatenate(
        [_block_weights(calibration, paths, min(size, n - paths.block * size)) for paths in blocks]
    )
    return weight / weight.sum()


def _block_weights(calibration: xr.Dataset, paths: Paths, n: int) -> np.ndarray:
    """Likelihood ratios of the first n paths of a block, mean one."""
    draw = _common_jumps(calibration, paths)
    shape = (calibration.sizes["asset"], TILE)
    normals = make_normals(paths, shape, np.eye(shape[0]))
    counts = [
        np.bincount(
            np.concatenate([part.scenario for part in draw(normals.begin_tile())]), minlength=TILE
        )
        for _ in range(0, n, TILE)
    ]
    expected = float(calibration["common_intensity"]) * paths.horizon_days
    return raw_weights(np.concatenate(counts)[:n], expected, paths.tilt)


def _common_jumps(
    calibration: xr.Dataset, paths: Paths
) -> Callable[[np.ndarray | None], list[Common]]:
    """A function that draws the common jumps of the next tile, from uniforms if it gets any."""
    parameter = jump_parameters(calibration)
    expected = float(parameter["common_intensity"]) * paths.horizon_days
    common, extra = paths.stream("common_jumps"), paths.stream("extra_jumps")

    def draw(uniform: np.ndarray | None) -> list[Common]:
        if uniform is not None:
            # A coordinate of its own picks the tilted half: points of odd number are no net.
            each = np.where(uniform[0] < 0.5, expected, expected * paths.tilt)
            return [place_common(common, parameter, uniform[1:], paths.steps, each)]
        parts = [draw_common(common, parameter, TILE, paths.steps, expected)]
        if paths.tilt > 1:
            more = expected * (paths.tilt - 1)
            parts.append(draw_common(extra, parameter, TILE, paths.steps, more, odd_only=True))
        return parts

    return draw


def _jumps(calibration: xr.Dataset, paths: Paths) -> Callable[[np.ndarray | None], Jumps]:
    """A function that draws all jumps of the next tile."""
    if not paths.jumps:
        return lambda uniform: no_jumps()
    parameter = jump_parameters(calibration)
    common, own = _common_jumps(calibration, paths), paths.stream("own_jumps")

    def draw(uniform: np.ndarray | None) -> Jumps:
        together = common(uniform)
        alone = draw_own(own, parameter, TILE, paths.steps, paths.horizon_days)
        return in_order(together, alone, calibration.sizes["asset"])

    return draw


def _tiles(
    calibration: xr.Dataset,
    paths: Paths,
    n: int,
    recorded: np.ndarray,
    watch: tuple[Callable[[int, JointPaths], None], StepStates] | None,
    riding: InstrumentPaths | None,
    ridden: list[tuple[np.ndarray, ...]],
) -> Iterator[tuple[np.ndarray, ...]]:
    """Log low, high, last (asset, scenario), the gaps and the paths of one tile after the other.

    What the instruments did is appended to `ridden`.
    """
    show, seen = watch or (None, None)
    shape = (calibration.sizes["asset"], TILE)
    per_day = paths.steps // paths.horizon_days
    days = _days(calibration, paths.horizon_days, per_day)
    normals = make_normals(paths, shape, days[0].factor)
    reach = reaches(paths, shape)
    mixing, mixing_stream = _mixing(calibration, paths.model), paths.stream("mixing")
    draw_jumps = _jumps(calibration, paths)
    implied = ImpliedPaths(paths, shocks_of(calibration, recorded))
    kept = np.empty((len(recorded), paths.steps, TILE))
    for first in range(0, n, TILE):
        jumps = draw_jumps(normals.begin_tile())
        chi_square = normals.chi_square(mixing_stream, mixing.df, len(days))
        steps = normals.steps(paths.steps)
        last, low, high = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        edges = np.searchsorted(jumps.step, np.arange(paths.steps + 1))
        gap = np.empty((len(jumps.size), 3), "i8")
        before, landing = np.empty(len(gap)), np.empty(len(gap))
        n_gaps = 0
        if riding:
            riding.begin_tile(len(jumps.size))
        widest = riding.stretch if riding else (low, high)
        for number, day in enumerate(days):
            today, mixed = mixing.multipliers(chi_square[number], steps, day)
            root = np.sqrt(mixed)
            for step in range(number * per_day, (number + 1) * per_day):
                own_low, own_high = seen.begin(last) if seen else widest
                diffuse(
                    next(today),
                    *next(reach),
                    day.factor,
                    day.variance,
                    mixed,
                    root,
                    last,
                    own_low,
                    own_high,
                )
                if seen:
                    seen.end(step, last, *widest)
                now = slice(edges[step], edges[step + 1])
                landing_now = jumps.asset[now], jumps.scenario[now], jumps.size[now]
                if riding:
                    riding.jump(*landing_now, last, low, high)
                n_gaps = jump(
                    *landing_now,
                    last,
                    low,
                    high,
                    gap,
                    before,
                    landing,
                    n_gaps,
                )
                if riding:
                    riding.end_step(step + 1, last, low, high)
                kept[:, step] = last[recorded]
        if show and seen:
            show(first, seen.joint_paths(jumps, min(n - first, TILE), riding))
        if riding:
            ridden.append((riding.low, riding.high, riding.last, riding.peg, *riding.gaps(first)))
        gap[:, 0] += first
        spread = implied.draw(kept) if len(recorded) else kept
        yield low, high, last, gap[:n_gaps], before[:n_gaps], landing[:n_gaps], kept.copy(), spread


def _days(calibration: xr.Dataset, days: int, per_day: int) -> list[Day]:
    """The covariance of a step on every day; it changes where the calibration reverts."""
    variance = calibration["volatility"].values ** 2
    found = []
    for _ in range(days):
        daily = np.sqrt(variance)
        covariance = calibration["correlation"].values * np.outer(daily, daily) * (1 / per_day)
        found.append(Day(np.linalg.cholesky(covariance), np.diag(covariance).copy(), per_day))
        if "persistence" in calibration:
            variance = calibration["omega"].values + calibration["persistence"].values * variance
    return found


def _mixing(calibration: xr.Dataset, model: Model) -> SharedMixing | CopulaMixing:
    if model != "t_copula":
        return SharedMixing(float(calibration["degrees_of_freedom"]), model == "student_t")
    if "copula_df" not in calibration:
        raise ConfigError(
            "monte_carlo: the calibration holds no copula; calibrate with copula=True"
        )
    return CopulaMixing(float(calibration["copula_df"]), calibration["margin_df"].values)
