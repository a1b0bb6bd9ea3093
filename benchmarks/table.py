"""What a section of the benchmark prints: a figure per line, its budget, and whether it is kept."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

#: What was measured, the figure, and its budget ("" where there is none).
Row = tuple[str, str, str]

_HOLDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def verdict(figure: str, budget: str) -> str:
    """Say whether a figure keeps its budget; nothing where there is none.

    Examples
    --------
    >>> verdict("3.1", "<= 4"), verdict("1,200", ">= 1,500"), verdict("7", "")
    ('kept', 'MISSED', '')
    """
    found = re.fullmatch(r"([<>]=?) ([\d.,]+)", budget)
    if not found:
        return ""
    sign, limit = found.groups()
    kept = _HOLDS[sign](float(figure.replace(",", "")), float(limit.replace(",", "")))
    return "kept" if kept else "MISSED"


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    width = max(len(name) for name, _, _ in rows)
    print(f"{'':{width}}  {'figure':>8}  {'budget':8}  verdict")
    for name, figure, budget in rows:
        line = f"{name:{width}}  {figure:>8}  {budget:8}  {verdict(figure, budget)}"
        print(line.rstrip(), flush=True)
