"""The other sections: liquidation, measures, margin, execution, schedule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from risk.config.keys import Count, Flag, Fraction, Keys, Probability


class Liquidation(Keys):
    """What a close-out does to the price."""

    #: Price impact per asset; closing at the trigger without slippage when empty.
    impact: Mapping[str, float] = Field(default_factory=dict)
    cascade: Flag = False

    @model_validator(mode="after")
    def _built(self) -> Liquidation:
        if self.cascade:
            raise ValueError("the cascade is not built yet; set cascade: false")
        if self.impact:
            raise ValueError("price impact is not built yet; set impact: {}")
        return self


class Measures(Keys):
    """Levels of value at risk and expected shortfall, and the least coverage that is acceptable."""

    confidence: tuple[Probability, ...] = (0.95, 0.975, 0.99)
    coverage_floor: Fraction = 0.99

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


class Accounts(Keys):
    """Which sampled scenarios are gone through account by account."""

    #: Of every sampled set, the scenarios with the largest deficits.
    worst_scenarios: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 20


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

    @model_validator(mode="after")
    def _address_needs_dask(self) -> Execution:
        if self.executor == "plain" and self.address:
            raise ValueError("an address needs executor: dask")
        if self.tls and not self.address:
            raise ValueError("tls needs the address of a scheduler")
        return self


#: Fields of a cron line: name, least and greatest value.
_CRON = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 7),
)


class Schedule(Keys):
    """When `bulkhead serve` starts the nightly flow."""

    cron: str = "30 0 * * *"
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
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

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("write a time zone such as UTC or Europe/Berlin") from None
        return timezone
