"""Named stresses: one YAML file each, its source, its shocks and a rule for the other assets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import xarray as xr
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from risk.drivers import join_gaps, make_drivers, with_volatility
from risk.errors import ConfigError
from risk.instruments import Instrument, add_instruments, instruments_as_assets
from risk.scenarios.carry import peg_of, ride_bars
from risk.scenarios.effects import stress_gaps, widen
from risk.scenarios.moves import (
    Ratios,
    beta_of,
    market_ratios,
    scale_move,
    window_ratios,
)

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Shock(BaseModel):
    """One asset's move, as fractions of the price before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(gt=-1, le=0)
    high: float = Field(ge=0, allow_inf_nan=False)
    last: float

    @model_validator(mode="after")
    def _ordered(self) -> Shock:
        if not self.low <= self.last <= self.high:
            raise ValueError("last must lie between low and high")
        return self


class Funding(BaseModel):
    """A rate paid by longs to shorts (to longs where negative), for a while."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(allow_inf_nan=False)  # per 8 hours
    hours: Positive


class Outage(BaseModel):
    """Nobody can be closed for some hours; what the price did meanwhile lands as one gap."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hours: Positive


class Breaker(BaseModel):
    """Close-outs stop at a move of `pause` from the mark, and go on at one of `resume`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pause: float = Field(gt=0, lt=1)
    resume: float = Field(gt=0)

    @model_validator(mode="after")
    def _resumes_further_out(self) -> Breaker:
        if self.resume <= self.pause:
            raise ValueError("resume must be a larger move than pause")
        return self


class Stress(BaseModel):
    """A stress file, checked; the keys are those of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Text
    kind: Literal["historical", "hypothetical"]
    source: Text
    narrative: Text
    start: date | None = None
    end: date | None = None
    price_kind: Literal["last", "mark", "index"] | None = None
    shocks: dict[Text, Shock] = Field(min_length=1)
    others: Literal["beta", "worst", "none", "volatility"]
    gap: float = Field(default=0.0, ge=0, le=1)
    outage: Outage | None = None
    breaker: Breaker | None = None
    volatility: Positive | None = None
    funding: Funding | None = None
    #: US dollars for one unit of every stablecoin, or of those named.
    peg: Positive | dict[Text, Positive] | None = None
    depth: Positive | None = None

    @model_validator(mode="after")
    def _historical_is_dated(self) -> Stress:
        if self.kind == "historical":
            needed = ("start", "end", "price_kind", "gap")
            missing = [name for name in needed if name not in self.model_fields_set]
            if missing:
                raise ValueError(f"a historical stress needs {', '.join(missing)}")
        if self.start and self.end and self.end < self.start:
            raise ValueError("end lies before start")
        if self.outage and self.breaker:
            raise ValueError("give an outage or a breaker, not both")
        return self

    @property
    def days(self) -> int:
        """How long it lasts; a designed move without dates takes a day."""
        return (self.end - self.start).days + 1 if self.start and self.end else 1


def load_stresses(folder: Path | str) -> list[Stress]:
    """Every stress of a folder, in the order of the file names.

    Raises
    ------
    ConfigError
        If there is none, or one has a bad key; file and key are named.
    """
    files = sorted(Path(folder).glob("*.yaml"))
    if not files:
        raise ConfigError(f"no stress files (*.yaml) in {folder}; point stress.folder at some")
    stresses = [load_stress(file) for file in files]
    seen: dict[str, Path] = {}
    for file, stress in zip(files, stresses, strict=True):
        if stress.title in seen:
            raise ConfigError(
                f"{file.name}: title {stress.title!r} is that of {seen[stress.title].name} too; "
                "rename one"
            )
        seen[stress.title] = file
    return stresses


def load_stress(file: Path | str) -> Stress:
    """One stress file; raise `ConfigError` with file and key when it is wrong."""
    file = Path(file)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist; give a stress file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = " ".join(str(error).split())
        raise ConfigError(f"{file.name} is not readable YAML: {place}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file.name} holds no keys; see the stress file format")
    try:
        return Stress.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"{file.name}: {key}: {first['msg']}{more}; correct it") from error


