"""Instruments on simulated paths: funding as it falls due, the basis as it goes, the settlement.

The assets' paths are cut into stretches between ticks of eight hours and expiries. Inside one an
instrument's ratio is an increasing function of the asset's, so its low and high are those of the
stretch; at the end of it a payment, a basis or a peg moves it at once, which is a gap where it
sets a new extreme.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from risk.compiled import njit
from risk.drivers import UNBOUNDED, most_ridden
from risk.instruments import FLOOR, LEAST
from risk.scenarios.carry import Carry, basis_factor, check_pegs
from risk.scenarios.draws import TILE, Paths

#: Hours between ticks.
_TICK_HOURS = 8.0

#: Price moves that pull on a rate are cut at so many standard deviations.
_FURTHEST = 4.0


def tick_steps(steps: int, horizon_days: int) -> tuple[np.ndarray, np.ndarray]:
    """After which steps funding is settled, and how many ticks at once.

    Examples
    --------
    >>> [part.tolist() for part in tick_steps(24, 1)], [p.tolist() for p in tick_steps(12, 6)]
    ([[8, 16, 24], [1, 1, 1]], [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2]])
    """  # noqa: E501
    hours = 24.0 * horizon_days / steps
    ends = np.arange(1, 3 * horizon_days + 1) * _TICK_HOURS
    at, count = np.unique(np.ceil(ends / hours - 1e-9).astype("i8"), return_counts=True)
    return at, count


class InstrumentPaths:
    """The instruments of a block, tile by tile.

    Parameters
    ----------
    carry : Carry
    calibration : Dataset (asset)
        With the funding variables of `risk.market.funding.calibrate_funding`.
    paths : Paths
    shown : ndarray of int
        The instruments whose states are kept for `seen`.
    """

    def __init__(
        self, carry: Carry, calibration: xr.Dataset, paths: Paths, shown: np.ndarray
    ) -> None:
        self._carry, self._paths, self._shown = carry, paths, shown
        assets = [str(name) for name in calibration["asset"].values]
        place = {name: i for i, name in enumerate(assets)}
        every = carry.instruments
        n, shape = len(every), (len(assets), TILE)
        self._asset = np.array([place[one.asset] for one in every], "i8")
        order = np.argsort(self._asset, kind="stable")
        self._by_asset = order
        self._start = np.searchsorted(self._asset[order], np.arange(len(assets) + 1))
        self._inverse = np.array([one.is_inverse for one in every], bool)
        self._pays = np.array([one.is_perpetual and carry.funding for one in every], bool)
        hours = 24.0 * paths.horizon_days / paths.steps
        far = paths.steps + 1
        self._ends = np.array(
            [
                far
                if one.expiry_days is None
                else min(max(int(one.expiry_days * 24.0 / hours + 1e-9), 1), far)
                for one in every
            ],
            "i8",
        )
        self._days = hours / 24.0
        self._ticks, self._counts = tick_steps(paths.steps, paths.horizon_days)
        inside = self._ends[self._ends <= paths.steps]
        self._bounds = set(self._ticks.tolist()) | {int(step) for step in inside} | {paths.steps}
        self._rates(calibration)
        self._basis_stream = paths.stream("basis")
        self._funding_stream = paths.stream("funding")
        self._peg_stream = paths.stream("peg")
        pegs = dict(carry.pegs or {})
        check_pegs(pegs)
        self._coins = sorted(pegs)
        self._odds = np.array([pegs[name] for name in self._coins], "f8").reshape(-1, 2)
        self._coin = np.array(
            [
                self._coins.index(one.settle)
                if not one.is_inverse and one.settle in self._coins
                else -1
                for one in every
            ],
            "i8",
        )
        self.stretch = (np.empty(shape), np.empty(shape))
        self._shape, self._n = shape, n

    def _rates(self, calibration: xr.Dataset) -> None:
        """Level, persistence, spread and price part of every instrument's rate, and where it is."""
        every, asset = self._carry.instruments, self._asset
        known = "funding_level" in calibration
        sources = calibration["funding_source"].values if "funding_source" in calibration else ()
        own = np.array([str(sources[a]) != "" if len(sources) else False for a in asset], bool)

        def column(name: str, otherwise: float) -> np.ndarray:
            if not known:
                return np.full(len(asset), otherwise)
            return np.where(own, calibration[f"funding_{name}"].values[asset], otherwise)

        level = column("level", np.nan)
        now = np.array([np.nan if one.funding_rate is None else one.funding_rate for one in every])
        now = np.where(np.isnan(now), np.nan_to_num(level), now)
        self._now = np.where(self._pays, now, 0.0)
        # Without a history a rate stays where it is.
        self._level = np.where(np.isnan(level), now, level)
        self._persistence = column("persistence", 1.0)
        self._sd = column("sd", 0.0)
        pull = column("price_correlation", 0.0)
        self._pull, self._rest = pull, np.sqrt(1 - pull**2)
        self._residual = (
            np.ascontiguousarray(calibration["funding_residual"].values)
            if known
            else np.zeros((calibration.sizes["asset"], 1))
        )
        self._sigma = calibration["volatility"].values

    def begin_tile(self, n_jumps: int) -> None:
        """Start a tile: everything at the mark, and the tile's own draws made."""
        n, wide = self._n, (self._n, TILE)
        for side in self.stretch:
            side[:] = 0.0
        self._from = np.zeros(self._shape)
        self._open = np.ones(n, bool)
        self._factor, self._paid, self._owed = np.ones(wide), np.zeros(wide), np.zeros(wide)
        self._basis = np.ones(wide)
        self._noise = np.zeros(wide)
        self._rate = np.repeat(self._now[:, None], TILE, axis=1)
        self.low, self.high, self.last = np.ones(wide), np.ones(wide), np.ones(wide)
        most = n_jumps * int(np.diff(self._start).max(initial=0)) + len(self._bounds) * n * TILE
        self._gap = np.empty((most, 3), "i8")
        self._before, self._landing = np.empty(most), np.empty(most)
        self._n_gaps = 0
        self._tick = 0
        self._states: list[np.ndarray] = []
        self._keep_state()
        # Drawn whatever the book holds: a tick's rows, the assets' basis shocks, the coins' turns.
        rows = self._residual.shape[1]
        self._pick = self._funding_stream.integers(0, rows, (len(self._ticks), TILE))
        shocks = (len(self._ticks), *self._shape)
        self._shock = (
            self._basis_stream.standard_normal(shocks)
            if self._carry.basis_volatility > 0
            else np.zeros((len(self._ticks), 1, 1))
        )
        days = self._paths.horizon_days
        turn = np.full((len(self._coins), TILE), len(self._ticks) + 1)
        for coin, (probability, _) in enumerate(self._odds):
            breaks, when = self._peg_stream.random((2, TILE))
            at = (when * len(self._ticks)).astype("i8")
            turn[coin] = np.where(breaks < 1 - (1 - probability) ** days, at, turn[coin])
        self._turn = turn
        self.peg = np.ones((len(self._coins), TILE))

    def jump(
        self,
        asset: np.ndarray,
        scenario: np.ndarray,
        size: np.ndarray,
        last: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
    ) -> None:
        """Let jumps land, before they land in the assets' own records; `last` is left as it was."""
        down, up = self.stretch
        low[asset, scenario] = np.minimum(low[asset, scenario], down[asset, scenario])
        high[asset, scenario] = np.maximum(high[asset, scenario], up[asset, scenario])
        kept = last[asset, scenario]
        self._n_gaps = _jump_on(
            asset, scenario, size, last, down, up, self._start, self._by_asset, self._open,
            self._factor, self._paid, self._owed, self.low, self.high,
            self._gap, self._before, self._landing, self._n_gaps,
        )  # fmt: skip
        last[asset, scenario] = kept

    def end_step(self, step: int, last: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """End a stretch if one ends after `step` steps, and begin the next."""
        if step not in self._bounds:
            return
        down, up = self.stretch
        np.minimum(low, down, out=low)
        np.maximum(high, up, out=high)
        is_tick = self._tick < len(self._ticks) and self._ticks[self._tick] == step
        ends = self._ends == step
        pick = self._pick[self._tick] if is_tick else self._pick[0]
        since = 0.0
        if is_tick or ends.any():
            self._move_factors(step, is_tick, ends)
        if is_tick:
            before = self._ticks[self._tick - 1] if self._tick else 0
            since = (step - before) * self._days
        self._n_gaps = _end_stretch(
            self._asset, self._inverse, self._pays & is_tick, self._open, ends,
            int(self._counts[self._tick]) if is_tick else 0, since, self._sigma,
            self._level, self._persistence, self._sd, self._pull, self._rest, self._residual,
            pick, last, self._from, down, up, self._basis, self._factor, self._paid, self._owed,
            self._rate, self.low, self.high, self.last,
            self._gap, self._before, self._landing, self._n_gaps,
        )  # fmt: skip
        self._open &= ~ends
        self._keep_state()
        down[:], up[:] = last, last
        if is_tick:
            self._from[:] = last
            self._tick += 1

    def _keep_state(self) -> None:
        """Remember factor, funding paid and owed of the instruments shown."""
        if len(self._shown):
            parts = (self._factor, self._paid, self._owed)
            self._states.append(np.stack([part[self._shown].T for part in parts], axis=2))

    @property
    def stands_in(self) -> bool:
        """Whether the instruments stand for the assets."""
        return self._carry.as_assets

    def seen(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The instruments' part of the joint paths of a tile's first `n` scenarios.

        See the last four columns of `risk.drivers.JointPaths`.
        """
        steps = self._paths.steps
        ends = self._ends[self._shown] - 1
        if not len(self._shown):
            none = np.empty((1, n, 0, 3))
            return none, most_ridden(none), np.zeros(steps + 1, "i8"), ends
        ride = np.ascontiguousarray(np.stack(self._states)[:, :n])
        most = most_ridden(ride)
        most[:, ends < steps, 1] = UNBOUNDED
        state = np.searchsorted(sorted(self._bounds), np.arange(steps + 1), side="right")
        return ride, most, state.astype("i8"), ends

    def _move_factors(self, step: int, is_tick: bool, ends: np.ndarray) -> None:
        """What basis and peg become after `step` steps, of the instruments they move."""
        now = step * self._days
        if is_tick:
            for coin, (_, dollars) in enumerate(self._odds):
                self.peg[coin] = np.where(self._turn[coin] <= self._tick, dollars, 1.0)
        before = self._ticks[self._tick - 1] * self._days if is_tick and self._tick else 0.0
        volatility = self._carry.basis_volatility
        for i, one in enumerate(self._carry.instruments):
            if not (self._open[i] and (is_tick or ends[i])):
                continue
            factor = basis_factor(one, now)
            if one.expiry_days is not None and volatility > 0 and is_tick:
                left, had = max(one.expiry_days - now, 0.0), one.expiry_days - before
                if had > 0:
                    spread = volatility * np.sqrt((now - before) * left / had)
                    self._noise[i] *= left / had
                    self._noise[i] += spread * self._shock[self._tick, self._asset[i]]
            if ends[i]:
                factor, self._noise[i] = basis_factor(one, np.inf), 0.0
            peg = self.peg[self._coin[i]] if self._coin[i] >= 0 else 1.0
            self._basis[i] = (factor + self._noise[i] / (1.0 + one.basis)) / peg

    def gaps(self, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tile's gaps in path order: (scenario, instrument, direction), before, landing."""
        found = self._gap[: self._n_gaps].copy()
        found[:, 0] += first
        n = self._n_gaps
        return found, self._before[:n].copy(), self._landing[:n].copy()

    @property
    def coins(self) -> Sequence[str]:
        """The currencies of `peg` (coin, scenario)."""
        return self._coins


@njit(inline="always")
def _ratio(x: float, factor: float, paid: float, owed: float) -> float:
    share = 1.0 + owed * x
    y = factor * x / (share if share > LEAST else LEAST) - paid
    return y if y > FLOOR else FLOOR


@njit
def _jump_on(
    asset: np.ndarray, scenario: np.ndarray, size: np.ndarray, last: np.ndarray, down: np.ndarray,
    up: np.ndarray, start: np.ndarray, by_asset: np.ndarray, is_open: np.ndarray,
    factor: np.ndarray, paid: np.ndarray, owed: np.ndarray, low: np.ndarray, high: np.ndarray,
    gap: np.ndarray, before: np.ndarray, landing: np.ndarray, n_gaps: int,
) -> int:  # fmt: skip
    """Apply jumps to the instruments of their assets; returns the gaps recorded after them."""
    for k in range(len(size)):
        a, s = asset[k], scenario[k]
        end = last[a, s] + size[k]
        last[a, s] = end
        for p in range(start[a], start[a + 1]):
            i = by_asset[p]
            if not is_open[i]:
                continue
            g, f, w = factor[i, s], paid[i, s], owed[i, s]
            bottom = min(low[i, s], _ratio(np.exp(down[a, s]), g, f, w))
            top = max(high[i, s], _ratio(np.exp(up[a, s]), g, f, w))
            y = _ratio(np.exp(end), g, f, w)
            if y < bottom or y > top:
                gap[n_gaps, 0], gap[n_gaps, 1] = s, i
                gap[n_gaps, 2] = -1 if y < bottom else 1
                before[n_gaps] = bottom if y < bottom else top
                landing[n_gaps] = y
                n_gaps += 1
            low[i, s], high[i, s] = min(bottom, y), max(top, y)
        down[a, s] = min(down[a, s], end)
        up[a, s] = max(up[a, s], end)
    return n_gaps


@njit
def _end_stretch(
    asset: np.ndarray, inverse: np.ndarray, pays: np.ndarray, is_open: np.ndarray,
    ends: np.ndarray, count: int, since: float, sigma: np.ndarray, level: np.ndarray,
    persistence: np.ndarray, sd: np.ndarray, pull: np.ndarray, rest: np.ndarray,
    residual: np.ndarray, pick: np.ndarray, last: np.ndarray, begun: np.ndarray, down: np.ndarray,
    up: np.ndarray, basis: np.ndarray, factor: np.ndarray, paid: np.ndarray, owed: np.ndarray,
    rate: np.ndarray, low: np.ndarray, high: np.ndarray, final: np.ndarray, gap: np.ndarray,
    before: np.ndarray, landing: np.ndarray, n_gaps: int,
) -> int:  # fmt: skip
    """Widen by the stretch, settle what is due, and move what moves at once."""
    for i in range(len(asset)):
        if not is_open[i]:
            continue
        a = asset[i]
        spread = sigma[a] * np.sqrt(since)
        for s in range(last.shape[1]):
            g, f, w = factor[i, s], paid[i, s], owed[i, s]
            x = np.exp(last[a, s])
            bottom = min(low[i, s], _ratio(np.exp(down[a, s]), g, f, w))
            top = max(high[i, s], _ratio(np.exp(up[a, s]), g, f, w))
            if pays[i]:
                due = rate[i, s] * count
                if inverse[i]:
                    w += due / x
                    owed[i, s] = w
                else:
                    f += due * g * x
                    paid[i, s] = f
                move = (last[a, s] - begun[a, s]) / spread if spread > 0.0 else 0.0
                move = min(max(move, -_FURTHEST), _FURTHEST)
                shock = pull[i] * move + rest[i] * residual[a, pick[s]]
                rate[i, s] = (
                    level[i]
                    + persistence[i] ** count * (rate[i, s] - level[i])
                    + sd[i] * np.sqrt(count) * shock
                )
            g = basis[i, s]
            factor[i, s] = g
            y = _ratio(x, g, f, w)
            if y < bottom or y > top:
                gap[n_gaps, 0], gap[n_gaps, 1] = s, i
                gap[n_gaps, 2] = -1 if y < bottom else 1
                before[n_gaps] = bottom if y < bottom else top
                landing[n_gaps] = y
                n_gaps += 1
            low[i, s], high[i, s], final[i, s] = min(bottom, y), max(top, y), y
    return n_gaps
