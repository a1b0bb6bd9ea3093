"""The dated values of ``configs/capital``: own funds and rule constants with their paragraphs."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from risk.errors import ConfigError


class DatedValue(BaseModel):
    """One number in force from a date, where it is written down, and whether anyone checked it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    valid_from: Annotated[date, Field(alias="from")]
    value: Annotated[float, Field(allow_inf_nan=False)]
    unit: str
    paragraph: str
    source: str
    verified: bool


class CapitalSettings(BaseModel):
    """Values in force at one date, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entity: str
    values: dict[str, DatedValue]

    def __getitem__(self, name: str) -> DatedValue:
        """Value of that name.

        Raises
        ------
        ConfigError
            If no file names it, or none is in force yet.
        """
        if name not in self.values:
            raise ConfigError(f"configs/capital has no value `{name}` in force; add it with a date")
        return self.values[name]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    entity: str | None = None
    values: list[DatedValue]


def load_capital(folder: Path, as_of: date) -> CapitalSettings:
    """Read every ``*.yaml`` of `folder` and keep the values in force at `as_of`.

    Raises
    ------
    ConfigError
        If the folder has no such file, a file does not parse, or one name is dated twice the same.
    """
    paths = sorted(Path(folder).glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{folder}: no capital file (*.yaml) here; set `capital:` to the folder")
    entity = "the reporting entity"
    values: dict[str, DatedValue] = {}
    seen: set[tuple[str, date]] = set()
    for path in paths:
        try:
            parsed = _File.model_validate(yaml.safe_load(path.read_text("utf-8")))
        except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path.name}: {_first(error)}") from error
        entity = parsed.entity or entity
        for dated in parsed.values:
            if (dated.name, dated.valid_from) in seen:
                raise ConfigError(
                    f"{path.name}: `{dated.name}` is given twice from {dated.valid_from}; keep one"
                )
            seen.add((dated.name, dated.valid_from))
            held = values.get(dated.name)
            in_force = dated.valid_from <= as_of
            if in_force and (held is None or held.valid_from < dated.valid_from):
                values[dated.name] = dated
    return CapitalSettings(entity=entity, values=values)


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())
