"""Two nights on real prices and brackets, from the command line to the outputs, checked.

    python -m tests.real_day FOLDER

Prints the seconds of every step and stops at the first thing that is wrong.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import yaml

from risk import open_run
from risk.store import verify
from tests.test_reports import assert_every_number_is_a_fact

ROOT = Path(__file__).resolve().parents[1]
POSITIONS = 100_000
#: As-of day, and the date of the bracket table in force for it.
NIGHTS = {dt.date(2022, 11, 7): "2023-08-01", dt.date(2025, 6, 29): "2024-10-24"}
OUTPUTS = (
    "manifest.json", "report.html", "capital.html", "capital.json", "cube.zarr", "drivers.zarr",
    "measures.zarr", "positions.parquet", "quarantine.parquet", "facts.parquet",
)  # fmt: skip
DONE, BREACHED = 0, 3


@contextmanager
def step(name):
    """Print how long a step took, whether it failed or not."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        print(f"   {name}: {time.perf_counter() - begun:.1f} s", flush=True)


def bulkhead(*arguments):
    """Run a command as a person would; a breached limit is printed and counts as done."""
    command = [Path(sys.executable).with_name("bulkhead"), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    if done.returncode not in (DONE, BREACHED):
        sys.exit(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stderr}")
    if done.returncode == BREACHED:
        print("   status 3: a limit is breached, or coverage is below its floor")
    return done.stdout


def make_book(folder, data, day):
    """The sample book of the day on real prices, and the config of its night."""
    sample = ("sample", "--positions", POSITIONS, "--as-of", day, "--out", folder)
    files = ("--history", data / "ohlcv_daily.parquet")
    files += ("--tiers", data / "leverage_tiers_binance.parquet")
    bulkhead(*sample, *files)
    config = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    config |= {"as_of": day, "snapshot": str(folder), "history": str(folder / "history")}
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def check_files(run, out):
    """Every output is there, as the manifest sealed it, and the pointer leads to it."""
    for name in OUTPUTS:
        assert (run.path / name).exists(), name
    verify(run)
    latest = json.loads((out / "LATEST.json").read_text())
    assert out / latest["path"] == run.path
    assert (latest["run_id"], latest["as_of"]) == (run.id, str(run.as_of))
    assert open_run(out).id == run.id
    assert not list(out.rglob("*.part")), "something unfinished is left"


def check_coverage(run):
    """Everything that went in came out, nearly all of it priced."""
    count = {row["status"]: row["n_positions"] for row in run.coverage.to_pylist()}
    statuses = ("priced", "unpriced", "liquidatable", "quarantined", "excluded")
    assert count["in"] == POSITIONS == sum(count[status] for status in statuses), count
    shares = {row["status"]: row["notional_share"] for row in run.coverage.to_pylist()}
    assert shares["priced"] >= 0.99, shares
    by_set = pc.value_counts(run.positions["scenario_set"].cast("string")).to_pylist()
    assert {row["values"]: row["counts"] for row in by_set} == dict.fromkeys(
        ("historical", "monte_carlo", "stress"), POSITIONS - count["quarantined"]
    )


def check_measures(run):
    """Finite at every level, ES never below VaR, and the total is what the cube says."""
    for level, node in run.measures.children.items():
        value_at_risk, shortfall = node["value_at_risk"], node["expected_shortfall"]
        assert np.isfinite(value_at_risk.values).all(), level
        assert np.isfinite(shortfall.values).all(), level
        slack = 1e-12 * np.abs(value_at_risk.values)
        assert (shortfall.values >= value_at_risk.values - slack).all(), level
    total = run.measures["total"].to_dataset().isel(group=0)
    for name, node in run.cube.children.items():
        cube = node.to_dataset()
        assert np.isfinite(cube.pnl.values).all(), name
        assert cube.liquidations.sum().item() > 0, name
        assert cube.deficit.sum().item() > 0, name
        if name == "stress":
            continue
        pnl = np.sort(cube.pnl.sum("cell").values)
        worst = -pnl[len(pnl) - math.ceil(0.99 * len(pnl))]
        measured = total.sel(scenario_set=name)
        np.testing.assert_allclose(measured.value_at_risk.sel(confidence=0.99), worst, rtol=1e-9)
        np.testing.assert_allclose(
            measured.liquidations_mean, cube.liquidations.sum("cell").mean(), rtol=1e-9
        )
        assert (measured.deficit_expected_shortfall > 0).all(), name
        fact = fact_of(run, f"value_at_risk.{name}.0.99.total.all")
        assert fact == measured.value_at_risk.sel(confidence=0.99).item()
    last_window = max(run.cube["historical"].label.values)
    assert last_window == str(run.as_of), f"a window ends on {last_window}"


def fact_of(run, fact_id):
    """Value of one fact."""
    return run.facts.filter(pc.equal(run.facts["fact_id"], fact_id))["value"][0].as_py()


def check_reports(run, table):
    """What is printed are facts; what is made up says so; the brackets carry their date."""
    report = (run.path / "report.html").read_text(encoding="utf-8")
    capital = (run.path / "capital.html").read_text(encoding="utf-8")
    for page in (report, capital):
        assert_every_number_is_a_fact(page, run.facts)
        assert "SYNTHETIC" in page
    brackets = next(line for line in report.splitlines() if "brackets of" in line)
    assert f"brackets of {table}" in brackets, brackets
    assert "inverse tiers SYNTHETIC" in brackets, brackets
    facts = {row["fact_id"]: row["value"] for row in run.facts.to_pylist()}
    document = json.loads((run.path / "capital.json").read_text(encoding="utf-8"))
    assert document["as_of"] == str(run.as_of)
    for line in document["lines"]:
        assert line["value"] == facts[line["fact_id"]], line


def check_same_bytes(run, twin):
    """A run by another executor, in another folder, differs in its manifest alone."""
    names = {path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file()}
    assert names == {path.relative_to(twin.path) for path in twin.path.rglob("*") if path.is_file()}
    assert run.id == twin.id
    # `verify` has compared every file with its checksum in the manifest.
    verify(twin)
    assert run.manifest["outputs"] == twin.manifest["outputs"]


def check_night(folder, data, day, table):
    """One night: run it, start it again, run it otherwise, and look at what came out."""
    out = folder / "runs"
    with step("sample"):
        config = make_book(folder, data, day)
    with step("run on dask"):
        print(bulkhead("run", config, "--out", out).rstrip())
    run = open_run(out)
    with step("check"):
        check_files(run, out)
        check_coverage(run)
        check_measures(run)
        check_reports(run, table)
    with step("second start"):
        sealed = (run.path / "manifest.json").stat()
        assert str(run.path / "report.html") in bulkhead("run", config, "--out", out)
        again = (run.path / "manifest.json").stat()
        assert (sealed.st_ino, sealed.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)
        assert len(list(out.glob("as_of=*/run=*"))) == 1
    with step("run in one process"):
        bulkhead("run", config, "--out", folder / "plain", "--executor", "plain")
    with step("compare"):
        check_same_bytes(run, open_run(folder / "plain"))


def main(folder):
    """Run and check every night below `folder`, from nothing."""
    data = Path(os.environ["BULKHEAD_MARKET_DATA"])
    shutil.rmtree(folder, ignore_errors=True)
    for day, table in NIGHTS.items():
        print(f"== night of {day}, brackets of {table}", flush=True)
        check_night(folder / str(day), data, day, table)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
