"""The config of a night: every number a person may change, read from one YAML file.

Relative paths are taken from the directory the command is started in, not from the config's own
folder, so that one config serves several workplaces.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from risk.errors import ConfigError
from risk.schema import LABELS

Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Probability = Annotated[float, Field(gt=0, lt=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
#: How historical windows become scenarios: docs/methods/historical.md.
Method = Literal["plain", "age_weighted", "volatility_scaled", "filtered"]


class _Section(BaseModel):
    """A frozen group of keys; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Historical(_Section):
    """Overlapping windows of the price history, replayed on today's book."""

    windows: Count
    method: Method = "plain"
    #: Further methods, each a set of its own: ``historical_filtered``, ...
    also: tuple[Method, ...] = ()
    #: Share of a day's adverse excursion that lands as one jump.
    gap: Fraction
    #: Age weights: weight of a window over that of the window a day younger.
    age_decay: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.995
    #: Volatility scaling: exponential weight of the past.
    volatility_decay: Probability = 0.94

    @model_validator(mode="after")
    def _each_method_once(self) -> Historical:
        if len(self.sets) != 1 + len(self.also):
            raise ValueError("also: name every method once, and not the one in method")
        return self

    @property
    def sets(self) -> dict[str, Method]:
        """Scenario sets and the method of each, the main one first."""
        others = {f"historical_{name}": name for name in self.also if name != self.method}
        return {"historical": self.method, **others}


class MonteCarlo(_Section):
    """Simulated paths."""

    paths: Count
    steps: Count
    #: Law of a day's move: docs/methods/monte_carlo.md.
    model: Literal["student_t", "t_copula"] = "student_t"
    #: Which volatilities stand for tomorrow.
    volatility: Literal["ewma", "garch"] = "ewma"
    #: Scenarios per block: the unit of randomness, so another value draws other paths.
    block: Count = 4096
    #: Common and idiosyncratic jumps on top of the diffusion.
    jumps: Flag = True
    #: Where the normals come from.
    sampling: Literal["plain", "antithetic", "sobol"] = "plain"
    #: How many times as often common jumps come in half of the paths; weights put it right.
    jump_tilt: Annotated[float, Field(ge=1, le=1000, strict=True)] = 1.0

    @model_validator(mode="after")
    def _tilt_needs_jumps(self) -> MonteCarlo:
        if self.jump_tilt > 1 and not self.jumps:
            raise ValueError("jump_tilt needs jumps: true")
        return self


class Stress(_Section):
    """Named stresses, one file each."""

    folder: Path


Move = Annotated[float, Field(gt=-1, allow_inf_nan=False)]


class Grid(_Section):
    """Tables of price moves: all assets together by volatility, and each asset alone."""

    #: Fractions of the mark.
    moves: Annotated[tuple[Move, ...], Field(min_length=1)] = (
        -0.7, -0.5, -0.4, -0.3, -0.2, -0.15, -0.1, -0.05, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0,
    )  # fmt: skip
    #: Multiples of today's volatility the price wanders with on its way; 0: straight.
    volatility: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (
        0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0,
    )  # fmt: skip
    gap: Fraction = 0.3


class Reverse(_Section):
    """The smallest moves that exhaust a fund or breach a limit."""

    #: How far moves are looked for, as fractions of the mark.
    fall: Annotated[float, Field(gt=-1, lt=0)] = -0.95
    rise: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0
    gap: Fraction = 0.3
    #: USD; beside the venues' funds, the total of all deficits and of the holders' losses.
    deficit_limit: Annotated[float, Field(gt=0)] | None = None
    loss_limit: Annotated[float, Field(gt=0)] | None = None