def stress_drivers(
    stresses: Sequence[Stress],
    assets: Sequence[str],
    betas: xr.DataArray,
    volatility: xr.DataArray | None = None,
    instruments: Sequence[Instrument] = (),
    *,
    as_assets: bool = False,
) -> xr.Dataset:
    """Drivers of the stresses, one scenario each, with its gap rule and its effects.

    Assets a stress does not list follow its `others`: ``beta`` times the market's move (the market
    the betas refer to, or the mean of the listed moves), ``volatility`` (the market's move times
    the asset's volatility over the market's: correlation one), ``worst`` (lowest low, highest high,
    and the last that moved most) or ``none`` (unmoved). Listed assets outside the universe keep
    their part in these rules and are named in ``attrs["ignored"]``.

    Parameters
    ----------
    stresses : sequence of Stress
    assets : sequence of str
        The universe.
    betas : DataArray (asset)
        Slopes to ``betas.attrs["market"]``.
    volatility : DataArray (asset), optional
        Today's, daily, of log returns; stresses that need it are refused without.
    instruments : sequence of Instrument
        Behind the assets in the record; funding and pegs are theirs alone.
    as_assets : bool
        Whether the instruments, one per asset, stand for the assets instead.

    Returns
    -------
    Dataset
        Driver record with multiples of the implied volatilities; `label` is the title, `depth` on
        (scenario,) what the file says of it (1 where nothing), and where one says something of a
        currency of the instruments, `peg` (US dollars) on (scenario, settle). `moves_by_asset`
        turns it into fractions.

    Raises
    ------
    ConfigError
        If nothing in the universe is moved by a stress, or a volatility is needed and not there.
    """
    parts = [_stress_ratios(stress, assets, betas, volatility) for stress in stresses]
    ignored = [
        f"{stress.title}: {name}"
        for stress in stresses
        for name in sorted(set(stress.shocks) - set(assets))
    ]
    drivers = make_drivers(
        *(np.concatenate(side) for side in zip(*parts, strict=True)),
        assets=assets,
        label=[stress.title for stress in stresses],
        source=[stress.source for stress in stresses],
        gaps=_all_gaps(stresses, parts),
    )
    # A stress happens at once: options lose no time value, only their volatility moves.
    multiple = np.array([[stress.volatility or 1.0] * len(assets) for stress in stresses])
    depth = [stress.depth or 1.0 for stress in stresses]
    drivers = (
        with_volatility(drivers, multiple, 0.0)
        .assign_coords(depth=("scenario", depth, {"units": "1"}))
        .assign_attrs(ignored=ignored)
    )
    if not instruments:
        return drivers
    ridden = [
        _ride(stress, moves, assets, instruments)
        for stress, moves in zip(stresses, parts, strict=True)
    ]
    low, high, last = (np.concatenate(side) for side in zip(*ridden, strict=True))
    names = [one.name for one in instruments]
    drivers = add_instruments(drivers, names, low, high, last, _all_gaps(stresses, ridden))
    if as_assets:
        drivers = instruments_as_assets(drivers, len(assets))
    coins = sorted({one.settle: one for one in instruments if not one.is_inverse}.items())
    pegs = np.array([[peg_of(one, stress.peg) for _, one in coins] for stress in stresses])
    if (pegs == 1).all():
        return drivers
    drivers = drivers.assign(peg=(("scenario", "settle"), pegs, {"units": "USD"}))
    return drivers.assign_coords(settle=np.array([name for name, _ in coins], object))


def _ride(
    stress: Stress, moves: Ratios, assets: Sequence[str], instruments: Sequence[Instrument]
) -> Ratios:
    """The instruments under one stress: it strikes at once, so that no basis has time to go."""
    total = stress.funding.rate * stress.funding.hours / 8 if stress.funding else 0.0
    paid = np.array([[total if one.is_perpetual else 0.0 for one in instruments]])
    return ride_bars(moves, assets, instruments, paid, horizon_days=0, peg=stress.peg)


def _all_gaps(stresses: Sequence[Stress], parts: Sequence[Ratios]) -> dict[str, np.ndarray]:
    """Every stress's own gaps, one scenario each."""
    gaps = [
        stress_gaps(
            moves,
            stress.gap,
            days=stress.days,
            outage_hours=stress.outage.hours if stress.outage else None,
            breaker=(stress.breaker.pause, stress.breaker.resume) if stress.breaker else None,
        )
        for stress, moves in zip(stresses, parts, strict=True)
    ]
    for place, columns in enumerate(gaps):
        columns["gap_scenario"] = np.full(len(columns["gap_scenario"]), place, "i4")
    return join_gaps(*gaps)


