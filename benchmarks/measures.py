"""Measures of a stored cube, and the roll-up against DuckDB where that is installed."""

from __future__ import annotations

import importlib
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import xarray as xr

from benchmarks.table import Row, show
from risk.cube import plain_text
from risk.measures import measure_cube
from risk.measures.rollup import group_sums

#: Roll-up levels and how many groups each has.
LEVELS = {"venue": 7, "settle": 12, "asset": 100, "side": 2, "book": 20}
CHUNK = 4096


def write_cube(path: Path, scenarios: int, cells: int) -> None:
    """A stored P&L cube with fat tails, written by runs of scenarios."""
    rng = np.random.default_rng(1)
    labels = {
        name: ("cell", np.array([f"{name}{k}" for k in rng.integers(0, n, cells)], object))
        for name, n in LEVELS.items()
    }
    for start in range(0, scenarios, CHUNK):
        n = min(CHUNK, scenarios - start)
        common = rng.standard_t(4, (n, 1))
        pnl = common * 0.3 + rng.standard_normal((n, cells))
        part = xr.Dataset({"pnl": (("scenario", "cell"), pnl)}, coords=labels)
        encoding = {"pnl": {"chunks": (CHUNK, cells)}}
        if start == 0:
            part.to_zarr(path, mode="w", consolidated=False, encoding=encoding)
        else:
            part.drop_vars(labels).to_zarr(path, append_dim="scenario", consolidated=False)


def measure_rows(folder: Path, scenarios: int, cells: int) -> list[Row]:
    """VaR, ES, intervals and contributions of every group of five levels, from the store."""
    write_cube(folder / "cube.zarr", scenarios, cells)
    cube = xr.open_zarr(folder / "cube.zarr", consolidated=False, chunks=None)
    tree = xr.DataTree.from_dict({"monte_carlo": plain_text(cube)})
    begun = time.perf_counter()
    measures = measure_cube(tree, confidences=[0.95, 0.975, 0.99], levels=list(LEVELS))
    seconds = time.perf_counter() - begun
    groups = sum(node.sizes["group"] for node in measures.children.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    title = f"{cells:,} cells x {scenarios:,} scenarios, {len(LEVELS)} levels, {groups} groups"
    return [
        (f"{title}: s", f"{seconds:.1f}", "<= 10"),
        ("  peak memory, the writing of the cube included: GB", f"{peak:.2f}", ""),
    ]


def rollup_rows(vectors: int, scenarios: int, groups: int) -> list[Row]:
    """Sums of vectors by group, ours and DuckDB's on the same numbers."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal((scenarios, vectors))
    of_cell = rng.integers(0, groups, vectors)
    array = xr.DataArray(values, dims=("scenario", "cell"), name="pnl")
    begun = time.perf_counter()
    ours = group_sums(array, [(of_cell, groups)])
    mine = time.perf_counter() - begun
    title = f"roll-up of {vectors:,} vectors x {scenarios:,} scenarios into {groups} groups"
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError:
        return [
            (f"{title}: s", f"{mine:.2f}", ""),
            ("  DuckDB (not importable; pip install duckdb): s", "n/a", ""),
        ]
    columns = {f"s{k}": values[k] for k in range(scenarios)}
    table = pa.table({"g": of_cell} | columns)
    names = ", ".join(f"sum(s{k}) s{k}" for k in range(scenarios))
    connection = duckdb.connect()
    connection.register("vectors", table)
    begun = time.perf_counter()
    query = f"select g, {names} from vectors group by g order by g"
    found = connection.execute(query).fetchnumpy()
    theirs = time.perf_counter() - begun
    if not np.allclose(found["s0"], ours[np.unique(of_cell), 0], rtol=1e-9, atol=1e-9):
        sys.exit("the two roll-ups differ")
    version = duckdb.__version__
    return [
        (f"{title}: s", f"{mine:.2f}", f"< {theirs:.2f}"),
        (f"  DuckDB {version}, columns in memory: s", f"{theirs:.2f}", ""),
    ]


def main(arguments: list[str]) -> None:
    """Print the table."""
    toy = "--toy" in arguments
    scenarios, vectors = (5000, 5000) if toy else (100_000, 200_000)
    with tempfile.TemporaryDirectory(prefix="bulkhead-bench-") as name:
        rows = measure_rows(Path(name), scenarios, 500 if toy else 2000)
    rows += rollup_rows(vectors, 200 if toy else 1000, 100)
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
