"""How the assets of one tile of Monte Carlo paths move together, step by step."""

from __future__ import annotations

import numpy as np

from risk.drivers import JointPaths
from risk.instruments import FLOOR, LEAST
from risk.scenarios.jumps import Jumps
from risk.scenarios.riding import InstrumentPaths


class StepStates:
    """Records every step of a tile while it is drawn.

    Parameters
    ----------
    steps : int
    shape : tuple of int
        (asset, scenario) of the tile.
    shown : ndarray of int
        The assets that are kept, ascending.
    """

    def __init__(self, steps: int, shape: tuple[int, int], shown: np.ndarray) -> None:
        self._place = np.full(shape[0], -1)
        self._place[shown] = np.arange(len(shown))
        self._shown = slice(None) if len(shown) == shape[0] else shown
        kept = (steps, len(shown), shape[1])
        self._low, self._high, self._last = (np.empty(kept) for _ in range(3))
        self._step_low, self._step_high = np.empty(shape), np.empty(shape)

    def begin(self, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the step's own low and high go; they start from where the step does."""
        self._step_low[:] = self._step_high[:] = last
        return self._step_low, self._step_high

    def end(self, step: int, last: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Keep the end of the step, and widen the path's extremes by the step's, in place."""
        self._last[step] = last[self._shown]
        self._low[step] = self._step_low[self._shown]
        self._high[step] = self._step_high[self._shown]
        np.minimum(low, self._step_low, out=low)
        np.maximum(high, self._step_high, out=high)

    def joint_paths(self, jumps: Jumps, n: int, riding: InstrumentPaths | None) -> JointPaths:
        """The first `n` scenarios as joint paths, one frame per step.

        Jumps of one scenario and step land together as far as they move different assets: a common
        jump at once, then what single assets add.
        """
        low, high, last = (
            np.exp(np.ascontiguousarray(part[..., :n].transpose(2, 0, 1)))
            for part in (self._low, self._high, self._last)
        )
        mine = np.flatnonzero(jumps.scenario < n)
        n_steps = len(self._low)
        frame = jumps.scenario[mine] * n_steps + jumps.step[mine]
        order = np.argsort(frame, kind="stable")
        mine, frame = mine[order], frame[order]
        asset = jumps.asset[mine]
        is_new = (np.diff(frame, prepend=-1) != 0) | (np.diff(asset, prepend=-1) <= 0)
        # Together and how far is settled before anything is left out: it must not depend on that.
        together, reached = np.cumsum(is_new), self._reached(frame, asset, jumps.size[mine])
        kept = np.flatnonzero(self._place[asset] >= 0)
        frame, together, reached = frame[kept], together[kept], reached[kept]
        asset = self._place[asset[kept]]
        begin = np.flatnonzero(np.diff(together, prepend=-1) != 0)
        scenario, step = np.divmod(frame, n_steps)
        points = np.empty((2, 0, *low.shape))
        paths = JointPaths(
            low,
            high,
            last,
            points,
            points,
            np.searchsorted(frame[begin], np.arange(n * n_steps + 1)).astype("i8"),
            np.append(begin, len(kept)).astype("i8"),
            asset.astype("i8"),
            np.exp(self._last[step, asset, scenario] + reached),
        )
        if riding is None:
            return paths
        ride, most, state, ends = riding.seen(n)
        if riding.stands_in:
            return _stand_in(paths, ride, state)
        return paths._replace(ride=ride, ride_most=most, ride_state=state, ride_end=ends)

    def _reached(self, frame: np.ndarray, asset: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Log move from the step's end to each jump's landing: those of one asset add up."""
        key = frame * len(self._place) + asset
        order = np.argsort(key, kind="stable")
        total = np.cumsum(size[order])
        first = np.searchsorted(key[order], key[order])
        before = np.where(first > 0, total[first - 1], 0.0)
        reached = np.empty(len(size))
        reached[order] = total - before
        return reached


def _stand_in(paths: JointPaths, ride: np.ndarray, state: np.ndarray) -> JointPaths:
    """Joint paths of the instruments that stand for the assets, one each, with nothing beside them.

    What a state changes is one more jump at the end of its last frame.
    """
    n, n_frames, n_assets = paths.low.shape
    within = np.moveaxis(ride[state[:-1]], 0, 1)
    group = np.repeat(np.arange(n * n_frames), np.diff(paths.frame_start))
    size = np.diff(paths.jump_start)
    scenario, frame = np.divmod(np.repeat(group, size), n_frames)
    end = paths.last.copy()
    end[scenario, frame, paths.jump_asset] = paths.jump_to  # of several the last
    turns = np.flatnonzero(np.diff(state))
    landed = _ratios(end[:, turns], np.moveaxis(ride[state[turns + 1]], 0, 1))
    n_turns = n * len(turns)
    more = (np.arange(n)[:, None] * n_frames + turns).ravel()
    group, size = np.append(group, more), np.append(size, np.full(n_turns, n_assets))
    start = np.append(paths.jump_start[:-1], len(paths.jump_to) + np.arange(n_turns) * n_assets)
    order = np.argsort(group, kind="stable")
    size, start = size[order], start[order]
    jump_start = np.append(0, np.cumsum(size))
    entry = np.repeat(start - jump_start[:-1], size) + np.arange(jump_start[-1])
    to = _ratios(paths.jump_to, ride[state[frame], scenario, paths.jump_asset])
    return paths._replace(
        low=_ratios(paths.low, within),
        high=_ratios(paths.high, within),
        last=_ratios(paths.last, within),
        frame_start=np.searchsorted(group[order], np.arange(n * n_frames + 1)).astype("i8"),
        jump_start=jump_start.astype("i8"),
        jump_asset=np.append(paths.jump_asset, np.tile(np.arange(n_assets), n_turns))[entry],
        jump_to=np.append(to, landed.ravel())[entry],
    )


def _ratios(x: np.ndarray, ride: np.ndarray) -> np.ndarray:
    """Ratios of instruments whose assets are at `x`, with their states on one more axis."""
    factor, paid, owed = np.moveaxis(ride, -1, 0)
    return np.maximum(factor * x / np.maximum(1.0 + owed * x, LEAST) - paid, FLOOR)
