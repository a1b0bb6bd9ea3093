"""Whole nights as a person starts them: Parquet in, reports out."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
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


def keep_isolated_futures(folder: Path) -> None:
    """Leave out of a sample book the options and the positions of account pools."""
    (snapshot,) = folder.glob("as_of=*")
    contracts = pq.read_table(snapshot / "contracts.parquet", columns=["venue", "symbol", "type"])
    options = contracts.filter(pc.equal(contracts["type"], "option"))
    positions = pq.read_table(snapshot / "positions.parquet")
    positions = positions.filter(pc.equal(positions["margin_mode"], "isolated"))
    positions = positions.join(options, ["venue", "symbol"], join_type="left anti")
    pq.write_table(positions.sort_by("position_id"), snapshot / "positions.parquet")


def write_config(folder: Path, paths: int, *, is_plain: bool) -> Path:
    """The demo's night on a sample book; plain: without what is optional."""
    config = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    config |= {"snapshot": str(folder), "history": str(folder / "history")}
    config |= {"out": str(folder / "runs"), "max_cells": 4000}
    config["scenarios"]["monte_carlo"]["paths"] = paths
    if is_plain:
        config["scenarios"] |= {"grid": None, "reverse": None, "carry": False}
        del config["margin"]
    if paths < 1000:  # a toy: no worker processes
        config["execution"] = {"executor": "plain"}
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def night_rows(
    folder: Path, positions: int, paths: int, limit: str, *, is_plain: bool = False
) -> list[Row]:
    """One night of the sample book, and where its seconds went."""
    sampled = timed(BULKHEAD, "sample", "--out", str(folder), "--positions", str(positions))
    if is_plain:
        keep_isolated_futures(folder)
    seconds = timed(BULKHEAD, "run", str(write_config(folder, paths, is_plain=is_plain)))
    run = open_run(folder / "runs")
    size = sum(entry["bytes"] for entry in run.manifest["outputs"].values())
    cells = run.cube["monte_carlo"].sizes["cell"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    kind = "plain" if is_plain else "everything on"
    title = f"{positions:,} positions x {paths:,} paths, {cells:,} cells, {kind}"
    return [
        (f"{title}: bulkhead run, s", f"{seconds:.1f}", limit),
        *((f"  {name}: s", f"{spent:.1f}", "") for name, spent in run.manifest["timings"].items()),
        ("  run folder: GB", f"{size / 1024**3:.2f}", ""),
        ("  peak memory of the largest process so far: GB", f"{peak:.2f}", ""),
        ("  the sample book before it: s", f"{sampled:.1f}", ""),
    ]


def main(arguments: list[str]) -> None:
    """Print the table."""
    timed(BULKHEAD, "--help")
    rows = [("bulkhead --help: s", f"{timed(BULKHEAD, '--help'):.2f}", "<= 0.4")]
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as name:
        if "--toy" in arguments:
            rows += night_rows(Path(name) / "toy", 200, 200, "", is_plain=True)
            show(rows + night_rows(Path(name) / "small", 200, 200, ""))
            return
        rows += night_rows(Path(name) / "small", 20_000, 10_000, "<= 25")
        if "--large" in arguments:
            size = (1_000_000, 100_000)
            rows += night_rows(Path(name) / "plain", *size, "<= 60", is_plain=True)
            rows += night_rows(Path(name) / "large", *size, "")
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
