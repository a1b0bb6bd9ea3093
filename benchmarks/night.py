"""Whole nights as a person starts them: Parquet in, reports out."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.table import Row, show
from risk import open_run

ROOT = Path(__file__).resolve().parents[1]
BULKHEAD = str(Path(sys.executable).with_name("bulkhead"))


def timed(*command: str) -> float:
    """Wall seconds of a command; a breached limit is no failure."""
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return time.perf_counter() - begun


def night_rows(folder: Path, positions: int, paths: int, limit: str) -> list[Row]:
    """One night of the sample book, and where its seconds went."""
    sampled = timed(BULKHEAD, "sample", "--out", str(folder), "--positions", str(positions))
    config = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    config |= {"snapshot": str(folder), "history": str(folder / "history")}
    config |= {"out": str(folder / "runs"), "max_cells": 4000}
    config["scenarios"]["monte_carlo"]["paths"] = paths
    if paths < 1000:  # a toy: no worker processes
        config["execution"] = {"executor": "plain"}
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(config))
    seconds = timed(BULKHEAD, "run", str(path))
    run = open_run(folder / "runs")
    size = sum(entry["bytes"] for entry in run.manifest["outputs"].values())
    cells = run.cube["monte_carlo"].sizes["cell"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    title = f"{positions:,} positions x {paths:,} paths, {cells:,} cells"
    return [
        (f"{title}: bulkhead run, s", f"{seconds:.1f}", limit),
        *((f"  {name}: s", f"{spent:.1f}", "") for name, spent in run.manifest["timings"].items()),
        ("  run folder: GB", f"{size / 1024**3:.2f}", ""),
        ("  peak memory of the largest process: GB", f"{peak:.2f}", ""),
        ("  the sample book before it: s", f"{sampled:.1f}", ""),
    ]


def main(arguments: list[str]) -> None:
    """Print the table."""
    timed(BULKHEAD, "--help")
    rows = [("bulkhead --help: s", f"{timed(BULKHEAD, '--help'):.2f}", "<= 0.4")]
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as name:
        if "--toy" in arguments:
            show(rows + night_rows(Path(name) / "toy", 200, 200, ""))
            return
        rows += night_rows(Path(name) / "small", 20_000, 10_000, "<= 25")
        if "--large" in arguments:
            rows += night_rows(Path(name) / "large", 1_000_000, 100_000, "<= 60")
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
