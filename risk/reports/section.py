"""A part of the officer's report that a run has only if its config asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from markupsafe import Markup

from risk.reports.view import Facts


class Fact(NamedTuple):
    """One number of a section; decimals follow from the unit unless given."""

    fact_id: str
    value: float | None
    unit: str
    scope: str
    decimals: int | None = None


@dataclass(frozen=True)
class Section:
    """A section of the officer's report.

    Attributes
    ----------
    name : str
        Anchor on the page, and name of the template: ``templates/sections/<name>.html.j2``. The
        template is the body below the heading; it prints numbers by ``n(fact_id)`` only, and finds
        the section as ``section`` and its pictures in ``charts``.
    title, nav : str
        Heading, and its short form in the menu.
    facts : tuple of Fact
        Every number the section prints; they enter the one fact table.
    context : Mapping
        Names and orders the template loops over, no numbers.
    charts : Mapping of str to callable (Facts) -> Markup or None
        Pictures, drawn from the fact table.
    """

    name: str
    title: str
    nav: str
    facts: tuple[Fact, ...]
    context: Mapping[str, Any] = field(default_factory=dict)
    charts: Mapping[str, Callable[[Facts], Markup | None]] = field(default_factory=dict)
