"""What a section of the benchmark prints: a figure per line, beside its budget."""

from __future__ import annotations

from collections.abc import Sequence

#: What was measured, the figure, and its budget ("" where there is none).
Row = tuple[str, str, str]


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    width = max(len(name) for name, _, _ in rows)
    print(f"{'':{width}}  {'figure':>8}  budget")
    for name, figure, budget in rows:
        print(f"{name:{width}}  {figure:>8}  {budget}", flush=True)
