"""Backtests as a person starts them: nights of a sample book, replayed with the windows before."""

from __future__ import annotations

import datetime as dt
import resource
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from benchmarks.night import BULKHEAD, ROOT, timed
from benchmarks.table import Row, show
from risk import open_run


def replay_rows(folder: Path, positions: int, nights: int, windows: int, limit: str) -> list[Row]:
    """One backtest that ends with the last night the sample's history can judge."""
    sampled = timed(BULKHEAD, "sample", "--out", str(folder), "--positions", str(positions))
    config = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    config |= {"snapshot": str(folder), "history": str(folder / "history")}
    config |= {"out": str(folder / "runs"), "max_cells": 4000}
    config["scenarios"] = {"historical": {"windows": windows, "gap": 0.3}}
    path = folder / "nights.yaml"
    path.write_text(yaml.safe_dump(config))
    days = pq.read_table(folder / "history/prices.parquet", columns=["ts"])["ts"]
    last = days.to_numpy().max().astype("M8[D]").item() - dt.timedelta(days=1)
    first = last - dt.timedelta(days=nights - 1)
    seconds = timed(BULKHEAD, "backtest", str(path), "--from", str(first), "--to", str(last))
    run = open_run(folder / "runs/backtest")
    workers = run.manifest["config"]["execution"]["workers"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    title = f"{nights:,} nights, {positions:,} positions, {windows:,} windows, {workers} workers"
    return [
        (f"{title}: bulkhead backtest, s", f"{seconds:.1f}", limit),
        *((f"  {name}: s", f"{spent:.1f}", "") for name, spent in run.manifest["timings"].items()),
        ("  one night: s", f"{run.manifest['timings']['replay'] / nights:.2f}", ""),
        ("  peak memory of the largest process: GB", f"{peak:.2f}", ""),
        ("  the sample book before it: s", f"{sampled:.1f}", ""),
    ]


def main(arguments: list[str]) -> None:
    """Print the table."""
    timed(BULKHEAD, "--help")
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as name:
        rows = replay_rows(Path(name) / "small", 10_000, 20, 250, "")
        if "--large" in arguments:
            rows += replay_rows(Path(name) / "large", 100_000, 250, 1000, "<= 300")
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
