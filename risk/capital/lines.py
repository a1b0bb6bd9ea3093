"""Lines of the capital page: each with its basis, its status and what it may be used for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date

import pyarrow as pa

from risk.capital.settings import CapitalSettings, DatedValue, Rule
from risk.errors import ConfigError

#: One line of the capital page; a null value is not available, for the reason in `note`.
LINES = pa.schema(
    [
        pa.field("section", pa.string(), nullable=False),
        pa.field("section_title", pa.string(), nullable=False),
        pa.field("section_note", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
        pa.field("line", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("basis", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("where", pa.string(), nullable=False),
        pa.field("is_informational", pa.bool_(), nullable=False),
        pa.field("is_verified", pa.bool_(), nullable=False),
        pa.field("note", pa.string()),
    ]
)


class Section:
    """Lines under one rule: they share its status, and each remembers what it rests on.

    Attributes
    ----------
    rule : Rule
    """

    def __init__(self, settings: CapitalSettings, rule: str, as_of: date) -> None:
        if rule not in settings.rules:
            raise ConfigError(f"configs/capital has no rule `{rule}`; add it with its dates")
        self.rule: Rule = settings.rules[rule]
        self._settings, self._as_of = settings, as_of
        self._used: dict[str, DatedValue] = {}
        self._rows: list[dict[str, object]] = []
        self._verified: dict[str, bool] = {}

    def value(self, name: str) -> float:
        """A constant of the configuration; the next line added rests on it."""
        found = self._settings.nearest(name)
        self._used[name] = found
        return found.value

    def add(
        self,
        line: str,
        title: str,
        value: float | None,
        unit: str,
        basis: str = "",
        *,
        verified: bool = True,
        after: tuple[str, ...] = (),
        note: str | None = None,
    ) -> None:
        """Add a line; constants asked for since the line before are named in its basis.

        It is verified if the rule, those constants and the lines `after` which it is made are.
        """
        used = list(self._used.values())
        self._used = {}
        paragraphs = list(dict.fromkeys(one.paragraph for one in used))
        coming = sorted({one.valid_from for one in used if one.valid_from > self._as_of})
        parts = [basis or self.rule.paragraph, *(p for p in paragraphs if p not in basis)]
        parts += [f"with values in force from {day}" for day in coming]
        is_verified = verified and self.rule.verified and all(one.verified for one in used)
        self._verified[line] = is_verified and all(self._verified[name] for name in after)
        self._rows.append(
            {
                "section": self.rule.name,
                "section_title": self.rule.title,
                "section_note": self.rule.note,
                "row": f"{10 * (len(self._rows) + 1):04d}",
                "line": line,
                "title": title,
                "value": value,
                "unit": unit,
                "basis": "; ".join(parts),
                "status": self.rule.status(self._as_of),
                "where": self.rule.where,
                "is_informational": self.rule.informational,
                "is_verified": self._verified[line],
                "note": note,
            }
        )

    def __iter__(self) -> Iterator[dict[str, object]]:
        return iter(self._rows)


def not_available(name: str, reason: str) -> dict[str, object]:
    """The one line of a section that could not be made, with the reason."""
    return {
        "section": name.replace(" ", "_"),
        "section_title": name[:1].upper() + name[1:],
        "section_note": "",
        "row": "0010",
        "line": "not_available",
        "title": "Not available",
        "value": None,
        "unit": "USD",
        "basis": "",
        "status": "not available",
        "where": "",
        "is_informational": True,
        "is_verified": True,
        "note": reason,
    }


def table_of(sections: Iterable[Iterable[dict[str, object]]]) -> pa.Table:
    """All lines below each other, schema ``LINES``."""
    return pa.Table.from_pylist([row for section in sections for row in section], schema=LINES)
