"""What a person sees of a run in a terminal: a progress bar or plain lines, tables, amounts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pyarrow as pa

    from risk.store import Run

#: Called with (stage, done, total): once before a stage, then as its parts are done.
Progress = Callable[[str, int, int], None]

#: Columns of the summary and the facts they show, where the run has them: amounts, then counts.
_AMOUNTS = {
    "VaR 99 %": "value_at_risk.{set}.0.99.total.",
    "ES 97.5 %": "expected_shortfall.{set}.0.975.total.",
    "deficit ES 97.5 %": "deficit_expected_shortfall.{set}.0.975.total.",
}
_COUNTS = {
    "liquidations": "liquidations_mean.{set}.total.",
    "99 %": "liquidations_p99.{set}.total.",
}


def money(value: float | None) -> str:
    """An amount of USD a person can read at a glance.

    Examples
    --------
    >>> money(1_234_567.0), money(-8.2e9), money(950.4), money(None)
    ('1.23 m', '-8.20 bn', '950', 'n/a')
    """
    if value is None:
        return "n/a"
    for unit, size in (("bn", 1e9), ("m", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:,.2f} {unit}"
    return f"{value:,.0f}"


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, n_text: int = 1
) -> Table:
    """A table whose first `n_text` columns are text and whose other columns are figures."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for index, name in enumerate(columns):
        made.add_column(name, justify="left" if index < n_text else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def _values(run: Run) -> dict[str, float | None]:
    """Every fact of a run that is about the whole of it, by its id."""
    return dict(zip(*run.facts.select(["fact_id", "value"]).to_pydict().values(), strict=True))


def key_figures(run: Run) -> list[tuple[str, str]]:
    """The eight figures on top of the officer's report, as (name, text), from the same facts."""
    values = _values(run)
    sets = run.manifest["config"]["scenarios"]
    name = "monte_carlo" if sets.get("monte_carlo") else "historical"
    of_set = name.replace("_", " ")
    figures = {
        f"Value at risk 99 %, {of_set}": f"value_at_risk.{name}.0.99.total.all",
        f"Expected shortfall 97.5 %, {of_set}": f"expected_shortfall.{name}.0.975.total.all",
        "Worst stress loss": "stress.worst_loss",
        f"Liquidations at 99 %, {of_set}": f"liquidations_p99.{name}.total.all",
        "Worst stress deficit": "stress.worst_deficit",
        f"Deficit, expected shortfall 99 %, {of_set}": (
            f"deficit_expected_shortfall.{name}.0.99.total.all"
        ),
        "Insurance funds": "fund.total",
        "Gross notional": "margin.gross_notional",
    }
    shown = []
    for label, fact in figures.items():
        value = values.get(fact)
        is_count = fact.startswith("liquidations")
        text = f"{value:,.0f}" if is_count and value is not None else money(value)
        shown.append((label, text if is_count or value is None else f"{text} USD"))
    return shown


def coverage_line(run: Run) -> str | None:
    """How much of the book is in the figures; None for a book without a position."""
    return _coverage_text(run.coverage)


def _coverage_text(coverage: pa.Table) -> str | None:
    counts = {row["status"]: row["n_positions"] for row in coverage.to_pylist()}
    if not counts.get("in"):
        return None
    share = counts["priced"] / counts["in"]
    return f"Coverage: {counts['priced']:,} of {counts['in']:,} positions priced, {share:.2%}"


def verdict(run: Run) -> str:
    """What the exit status says: 0 within every limit, 3 finished but not within them."""
    n = len(run.breaches)
    if not n:
        return "Within every limit"
    what = "1 limit is" if n == 1 else f"{n} limits are"
    return f"The run is complete and its reports are written, but {what} breached (exit status 3)"


def summary(run: Run) -> Group:
    """The headline figures of a run, one row per scenario set, read from its facts."""
    values = _values(run)

    def find(scenario_set: str, prefix: str) -> float | None:
        prefix = prefix.format(set=scenario_set)
        return next((value for name, value in values.items() if name.startswith(prefix)), None)

    rows = []
    for name, asked in run.manifest["config"]["scenarios"].items():
        amounts = [find(name, prefix) for prefix in _AMOUNTS.values()]
        counts = [find(name, prefix) for prefix in _COUNTS.values()]
        if asked and any(value is not None for value in amounts):
            shown = ["n/a" if count is None else f"{count:,.0f}" for count in counts]
            rows.append([name.replace("_", " "), *map(money, amounts), *shown])
    loss, deficit = (values.get(f"stress.worst_{name}") for name in ("loss", "deficit"))
    lines = [f"Worst stress: loss {money(loss)}, deficit {money(deficit)}"]
    lines += [line for line in (coverage_line(run),) if line]
    lines += [f"BREACHED: {sentence}" for sentence in run.breaches]
    lines.append(verdict(run))
    columns = ["scenario set", *_AMOUNTS, *_COUNTS]
    title = f"Night of {run.as_of}, USD" + (", SYNTHETIC" if run.is_synthetic else "")
    return Group(table(title, columns, rows), *map(Text, lines))


def what_if_table(folder: Path) -> Table:
    """What a branch changed, measure by measure, with the error of each difference."""
    import pyarrow.parquet as pq

    from risk.findings.branch import words_of

    rows = [
        row for row in pq.read_table(folder / "what_if.parquet").to_pylist() if not row["scenario"]
    ]
    title = json.loads((folder / "what_if.json").read_text(encoding="utf-8"))["title"]

    def text(row: dict[str, Any], name: str) -> str:
        value = row[name]
        if row["unit"] == "USD" or value is None:
            return money(value)
        return f"{value:,.2f}"

    names = ("base", "branch", "difference", "standard_error")
    shown = [
        [row["scenario_set"], words_of(row["measure"]), *(text(row, name) for name in names)]
        for row in rows
    ]
    columns = ["set", "measure", "base", "branch", "difference", "error"]
    return table(f"What if: {title}, USD", columns, shown, n_text=2)


def stress_summary(title: str, cells: pa.Table, coverage: pa.Table, notes: Sequence[str]) -> Group:
    """What one stress does to one book, by asset and by venue, largest loss first."""
    columns = ["loss", "deficit", "liquidations", "liquidated_notional"]
    headings = ["holders' loss", "deficit", "liquidations", "notional"]

    def figures(row: dict[str, float], suffix: str = "") -> list[str]:
        loss, deficit, count, notional = (row[column + suffix] for column in columns)
        return [money(loss), money(deficit), f"{count:,.0f}", money(notional)]

    def part(level: str) -> Table:
        sums = cells.group_by(level, use_threads=False).aggregate(
            [(name, "sum") for name in columns]
        )
        rows = sums.sort_by([("loss_sum", "descending"), (level, "ascending")]).to_pylist()
        return table("", [level, *headings], [[row[level], *figures(row, "_sum")] for row in rows])

    total = {name: sum(cells[name].to_pylist()) for name in columns}
    lines = ["A loss below zero is a gain.", *notes, _coverage_text(coverage)]
    return Group(
        Text(title, style="bold"),
        table("", ["", *headings], [["whole book", *figures(total)]]),
        part("asset"),
        part("venue"),
        *(Text(line) for line in lines if line),
    )


@contextmanager
def show_progress(console: Console) -> Iterator[Progress]:
    """Give a callback that draws a bar in a terminal and writes one line per stage elsewhere."""
    if console.is_terminal:
        with _bar(console) as progress:
            yield progress
    else:
        yield _lines(console)


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description:<18}"),
        bars.BarColumn(bar_width=30),
        bars.TimeElapsedColumn(),
        bars.TextColumn("{task.fields[parts]}"),
    )
    with bars.Progress(*columns, console=console) as shown:
        tasks: dict[str, bars.TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                # A stage of one part only says that it is under way.
                known = None if total == 1 else total
                tasks[stage] = shown.add_task(stage, total=known, parts="")
            # A stage of many parts is followed by the pipeline's word that it is over.
            if shown.tasks[tasks[stage]].finished or (total == 1 and not done):
                return
            parts = "" if total == 1 else f"{done:,} of {total:,} blocks"
            shown.update(tasks[stage], completed=done, total=total, parts=parts)

        yield update


def _lines(console: Console) -> Progress:
    started: dict[str, float] = {}
    finished: set[str] = set()

    def update(stage: str, done: int, total: int) -> None:
        # A stopwatch, not the clock: nothing that is written depends on it.
        began = started.setdefault(stage, time.perf_counter())
        if done >= total and stage not in finished:
            finished.add(stage)
            console.print(f"{stage}: {time.perf_counter() - began:.1f} s", highlight=False)

    return update
