"""Historical scenarios: overlapping windows of past days, lows and highs of all assets together.

Four methods: windows as they were, weighted by age, scaled to today's volatility, and filtered.
Daily bars show no gaps, so a stated share of each adverse excursion lands as one jump: without it
the deficit would be zero by construction (``docs/methods/historical.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from risk.drivers import make_drivers
from risk.errors import ConfigError
from risk.scenarios.moves import Ratios, check_gap, gap_rule, window_ratios
from risk.scenarios.proxies import fill_by_proxy
from risk.scenarios.rescaled import rescaled_ratios

#: Which moves and which weights a set is made of.
Method = Literal["plain", "age_weighted", "volatility_scaled", "filtered"]

#: Methods that need a volatility for every day.
RESCALED = ("volatility_scaled", "filtered")


def historical_drivers(
    history: xr.Dataset,
    assets: Sequence[str],
    *,
    windows: int,
    horizon_days: int,
    gap: float,
    betas: xr.DataArray,
    method: Method = "plain",
    age_decay: float = 0.995,
    volatility: xr.Dataset | None = None,
    returns: Literal["log", "relative"] = "log",
    factor_betas: xr.DataArray | None = None,
    seed: int | None = None,
    set_code: int = 0,
    step_hours: int = 24,
) -> xr.Dataset:
    """Replay the last `windows` windows of `horizon_days` as scenarios.

    Windows overlap when the horizon is longer than the step between them. An asset without a price
    on every bar of a window, or on the one before it, is proxied there (`risk.scenarios.proxies`).

    Parameters
    ----------
    history : Dataset (day, asset) or (hour, asset)
        From `risk.market.history.load_history`; its last bar is the last window's.
    assets : sequence of str
        The universe.
    windows : int
        How many are wanted; fewer are used when the history is shorter.
    horizon_days : int
    gap : float
        Share in [0, 1] of the excursion to the low (and high) that lands as one jump there.
    betas : DataArray (asset)
        Slopes to ``betas.attrs["market"]``, an asset or ``equal_weight``.
    method : {"plain", "age_weighted", "volatility_scaled", "filtered"}
        ``age_weighted``: moves as they were, weights that fall with age. ``volatility_scaled``:
        every day's move times tomorrow's volatility over its own. ``filtered``: the same on the
        first day, then rolled forward with each day's rescaled move.
    age_decay : float
        Weight of a window over that of the window a day younger, in (0, 1].
    volatility : Dataset, optional
        From `risk.market.volatility`, on the history's days; needed by the rescaled methods.
    returns : {"log", "relative"}
        What the rescaled methods scale.
    factor_betas : DataArray (asset, factor), optional
        Slopes of the proxy rule; without them it uses `betas`.
    seed : int, optional
        Of the residuals of proxied assets; without it they move with the market alone.
    set_code : int
        Part of the random key.
    step_hours : int
        Hours from one window to the next; whole days unless the bars are hourly.

    Returns
    -------
    Dataset
        Driver record; `label` is the window's last day (or the instant it ends, UTC), `weight`
        adds up to one. `asset` carries
        `proxied`, `proxied_share` (of the windows) and `n_donors` (windows its residuals come
        from, 0: other assets'); attrs `n_windows`, `windows_asked`, `n_windows_dropped` (no asset
        had prices), `horizon_days`, `gap`, `method`, `effective_windows` (one over the sum of
        squared weights).

    Raises
    ------
    ConfigError
        If the horizon is longer than the history, or a setting is out of range.

    References
    ----------
    .. [1] J. Boudoukh, M. Richardson and R. Whitelaw, "The best of both worlds", Risk 11(5), 1998
       (age weights). The rescaled methods: see `risk.scenarios.rescaled`.
    """
    check_gap(gap, "historical")
    if windows < 1 or horizon_days < 1:
        raise ConfigError(
            f"historical: {windows} windows of {horizon_days} days; both must be at least 1"
        )
    clock = _clock(history, method, step_hours)
    bars = history.rename({clock.dim: "day"}) if clock.dim != "day" else history
    length, n_bars = horizon_days * clock.per_day, history.sizes[clock.dim]
    if n_bars <= length:
        raise ConfigError(
            f"historical: a horizon of {horizon_days} days needs {length + 1} {clock.dim}s of "
            f"history, there are {n_bars}; shorten the horizon or lengthen the history"
        )
    ends = np.arange(n_bars - 1, length - 1, -clock.step)[::-1]
    every = _moves(bars, ends, length, method, volatility, returns)
    kept = np.isfinite(every.last).any(axis=1)
    first = max(len(ends) - windows, 0)
    if not kept[first:].any():
        raise ConfigError("historical: no window has prices; give a history without holes")
    n_dropped = int((~kept[first:]).sum())
    wanted = np.arange(kept[:first].sum(), kept.sum())
    ends, every = ends[kept], Ratios(*(part[kept] for part in every))
    stamp = bars["day"].values.astype(f"M8[{clock.unit}]")
    moves, proxied, n_donors = fill_by_proxy(
        every,
        stamp[ends],
        wanted,
        [str(name) for name in history["asset"].values],
        assets,
        betas,
        factor_betas=factor_betas,
        seed=seed,
        set_code=set_code,
    )
    ends = ends[wanted]
    age = (stamp[-1] - stamp[ends]) / np.timedelta64(1, "D")
    weight = age_weights(age, age_decay if method == "age_weighted" else 1.0)
    label = [clock.name(at) for at in stamp[ends]]
    begin = [clock.name(at) for at in stamp[ends - length + 1]]
    drivers = make_drivers(
        *moves,
        assets=assets,
        label=label,
        source=[f"history {a}..{b}" for a, b in zip(begin, label, strict=True)],
        weight=weight,
        gaps=gap_rule(moves, gap),
    )
    return drivers.assign_coords(
        proxied=("asset", proxied.any(axis=0)),
        proxied_share=("asset", proxied.mean(axis=0)),
        n_donors=("asset", n_donors),
    ).assign_attrs(
        n_windows=len(ends),
        windows_asked=windows,
        n_windows_dropped=n_dropped,
        horizon_days=horizon_days,
        gap=gap,
        method=method,
        effective_windows=float(1 / (weight**2).sum()),
    )


class Clock(NamedTuple):
    """How a history counts time."""

    dim: str
    unit: str
    per_day: int
    step: int  # bars from one window to the next

    def name(self, bar: np.datetime64) -> str:
        """A day by its date, an hourly bar by the instant it ends."""
        return str(bar) if self.unit == "D" else f"{bar + np.timedelta64(1, 'h')}:00Z"


def _clock(history: xr.Dataset, method: str, step_hours: int) -> Clock:
    if step_hours < 1:
        raise ConfigError(f"historical: windows {step_hours} hours apart; take at least 1")
    if "hour" in history.dims:
        if method in RESCALED:
            raise ConfigError(
                f"historical: the method {method} rescales days; set interval: 1d for it"
            )
        return Clock("hour", "h", 24, step_hours)
    if step_hours % 24:
        raise ConfigError(
            f"historical: windows {step_hours} hours apart need hourly bars; set interval: 1h"
        )
    return Clock("day", "D", 1, step_hours // 24)


def age_weights(age: np.ndarray, decay: float) -> np.ndarray:
    """Weights ``decay ** age`` that add up to one; age in days, so that a hole weighs as one.

    Examples
    --------
    >>> age_weights(np.array([2, 1, 0]), 0.5).round(4).tolist()
    [0.1429, 0.2857, 0.5714]
    """
    if not 0 < decay <= 1:
        raise ConfigError(f"historical: age_decay is {decay:g}; choose one above 0, at most 1")
    if decay == 1:
        return np.full(len(age), 1.0 / len(age))
    weight = decay ** age.astype("f8")
    return weight / weight.sum()


def _moves(
    history: xr.Dataset,
    ends: np.ndarray,
    horizon_days: int,
    method: str,
    volatility: xr.Dataset | None,
    returns: Literal["log", "relative"],
) -> Ratios:
    if method in RESCALED:
        if volatility is None:
            raise ConfigError(f"historical: the method {method} needs volatilities")
        return rescaled_ratios(
            history,
            ends,
            horizon_days,
            volatility,
            roll_forward=method == "filtered",
            returns=returns,
        )
    return window_ratios(history, ends, horizon_days)
