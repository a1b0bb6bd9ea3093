"""The other sections: liquidation, measures, margin, execution, schedule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, field_validator, model_validator

from risk.config.keys import Count, Flag, Fraction, Keys, NonNegative, Probability


class Impact(Keys):
    """Square-root impact of what is closed; none without a coefficient."""

    #: Impact of closing one day's volume, in daily volatilities; an asset's own under `assets`.
    coefficient: NonNegative | None = None
    assets: Mapping[str, NonNegative] = Field(default_factory=dict)
    #: Whose volume: the mean of the history's last days, or of the snapshot's contracts.
    volume: Literal["history", "contracts"] = "history"
    volume_days: Count = 30
    #: Equal parts a position is closed in, over how many hours, and what the wait is charged.
    slices: Count = 1
    hours: NonNegative = 0.0
    adverse: NonNegative = 0.0

    @model_validator(mode="after")
    def _of_something(self) -> Impact:
        fields = type(self).model_fields.items()
        given = any(
            getattr(self, name) != field.get_default(call_default_factory=True)
            for name, field in fields
        )
        if self.coefficient is None and given:
            raise ValueError("write a coefficient, such as 0.5, or set impact: {}")
        return self


class Cascade(Keys):
    """What is closed moves the price for everyone closed after it."""

    #: Share of the impact that is still in the price at the horizon.
    permanent: Fraction = 0.0


class Liquidation(Keys):
    """What a close-out does to the price."""

    #: Closing at the trigger without slippage when empty.
    impact: Impact = Impact()
    cascade: Cascade | None = None

    @field_validator("cascade", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        # On and off without settings are the usual way to write it.
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _go_together(self) -> Liquidation:
        if self.cascade and self.impact.coefficient is None:
            raise ValueError("a cascade needs impact: {coefficient: 0.5}, or set cascade: false")
        if self.cascade and self.impact.slices > 1:
            raise ValueError("in a cascade everyone closes at once; set slices: 1")
        return self


class Measures(Keys):
    """Levels of value at risk and expected shortfall, and the least coverage that is acceptable."""

    confidence: tuple[Probability, ...] = (0.95, 0.975, 0.99)
    coverage_floor: Fraction = 0.99
    #: Parts of the tail down to the position, other estimators, convergence.
    attribution: Flag = False

    @field_validator("confidence")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not levels or list(levels) != sorted(set(levels)):
            raise ValueError("write at least one level, each once, in ascending order")
        return levels


class Margin(Keys):
    """What the required margins of a position are solved for, over the horizon."""

    target_deficit_probability: Probability = 0.01
    target_liquidation_probability: Probability = 0.05
    #: Sets that margin adequacy is measured on; the report shows the first. None: not measured.
    adequacy: tuple[Literal["historical", "monte_carlo"], ...] = ()
    #: Share added to every requirement in calm times.
    buffer: Annotated[float, Field(ge=0, le=10, strict=True)] = 0.25
    #: Weight of the requirement at stressed volatility.
    stressed_weight: Fraction = 0.25
    #: One more unit of collateral, as a share of the notional.
    unit: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.01
    #: Impact of closing one day's volume, in daily volatilities, in suggested tiers.
    tier_impact: Annotated[float, Field(ge=0, le=100, strict=True)] = 0.5


class Accounts(Keys):
    """Which sampled scenarios are gone through account by account."""

    #: Of every sampled set, the scenarios with the largest deficits.
    worst_scenarios: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 20


class WhatIf(Keys):
    """A branch of a night: its changes, and the finished run it is measured against."""

    file: Path
    base: Path


class Cross(Keys):
    """Isolated accounts as if their positions shared collateral, beside what they are."""

    contrast: Flag = False
    #: Newest historical windows, and first Monte Carlo paths, that are compared.
    windows: Annotated[int, Field(ge=0, le=100_000, strict=True)] = 250
    paths: Annotated[int, Field(ge=0, le=100_000, strict=True)] = 256


class Tls(Keys):
    """Certificates of a remote dask scheduler."""

    ca: Path
    cert: Path
    key: Path


class Execution(Keys):
    """Where the blocks run; changes no number, so it is not part of the run's identity."""

    executor: Literal["plain", "dask"] = "dask"
    workers: Count = 2
    #: A running dask scheduler, such as ``tls://scheduler:8786``; an embedded cluster when null.
    address: str | None = None
    tls: Tls | None = None
    #: A folder, or an object store such as ``s3://bucket/prefix``, by which workers that do not
    #: see `out` get what they read and give what they wrote; they write into `out` when null.
    shared: str | None = None
    #: Where each worker's machine keeps what it read from there; ``~`` and variables are its own.
    cache: str | None = None

    @model_validator(mode="after")
    def _address_needs_dask(self) -> Execution:
        if self.executor == "plain" and (self.address or self.shared):
            raise ValueError("an address needs executor: dask")
        if self.tls and not self.address:
            raise ValueError("tls needs the address of a scheduler")
        if self.address and self.address.startswith("tls://") != (self.tls is not None):
            raise ValueError(
                "tls needs an address that begins with tls://, and the other way round"
            )
        if self.cache and not self.shared:
            raise ValueError("a cache needs the shared address that it is filled from")
        # The manifest keeps the config: a run must not give a secret away.
        if self.shared and "@" in self.shared.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "the shared address holds a password; give it in the environment of every machine"
            )
        return self


#: Fields of a cron line: name, least and greatest value.
_CRON = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 7),
)


def _check_cron(cron: str) -> str:
    """Refuse a line that is no cron."""
    fields = cron.split()
    if len(fields) != len(_CRON):
        raise ValueError('write five fields, such as "30 0 * * *"')
    for field, (name, least, most) in zip(fields, _CRON, strict=True):
        for part in field.split(","):
            found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/[1-9]\d*)?", part)
            bounds = [int(bound) for bound in found.groups() if bound] if found else [-1]
            if bounds != sorted(bounds) or any(not least <= one <= most for one in bounds):
                raise ValueError(f"{part!r} is no {name}; write {least} to {most}, or *")
    return cron


Cron = Annotated[str, AfterValidator(_check_cron)]


class ScheduledBacktest(Keys):
    """When `bulkhead serve` replays the latest nights, and how many."""

    cron: Cron = "0 3 * * 0"
    nights: Count = 250
    #: History of mark prices liquidations are counted on; the config's history when null.
    marks: Path | None = None


class Schedule(Keys):
    """When `bulkhead serve` starts the nightly flow, and backtests."""

    cron: Cron = "30 0 * * *"
    timezone: str = "UTC"
    backtest: ScheduledBacktest | None = None

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("write a time zone such as UTC or Europe/Berlin") from None
        return timezone
