"""The run card: one page of the night in Prefect's UI."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from risk.store import Run
from risk.terminal import coverage_line, key_figures, verdict


def show_card(run: Run) -> None:
    """Put a finished night's card beside its flow run."""
    _show(run_card(run), f"Night of {run.as_of}")


def show_failure(sentence: str, log: Path | None) -> None:
    """Put a card beside a flow run that failed."""
    where = f"\n\nLog: `{log.resolve()}`" if log else ""
    _show(f"# FAILED\n\n{sentence}{where}\n", "The night failed")


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


def _show(markdown: str, description: str) -> None:
    create_markdown_artifact(markdown, key="run-card", description=description)
