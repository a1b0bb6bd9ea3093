"""The run card: one page of the night, or of the backtest, in Prefect's UI."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from risk.replay.show import text_tables
from risk.store import Run
from risk.terminal import coverage_line, key_figures, verdict


def show_card(run: Run) -> None:
    """Put a finished night's card beside its flow run."""
    show(run_card(run), f"Night of {run.as_of}")


def show_failure(sentence: str, log: Path | None, work: str) -> None:
    """Put a card beside a flow run that failed."""
    where = f"\n\nLog: `{log.resolve()}`" if log else ""
    show(f"# FAILED\n\n{sentence}{where}\n", f"The {work} failed")


def run_card(run: Run) -> str:
    """Status, the eight key figures, and where the reports lie, as Markdown."""
    status = "BREACHED" if run.breaches else "FINISHED"
    synthetic = " · SYNTHETIC" if run.is_synthetic else ""
    figures = "\n".join(f"| {name} | {text} |" for name, text in key_figures(run))
    notes = [verdict(run), coverage_line(run), *run.breaches]
    folder = run.path.resolve()
    files = ("report.html", "capital.html", "capital.json", "facts.parquet")
    return "\n".join(
        [
            f"# Night of {run.as_of}: {status}{synthetic}",
            "",
            *(f"- {note}" for note in notes if note),
            "",
            "| Figure | Value |",
            "| --- | ---: |",
            figures,
            "",
            *(f"- `{folder / name}`" for name in files),
            "",
            f"Run `{run.id}`, {run.manifest['code_digest'][:16]}",
            "",
        ]
    )


def backtest_card(run: Run) -> str:
    """The tables of a finished backtest, and where its files lie, as Markdown."""
    synthetic = " · SYNTHETIC" if run.is_synthetic else ""
    lines = [f"# Backtest up to {run.as_of}: FINISHED{synthetic}", ""]
    for shown in text_tables(run):
        n_figures = len(shown.columns) - shown.n_text
        rows = [
            list(shown.columns),
            ["---"] * shown.n_text + ["---:"] * n_figures,
            *([cell.replace("|", "/") for cell in row] for row in shown.rows),
        ]
        lines += [f"**{shown.title}**", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    files = ("days", "causes", "attribution", "liquidations", "calibration", "tests", "facts")
    folder = run.path.resolve()
    lines += [f"- `{folder / name}.parquet`" for name in files]
    lines += ["", f"Run `{run.id}`, {run.manifest['code_digest'][:16]}", ""]
    return "\n".join(lines)


def show(markdown: str, description: str) -> None:
    """Put a page beside the flow run."""
    create_markdown_artifact(markdown, key="run-card", description=description)