def stress_rules(stresses: Sequence[Stress], assets: Sequence[str]) -> np.ndarray:
    """How each asset's move was found: ``listed``, or the stress's `others` (stress, asset)."""
    return np.array(
        [["listed" if name in s.shocks else s.others for name in assets] for s in stresses],
        object,
    ).reshape(len(stresses), len(assets))


def moves_by_asset(drivers: xr.Dataset) -> xr.Dataset:
    """Moves as fractions of the mark: low, high and last less one (scenario, asset)."""
    moves = drivers[["low", "high", "last"]] - 1
    return moves.assign({name: moves[name].assign_attrs(units="1") for name in moves})


def stress_from_history(
    history: xr.Dataset,
    *,
    start: date,
    end: date,
    assets: Iterable[str] | None = None,
    decimals: int = 4,
) -> dict[str, dict[str, float]]:
    """Shocks of a stress file, computed from a history.

    Parameters
    ----------
    history : Dataset (day, asset)
        Must hold every day from the one before `start` to `end`.
    start, end : date
        UTC days, inclusive; the close before `start` is the reference.
    assets : iterable of str, optional
        Assets wanted; every asset with all the days when absent.
    decimals : int
        Digits the shocks are rounded to.

    Returns
    -------
    dict
        ``{asset: {"low": ..., "high": ..., "last": ...}}``, fractions of the reference.

    Raises
    ------
    ConfigError
        If the days lie outside the history, or a wanted asset lacks one of them.
    """
    days = history["day"].values.astype("M8[D]")
    first, final = np.datetime64(start, "D"), np.datetime64(end, "D")
    if not days[0] < first <= final <= days[-1]:
        raise ConfigError(
            f"{start} to {end} with the day before is not inside the history, "
            f"which runs from {days[0]} to {days[-1]}; choose other days"
        )
    at = int(np.searchsorted(days, final))
    moves = window_ratios(history, np.array([at]), int((final - first).astype(int)) + 1)
    names = [str(name) for name in history["asset"].values]
    known = {name for name, last in zip(names, moves.last[0], strict=True) if np.isfinite(last)}
    wanted = known if assets is None else set(assets)
    if missing := sorted(wanted - known):
        raise ConfigError(
            f"no prices on every day from {start} to {end} for {', '.join(missing)}; leave it out"
        )
    return {
        name: {
            part: round(float(values[0, place]) - 1, decimals) + 0.0
            for part, values in moves._asdict().items()
        }
        for place, name in enumerate(names)
        if name in wanted
    }


def _stress_ratios(
    stress: Stress,
    assets: Sequence[str],
    betas: xr.DataArray,
    volatility: xr.DataArray | None,
) -> Ratios:
    """Low, high and last of every asset under one stress (1, asset)."""
    is_wider = stress.volatility is not None and stress.kind == "hypothetical"
    needs_volatility = stress.others == "volatility" or is_wider
    if volatility is None and needs_volatility:
        raise ConfigError(f"stress {stress.title!r} needs volatilities; calibrate them first")
    names = list(stress.shocks)
    listed = Ratios(
        *(1 + np.array([[getattr(stress.shocks[n], f) for n in names]]) for f in Ratios._fields)
    )
    if stress.others == "none" and not set(names) & set(assets):
        raise ConfigError(
            f"stress {stress.title!r} moves none of this universe's assets; "
            "list one of them or set others to beta, volatility or worst"
        )
    market = market_ratios(listed, names, betas)
    furthest = np.abs(np.log(listed.last[0])).argmax()
    worst = (listed.low.min(), listed.high.max(), listed.last[0, furthest])
    columns = []
    for name in assets:
        if name in stress.shocks:
            columns.append([part[0, names.index(name)] for part in listed])
        elif stress.others == "worst":
            columns.append(list(worst))
        elif stress.others == "none":
            columns.append([1.0, 1.0, 1.0])
        else:
            slope = (
                beta_of(betas, name)
                if stress.others == "beta" or volatility is None
                else beta_of(volatility, name) / beta_of(volatility, betas.attrs["market"])
            )
            columns.append([part[0] for part in scale_move(market, slope)])
    moves = Ratios(*(np.array(side)[None] for side in zip(*columns, strict=True)))
    if is_wider and stress.volatility is not None and volatility is not None:
        daily = np.array([beta_of(volatility, name) for name in assets])
        moves = widen(moves, stress.volatility * daily * np.sqrt(stress.days))
    return moves
