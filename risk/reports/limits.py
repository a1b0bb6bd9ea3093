"""The inventory of limits and how a night stands against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from risk.errors import ConfigError

State = Literal["breach", "warning", "within", "not evaluated"]


class Limit(BaseModel):
    """One limit on one fact: a warning level and a breach level on the same side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    measure: Annotated[str, Field(min_length=1)]
    scope: str
    side: Literal["above", "below"] = "above"
    warning: Annotated[float, Field(allow_inf_nan=False)]
    breach: Annotated[float, Field(allow_inf_nan=False)]
    owner: str

    @model_validator(mode="after")
    def _ordered(self) -> Limit:
        first, last = (self.warning, self.breach)[:: 1 if self.side == "above" else -1]
        if first > last:
            raise ValueError(f"`{self.name}`: the warning must come before the breach")
        return self

    def state(self, value: float | None) -> State:
        """Where `value` stands; reaching a level counts as crossing it.

        Examples
        --------
        >>> limit = Limit(name="VaR", measure="x", scope="all", warning=8, breach=10, owner="me")
        >>> limit.state(7.9), limit.state(8.0), limit.state(10.0), limit.state(None)
        ('within', 'warning', 'breach', 'not evaluated')
        """
        if value is None:
            return "not evaluated"
        sign = 1.0 if self.side == "above" else -1.0
        if sign * value >= sign * self.breach:
            return "breach"
        return "warning" if sign * value >= sign * self.warning else "within"


class _Previous(Protocol):
    @property
    def values(self) -> Mapping[str, float | None]: ...


class _Compared(Protocol):
    @property
    def previous(self) -> _Previous | None: ...


@dataclass(frozen=True)
class LimitState:
    """A limit and where the night stands against it."""

    limit: Limit
    state: State
    value: float | None


#: What can become of a limit that was or is crossed.
CHANGES = ("new", "continuing", "eased", "cured", "lost")

#: State of a limit on a night there is no run of.
NO_NIGHT = "no night"

_CROSSED = ("breach", "warning")

_ORDER: tuple[State, ...] = ("breach", "warning", "not evaluated", "within")


def load_limits(path: Path) -> tuple[Limit, ...]:
    """Read ``limits.yaml``.

    Raises
    ------
    ConfigError
        If the file does not parse, has an unknown key, or names one limit twice.
    """
    path = Path(path)
    try:
        parsed = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(parsed, dict) or set(parsed) != {"limits"}:
            raise ConfigError(f"{path.name}: expected one key `limits` with a list")
        limits = tuple(Limit.model_validate(entry) for entry in parsed["limits"] or [])
    except OSError as error:
        raise ConfigError(f"{path.name}: cannot be read; set `limits:` to the file") from error
    except (yaml.YAMLError, TypeError) as error:
        raise ConfigError(f"{path.name}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "limit"
        raise ConfigError(f"{path.name}: {where}: {first['msg']}") from error
    names = [limit.name for limit in limits]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{path.name}: limit `{twice[0]}` is given twice; keep one")
    return limits


def evaluate_limits(
    limits: tuple[Limit, ...], values: Mapping[str, float | None]
) -> tuple[LimitState, ...]:
    """Stand of every limit, breaches first, else in the order of the inventory.

    Parameters
    ----------
    limits : tuple of Limit
        The inventory.
    values : Mapping of str to float or None
        Fact id to value, in the unit of the fact.
    """
    states = [
        LimitState(limit, limit.state(values.get(limit.measure)), values.get(limit.measure))
        for limit in limits
    ]
    return tuple(sorted(states, key=lambda item: _ORDER.index(item.state)))


def change(before: str, after: str) -> str | None:
    """What became of a limit between two nights.

    Examples
    --------
    >>> [change(*pair) for pair in (("warning", "breach"), ("breach", "breach"))]
    ['new', 'continuing']
    >>> [change("breach", after) for after in ("warning", "within", "not evaluated")]
    ['eased', 'cured', 'lost']
    >>> change("within", "within") is None
    True
    """
    if after in _CROSSED:
        if before == after:
            return "continuing"
        return "eased" if before == "breach" else "new"
    if before in _CROSSED:
        return "cured" if after == "within" else "lost"
    return None


def limit_changes(inputs: _Compared, states: tuple[LimitState, ...]) -> tuple[str | None, ...]:
    """What became of each limit since the night before, in the order of `states`."""
    if inputs.previous is None:
        return (None,) * len(states)
    values = inputs.previous.values
    return tuple(
        change(item.limit.state(values.get(item.limit.measure)), item.state) for item in states
    )
