"""How the assets of one tile of Monte Carlo paths move together, step by step."""

from __future__ import annotations

import numpy as np

from risk.drivers import JointPaths
from risk.scenarios.jumps import Jumps


class StepStates:
    """Records every step of a tile while it is drawn.

    Parameters
    ----------
    steps : int
    shape : tuple of int
        (asset, scenario) of the tile.
    """

    def __init__(self, steps: int, shape: tuple[int, int]) -> None:
        self._low, self._high, self._last = (np.empty((steps, *shape)) for _ in range(3))

    def begin(self, step: int, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the step's own low and high go; they start from where the step does."""
        self._low[step] = self._high[step] = last
        return self._low[step], self._high[step]

    def end(self, step: int, last: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Keep the end of the step, and widen the path's extremes by the step's, in place."""
        self._last[step] = last
        np.minimum(low, self._low[step], out=low)
        np.maximum(high, self._high[step], out=high)

    def joint_paths(self, jumps: Jumps, n: int) -> JointPaths:
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
        mine = mine[np.argsort(frame, kind="stable")]
        frame = jumps.scenario[mine] * n_steps + jumps.step[mine]
        asset = jumps.asset[mine]
        is_new = (np.diff(frame, prepend=-1) != 0) | (np.diff(asset, prepend=-1) <= 0)
        begin = np.flatnonzero(is_new)
        points = np.empty((2, 0, *low.shape))
        return JointPaths(
            low,
            high,
            last,
            points,
            points,
            np.searchsorted(frame[begin], np.arange(n * n_steps + 1)).astype("i8"),
            np.append(begin, len(mine)).astype("i8"),
            asset.astype("i8"),
            self._landings(frame, asset, jumps.size[mine]),
        )

    def _landings(self, frame: np.ndarray, asset: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Ratios after each jump: the sizes of one asset in one frame add up."""
        scenario, step = np.divmod(frame, len(self._low))
        begun = self._last[step, asset, scenario]
        key = frame * self._last.shape[1] + asset
        order = np.argsort(key, kind="stable")
        total = np.cumsum(size[order])
        first = np.searchsorted(key[order], key[order])
        before = np.where(first > 0, total[first - 1], 0.0)
        reached = np.empty(len(size))
        reached[order] = total - before
        return np.exp(begun + reached)