class Scenarios(_Section):
    """The scenario sets of the night; a set that is left out is not run."""

    historical: Historical | None = None
    monte_carlo: MonteCarlo | None = None
    stress: Stress | None = None
    #: No scenario sets: tables and searches on the same ladders.
    grid: Grid | None = None
    reverse: Reverse | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Scenarios:
        if not self.names:
            raise ValueError(
                "no scenario set; name at least one of historical, monte_carlo, stress"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The sets to run, in their canonical order."""
        past = tuple(self.historical.sets) if self.historical else ()
        others = ("monte_carlo", "stress")
        return (*past, *(name for name in others if getattr(self, name) is not None))


class Liquidation(_Section):
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


class Measures(_Section):
    """Levels of value at risk and expected shortfall, and the least coverage that is acceptable."""

    confidence: tuple[Probability, ...] = (0.95, 0.975, 0.99)
    coverage_floor: Fraction = 0.99

    @field_validator("confidence")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not levels or list(levels) != sorted(set(levels)):
            raise ValueError("write at least one level, each once, in ascending order")
        return levels


class Margin(_Section):
    """What the required margin of a position is solved for."""

    target_deficit_probability: Probability = 0.01


class Tls(_Section):
    """Certificates of a remote dask scheduler."""

    ca: Path
    cert: Path
    key: Path


class Execution(_Section):
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


class Schedule(_Section):
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


class Config(_Section):
    """A whole night. See `load_config` for reading one."""

    as_of: Literal["latest"] | dt.date = "latest"
    snapshot: Path
    history: Path
    venues: Path
    horizon_days: Count = 1
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    #: Roll-up labels that make a cube cell.
    cells: tuple[str, ...] = LABELS
    max_cells: Count = 2000
    scenarios: Scenarios
    liquidation: Liquidation = Liquidation()
    measures: Measures = Measures()
    margin: Margin = Margin()
    capital: Path | None = None
    limits: Path | None = None
    execution: Execution = Execution()
    schedule: Schedule = Schedule()
    #: Run on a snapshot without a single position instead of refusing it.
    allow_empty: Flag = False
    out: Path

    @field_validator("cells")
    @classmethod
    def _each_once(cls, cells: tuple[str, ...]) -> tuple[str, ...]:
        if not cells or len(set(cells)) != len(cells) or not set(cells) <= set(LABELS):
            raise ValueError(f"write at least one of {', '.join(LABELS)}, each once")
        return tuple(label for label in LABELS if label in cells)

    @property
    def as_of_date(self) -> dt.date | None:
        """The date asked for; None for the latest snapshot."""
        return None if self.as_of == "latest" else self.as_of


#: Keys that say where things are and how they are executed, not what is computed.
NOT_IDENTITY: Any = {
    "as_of": True,
    "snapshot": True,
    "history": True,
    "venues": True,
    "capital": True,
    "limits": True,
    "out": True,
    "execution": True,
    "schedule": True,
    "scenarios": {"stress": {"folder"}},
}


def config_identity(config: Config) -> dict[str, Any]:
    """The keys that change a number, as JSON values: no paths, no execution, no schedule.

    The as-of date and the content of every file behind a path are digested beside it, by the store.
    """
    return config.model_dump(mode="json", exclude=NOT_IDENTITY)


def config_digest(config: Config) -> str:
    """SHA-256 (hex) of `config_identity`."""
    text = json.dumps(config_identity(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: str | Path, **overrides: Any) -> Config:
    """Read and check a config.

    Parameters
    ----------
    path : str or Path
        YAML file with the keys of `Config`.
    **overrides
        Values that replace those of the file; dots in a key are written as two underscores
        (``execution__workers=4``). None leaves the file's value.

    Returns
    -------
    Config
        Frozen. Relative paths stay relative to the current directory.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, has an unknown or repeated key, a value that is not
        allowed, or names a folder that does not exist. One sentence with the file, the key, what
        is wrong and how to mend it.
    """
    path = Path(path)
    values, lines = _read(path)
    for dotted, value in overrides.items():
        if value is not None:
            _put(values, dotted.split("__"), value)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(path, error, lines)) from None
    _check_paths(path, config, lines)
    return config


_Lines = dict[tuple[str | int, ...], int]


def _read(path: Path) -> tuple[dict[str, Any], _Lines]:
    try:
        text = path.read_text(encoding="utf-8")
        tree, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such config; see configs/demo.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{where}: {problem}; mend the YAML") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: is not a list of keys and values; see configs/demo.yaml")
    return values, dict(_key_lines(tree, (), path))


def _key_lines(node: yaml.Node | None, at: tuple, path: Path) -> list[tuple[tuple, int]]:
    """The line of every key; YAML itself would silently let the second of two equal keys win."""
    found: list[tuple[tuple, int]] = []
    if not isinstance(node, yaml.MappingNode):
        return found
    seen = set()
    for key, value in node.value:
        here, line = (*at, key.value), key.start_mark.line + 1
        if key.value in seen:
            raise ConfigError(f"{path}, line {line}: {_dotted(here)} stands twice; keep one")
        seen.add(key.value)
        found += [(here, line), *_key_lines(value, here, path)]
    return found


def _put(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        child = values.setdefault(key, {})
        if not isinstance(child, dict):
            return  # the file's own fault is reported by the validation
        values = child
    values[keys[-1]] = value


def _dotted(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location)


def _sentence(path: Path, error: ValidationError, lines: _Lines) -> str:
    """The first fault in one sentence, and how many more there are."""
    faults = error.errors(include_url=False)
    # An unknown key is usually the cause of the missing one beside it: name it first.
    fault = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")
    # A union adds the name of the alternative that failed; the file has no such key.
    location = tuple(part for part in fault["loc"] if part not in {"literal['latest']", "date"})
    line = f", line {lines[location]}" if location in lines else ""
    where = f"{path}{line}: {_dotted(location)}" if location else f"{path}{line}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where} {_problem(location, fault)}{more}"


def _problem(location: tuple[str | int, ...], fault: Any) -> str:
    value = fault["input"]
    if fault["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"is not a known key; {hint}"
    if fault["type"] == "missing":
        return "is missing; see configs/demo.yaml"
    if location[:1] == ("as_of",):
        return f"is {value!r}; write latest or a date such as 2025-06-29"
    if isinstance(value, str) and fault["type"].startswith(("float", "int")):
        return f"is the text {value!r}; write a number (1.0e-3, not 1e-3)"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if fault["type"] == "value_error":
        return f"cannot stand: {message}"
    return f"is {value!r} and {message}"


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(kind for kind in options if hasattr(kind, "model_fields"))
    return list(model.model_fields)


def _check_paths(path: Path, config: Config, lines: _Lines) -> None:
    stress = config.scenarios.stress
    named: dict[tuple[str, ...], Path | None] = {
        ("snapshot",): config.snapshot,
        ("history",): config.history,
        ("venues",): config.venues,
        ("scenarios", "stress", "folder"): stress.folder if stress else None,
        ("capital",): config.capital,
        ("limits",): config.limits,
    }
    for key, target in named.items():
        if target is None or target.exists():
            continue
        line = f", line {lines[key]}" if key in lines else ""
        hint = (
            "write a sample with `bulkhead sample --out data`"
            if key[0] in {"snapshot", "history"}
            else "mend the path"
        )
        raise ConfigError(
            f"{path}{line}: {_dotted(key)} is {str(target)!r}, which does not exist here "
            f"({Path.cwd().name}/); {hint}, or start from the right directory"
        )
