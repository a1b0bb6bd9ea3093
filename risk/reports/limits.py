"""The inventory of limits and how a night stands against it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from risk.errors import ConfigError
from risk.reports.view import slug

State = Literal["breach", "warning", "within", "not evaluated"]

#: A group of a scope that stands for each of its level.
EVERY = "*"

#: Measures of which a fact without a value is one without bound: a loss over an empty fund.
UNBOUNDED = (
    "fund_use.",
    "stress_fund_use.",
    "leverage.",
    "market_exposure_share.",
    "correlated_loss_share.",
    "expected_shortfall_share.",
)

_Word = Annotated[str, Field(min_length=1)]


class Limit(BaseModel):
    """One limit: a warning level and a breach level on the same side.

    Attributes
    ----------
    name, owner : str
    measure : str
        Fact id; under a scope by level, its part before the level.
    scope : str or Mapping of level to group
        Words beside the one fact `measure`; or one level and a group of it, such as
        ``{book: retail}``, which picks the fact ``<measure>.book.retail``. The group ``*`` is
        each of its level: the limit stands where the worst of them stands.
    side : {"above", "below"}
    warning, breach : float
        In the unit of the fact.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Word
    measure: _Word
    scope: str | Annotated[dict[_Word, _Word], Field(min_length=1, max_length=1)]
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

    @property
    def where(self) -> str:
        """The scope in words.

        Examples
        --------
        >>> Limit(name="a", measure="leverage", scope={"book": "*"}, warning=1, breach=2,
        ...       owner="me").where
        'each book'
        """
        if isinstance(self.scope, str):
            return self.scope
        ((level, group),) = self.scope.items()
        if level == "total":
            return "whole book"
        return f"each {level}" if group == EVERY else f"{level} {group}"

    @property
    def level(self) -> str | None:
        """Level of a scope by level, None for one fact."""
        return None if isinstance(self.scope, str) else next(iter(self.scope))

    def watched(self, values: Mapping[str, float | None]) -> dict[str, float | None]:
        """Ids of the facts it is judged by, with their values."""
        if isinstance(self.scope, str):
            return {self.measure: values.get(self.measure)}
        ((level, group),) = self.scope.items()
        prefix = f"{self.measure}.{level}."
        if group != EVERY:
            wanted = [prefix + slug(group)]
        else:
            n = len(prefix)
            wanted = [name for name in values if name.startswith(prefix) and "." not in name[n:]]
        return {name: _bounded(name, values) for name in wanted}

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
    """A limit and where the night stands against it.

    Attributes
    ----------
    limit : Limit
    state : str
        Of the worst group under a scope by level.
    value : float or None
        The worst; infinite where the fact is without bound.
    fact_id : str
        The fact it was judged by.
    group : str
        The worst group as it stands in the id; empty for a limit on one fact.
    n_groups, n_breach, n_warning : int
        Groups judged, and how many of them are at each level.
    """

    limit: Limit
    state: State
    value: float | None
    fact_id: str = ""
    group: str = ""
    n_groups: int = 1
    n_breach: int = 0
    n_warning: int = 0


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
    states = [_stand(limit, values) for limit in limits]
    return tuple(sorted(states, key=lambda item: _ORDER.index(item.state)))


def _stand(limit: Limit, values: Mapping[str, float | None]) -> LimitState:
    watched = limit.watched(values)
    known = {name: value for name, value in watched.items() if value is not None}
    if not known:
        return LimitState(limit, "not evaluated", None, limit.measure, n_groups=0)
    sign = 1.0 if limit.side == "above" else -1.0
    worst = max(known, key=lambda name: (sign * known[name], name))
    states = [limit.state(value) for value in known.values()]
    return LimitState(
        limit=limit,
        state=limit.state(known[worst]),
        value=known[worst],
        fact_id=worst,
        group="" if limit.level is None else worst.rpartition(".")[2],
        n_groups=len(known),
        n_breach=states.count("breach"),
        n_warning=states.count("warning"),
    )


def _bounded(name: str, values: Mapping[str, float | None]) -> float | None:
    value = values.get(name)
    return math.inf if value is None and name in values and name.startswith(UNBOUNDED) else value


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


def group_changes(
    limit: Limit, before: Mapping[str, float | None], after: Mapping[str, float | None]
) -> dict[str, str]:
    """What became of every group that a limit has or had crossed, by fact id.

    A group that is gone is cured where the list of groups reaches below the levels tonight: it
    was closed, or is not among the largest any more; else nobody knows, and it is lost.
    """
    old, new = limit.watched(before), limit.watched(after)
    reaches = limit.level is not None and "within" in {limit.state(value) for value in new.values()}
    found = {}
    for name in dict.fromkeys([*new, *old]):
        state = "within" if reaches and name not in new else limit.state(new.get(name))
        word = change(limit.state(old.get(name)), state)
        if word is not None:
            found[name] = word
    return found


def limit_changes(
    inputs: _Compared, values: Mapping[str, float | None], states: tuple[LimitState, ...]
) -> tuple[dict[str, str], ...]:
    """What became of each limit's groups since the night before, in the order of `states`."""
    if inputs.previous is None:
        return ({},) * len(states)
    return tuple(group_changes(item.limit, inputs.previous.values, values) for item in states)


def first_change(changes: Mapping[str, str]) -> str | None:
    """The word for a limit: the first, in the order of `CHANGES`, that befell a group of it.

    Examples
    --------
    >>> first_change({"leverage.book.a": "cured", "leverage.book.b": "new"})
    'new'
    """
    return next((word for word in CHANGES if word in changes.values()), None)
