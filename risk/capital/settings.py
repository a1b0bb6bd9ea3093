"""The dated values of ``configs/capital``: rules, constants and own funds with their paragraphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from risk.errors import ConfigError

_Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Dated(BaseModel):
    """Something written down somewhere, in force from a date, checked or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Name
    valid_from: Annotated[date, Field(alias="from")]
    paragraph: str
    source: str
    verified: bool


class DatedValue(_Dated):
    """One number in force from a date, where it is written down, and whether anyone checked it."""

    value: _Number
    unit: str


class DatedList(_Dated):
    """A list of names, such as the assets of a group, in force from a date."""

    members: tuple[str, ...]


class Rule(_Dated):
    """A set of rules that lines of the capital page are computed by.

    Attributes
    ----------
    title : str
    valid_until : date or None
        Last day in force; none while nothing ends it.
    where : str
        Jurisdictions, in words.
    informational : bool
        Whether the rule does not bind the one who reports.
    note : str
        What a reader must know before using a figure.
    """

    title: str
    valid_until: Annotated[date | None, Field(alias="until")] = None
    where: str
    informational: bool
    note: str = ""

    def status(self, as_of: date) -> str:
        """Whether the rule is in force on a date, and from when, in words."""
        if as_of < self.valid_from:
            return f"not in force on this date; from {self.valid_from}"
        if self.valid_until is not None and as_of > self.valid_until:
            return f"no longer in force; ended {self.valid_until}"
        until = f" until {self.valid_until}" if self.valid_until else ""
        return f"in force from {self.valid_from}{until}"


class CapitalSettings(BaseModel):
    """What is in force at one date, by name; and what comes into force later, apart from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entity: str
    values: dict[str, DatedValue]
    coming: dict[str, DatedValue] = {}
    lists: dict[str, DatedList] = {}
    rules: dict[str, Rule] = {}

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

    def nearest(self, name: str) -> DatedValue:
        """Value in force, else the first to come: for figures that are informational anyway.

        Raises
        ------
        ConfigError
            If no file names it.
        """
        if name in self.coming and name not in self.values:
            return self.coming[name]
        return self[name]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    entity: str | None = None
    values: list[DatedValue] = []
    lists: list[DatedList] = []
    rules: list[Rule] = []


_D = TypeVar("_D", bound=_Dated)


def load_capital(folder: Path, as_of: date) -> CapitalSettings:
    """Read every ``*.yaml`` of `folder` and keep what is in force at `as_of`.

    A list or a rule of which no version is in force yet is kept in its first one.

    Raises
    ------
    ConfigError
        If the folder has no such file, a file does not parse, or one name is dated twice the same.
    """
    paths = sorted(Path(folder).glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{folder}: no capital file (*.yaml) here; set `capital:` to the folder")
    files = []
    for path in paths:
        try:
            files.append((path.name, _File.model_validate(yaml.safe_load(path.read_text("utf-8")))))
        except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path.name}: {_first(error)}") from error
    entities = [file.entity for _, file in files if file.entity]
    values, coming = _in_force([(name, file.values) for name, file in files], as_of)
    lists = _in_force([(name, file.lists) for name, file in files], as_of)
    rules = _in_force([(name, file.rules) for name, file in files], as_of)
    return CapitalSettings(
        entity=entities[-1] if entities else "the reporting entity",
        values=values,
        coming=coming,
        lists=lists[1] | lists[0],
        rules=rules[1] | rules[0],
    )


def _in_force(
    files: Iterable[tuple[str, Sequence[_D]]], as_of: date
) -> tuple[dict[str, _D], dict[str, _D]]:
    """By name, the latest entry not after the date, and the earliest after it."""
    now: dict[str, _D] = {}
    later: dict[str, _D] = {}
    seen: set[tuple[str, date]] = set()
    for file, entries in files:
        for entry in entries:
            name, start = entry.name, entry.valid_from
            if (name, start) in seen:
                raise ConfigError(f"{file}: `{name}` is given twice from {start}; keep one")
            seen.add((name, start))
            kept, is_better = (now, 1) if start <= as_of else (later, -1)
            held = kept.get(name)
            if held is None or is_better * (start - held.valid_from).days > 0:
                kept[name] = entry
    return now, later


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())
