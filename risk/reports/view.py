"""How a fact is printed: the only way a number reaches a page."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from markupsafe import Markup, escape

from risk.errors import RunError

MINUS = "\N{MINUS SIGN}"

#: Decimals a money fact carries to the scale it is printed in; two decimals are always shown.
MONEY_SCALES: Mapping[int, tuple[float, str]] = {
    -4: (1e6, "USD m"),
    -1: (1e3, "USD k"),
    2: (1.0, "USD"),
}

_NBSP = "\N{NO-BREAK SPACE}"
_SUFFIXES = {"1": "", "%": f"{_NBSP}%", "x": "\N{MULTIPLICATION SIGN}"}
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def money_decimals(gross_notional_usd: float) -> int:
    """Decimals of the money facts of a book: millions, unless that would print only zeros.

    Examples
    --------
    >>> money_decimals(5e8), money_decimals(2e5), money_decimals(12.0)
    (-4, -1, 2)
    """
    if gross_notional_usd >= 1e7:
        return -4
    return -1 if gross_notional_usd >= 1e4 else 2


def slug(label: object) -> str:
    """A label as one part of a fact id; a digest keeps two odd labels apart.

    Examples
    --------
    >>> slug("BTC"), slug("Black Thursday")
    ('BTC', 'Black-Thursday~28219109')
    """
    text = str(label)
    if _PLAIN.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:40]
    return f"{kept}~{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def printable(text: object, limit: int = 96) -> str:
    """Text from the inputs without control or direction characters, and not longer than `limit`.

    Examples
    --------
    >>> printable("x" * 9, limit=6)
    'xxx…xx'
    """
    clean = "".join(
        "\N{REPLACEMENT CHARACTER}"
        if char in _BIDI or unicodedata.category(char) in {"Cc", "Cs", "Co", "Cn"}
        else char
        for char in str(text)
    )
    if len(clean) <= limit:
        return clean
    tail = (limit - 1) // 2
    return f"{clean[: limit - 1 - tail]}…{clean[-tail:]}"


def format_number(value: float, decimals: int, *, sign: bool = False) -> str:
    """Thousands commas, fixed decimals, a true minus sign and never a minus zero.

    Examples
    --------
    >>> format_number(-1234.5, 1), format_number(-0.001, 2), format_number(2.0, 1, sign=True)
    ('−1,234.5', '0.00', '+2.0')
    """
    text = f"{abs(value):,.{decimals}f}"
    if not any(digit in "123456789" for digit in text):
        return text
    if value < 0:
        return MINUS + text
    return f"+{text}" if sign else text


@dataclass(frozen=True)
class _Row:
    value: float | None
    unit: str
    decimals: int
    scope: str


class Facts:
    """The fact table by id, and how its values look on a page.

    Parameters
    ----------
    table : Table
        Schema ``FACTS``.

    Raises
    ------
    RunError
        If one id occurs twice.
    """

    def __init__(self, table: pa.Table) -> None:
        self._rows: dict[str, _Row] = {}
        columns = [table[name].to_pylist() for name in ("fact_id", *_Row.__annotations__)]
        for fact_id, *row in zip(*columns, strict=True):
            if fact_id in self._rows:
                raise RunError(f"fact `{fact_id}` occurs twice in the fact table")
            self._rows[fact_id] = _Row(*row)

    def __contains__(self, fact_id: object) -> bool:
        return fact_id in self._rows

    def row(self, fact_id: str) -> _Row:
        """One row.

        Raises
        ------
        RunError
            If there is no such fact: a page never prints a number without one.
        """
        if fact_id not in self._rows:
            raise RunError(f"the report needs fact `{fact_id}`, which was not collected")
        return self._rows[fact_id]

    def value(self, fact_id: str) -> float | None:
        """Unrounded value, none where not available."""
        return self.row(fact_id).value

    def values(self) -> dict[str, float | None]:
        """Every value by id."""
        return {fact_id: row.value for fact_id, row in self._rows.items()}

    @property
    def money_unit(self) -> str:
        """Unit all money of this table is printed in."""
        decimals = next((r.decimals for r in self._rows.values() if r.unit == "USD"), -4)
        return MONEY_SCALES[decimals][1]

    def text(self, fact_id: str, *, sign: bool = False, missing: str = "n/a") -> str:
        """The number as printed, without its unit, or `missing`."""
        row = self.row(fact_id)
        if row.value is None:
            return missing
        if row.unit == "USD":
            return format_number(row.value / MONEY_SCALES[row.decimals][0], 2, sign=sign)
        return format_number(row.value, row.decimals, sign=sign)

    def labelled(self, fact_id: str, *, sign: bool = False, missing: str = "n/a") -> str:
        """The number for a chart, with its unit unless that is money, which the axis states."""
        text = self.text(fact_id, sign=sign, missing=missing)
        return text if self.row(fact_id).unit == "USD" else text + self._around(fact_id)[1]

    def number(
        self, fact_id: str, *, sign: bool = False, unit: bool = False, missing: str = "n/a"
    ) -> Markup:
        """The number as HTML that names its fact; `unit` puts its unit around it."""
        row = self.row(fact_id)
        text = self.text(fact_id, sign=sign, missing=missing)
        value = "" if row.value is None else repr(row.value)
        tag = Markup('<data value="{}" data-fact="{}">{}</data>').format(value, fact_id, text)
        before, after = self._around(fact_id) if unit else ("", "")
        return Markup("{}{}{}").format(before, tag, after)

    def _around(self, fact_id: str) -> tuple[str, str]:
        """What a unit puts before and after its number: USD 1.20 m, 3 %, 2x."""
        row = self.row(fact_id)
        if row.value is None:
            return "", ""
        if row.unit == "USD":
            currency, _, scale = MONEY_SCALES[row.decimals][1].partition(" ")
            return f"{currency}{_NBSP}", f"{_NBSP}{scale}" if scale else ""
        return "", _SUFFIXES.get(row.unit, f"{_NBSP}{row.unit}")


def label(text: object, limit: int = 96) -> Markup:
    """Text from the inputs, escaped and kept from changing the direction of its surroundings."""
    shown = printable(text, limit)
    if shown == str(text):
        return Markup("<bdi>{}</bdi>").format(shown)
    full = escape(printable(text, 400))
    return Markup('<bdi title="{}">{}</bdi>').format(full, shown)
