"""Finished runs: open one, check that nobody touched it, list them, compare two."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from risk.config import NOT_IDENTITY
from risk.errors import RunError
from risk.store.identity import file_digest, run_id
from risk.store.workspace import MANIFEST, finished_folders

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr


@dataclass(frozen=True)
class Run:
    """A finished run; its cubes and tables are opened when they are asked for.

    Attributes
    ----------
    path : Path
        The run folder.
    manifest : Mapping
        Identity, config, inputs' digests, versions, coverage, breaches, timings, checksums.
    """

    path: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Digest that names the run."""
        return self.manifest["run_id"]

    @property
    def as_of(self) -> dt.date:
        """Date of the snapshot."""
        return dt.date.fromisoformat(self.manifest["as_of"])

    @property
    def breaches(self) -> tuple[str, ...]:
        """One sentence per breached limit, and one if coverage is below its floor."""
        return tuple(self.manifest["breaches"])

    @cached_property
    def is_synthetic(self) -> bool:
        """Whether the book or its prices were generated."""
        notes = [self.path / name for name in ("snapshot.json", "market.json")]
        return any(
            json.loads(note.read_text(encoding="utf-8"))["is_synthetic"]
            for note in notes
            if note.is_file()
        )

    @cached_property
    def cube(self) -> xr.DataTree:
        """One group per scenario set; the variables of `risk.schema.CUBE` on (scenario, cell)."""
        return _open_tree(self.path / "cube.zarr")

    @cached_property
    def drivers(self) -> xr.DataTree:
        """One group per scenario set; low, high, last on (scenario, asset), and the gaps."""
        return _open_tree(self.path / "drivers.zarr")

    @cached_property
    def measures(self) -> xr.DataTree:
        """One node per roll-up level, on (scenario_set, confidence, group), USD."""
        return _open_tree(self.path / "measures.zarr")

    @cached_property
    def positions(self) -> pa.Table:
        """One row per position and scenario set."""
        return _read_table(self.path / "positions.parquet")

    @cached_property
    def quarantine(self) -> pa.Table:
        """Rows that were refused, with the reason."""
        return _read_table(self.path / "quarantine.parquet")

    @cached_property
    def facts(self) -> pa.Table:
        """Every published number."""
        return _read_table(self.path / "facts.parquet")

    @cached_property
    def coverage(self) -> pa.Table:
        """Positions by status, by count and notional."""
        import pyarrow as pa

        from risk.schema import COVERAGE

        return pa.Table.from_pylist(list(self.manifest["coverage"]), schema=COVERAGE)


def _open_tree(path: Path) -> xr.DataTree:
    from risk.cube import open_drivers, open_tree

    try:
        return open_drivers(path.parent) if path.name == "drivers.zarr" else open_tree(path)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path}: cannot be read ({error}); run the night again") from error


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"{path}: cannot be read ({error}); run the night again") from error


def open_run(path: str | Path) -> Run:
    """Open a finished run.

    Parameters
    ----------
    path : str or Path
        A run folder; or a folder of runs or one of its ``as_of=...`` folders, which gives the
        finished run with the greatest as-of, then the last finished.

    Raises
    ------
    RunError
        If there is no finished run there, or its manifest is damaged.
    """
    path = Path(path)
    if path.name.endswith(".part"):
        raise RunError(f"{path}: this run is not finished; start it again and it is resumed")
    if not (path / MANIFEST).is_file():
        finished = _finished_below(path)
        if not finished:
            raise RunError(f"{path}: there is no finished run; start one with `bulkhead run`")
        path = finished[-1]
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        run = Run(path, manifest)
        named = (f"run={run.id}", run.as_of, run.breaches)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path / MANIFEST}: is damaged ({error}); run the night again") from error
    if named[0] != path.name:
        raise RunError(f"{path}: its manifest is that of {named[0]}; give the folder its name back")
    return run


def _finished_below(path: Path) -> list[Path]:
    if path.name.startswith("as_of="):
        return [folder for folder in finished_folders(path.parent) if folder.parent == path]
    return finished_folders(path)


def list_runs(out: str | Path) -> tuple[Run, ...]:
    """Finished runs below `out`, by as-of date and then in the order they finished."""
    return tuple(open_run(folder) for folder in finished_folders(Path(out)))


def verify(run: Run) -> None:
    """Check a run against its manifest.

    Raises
    ------
    RunError
        If a file was changed, removed or added, or the name does not follow from the manifest's
        inputs, config and code.
    """
    outputs = run.manifest["outputs"]
    there = {
        path.relative_to(run.path).as_posix()
        for path in run.path.rglob("*")
        if path.is_file() and path != run.path / MANIFEST
    }
    for name in sorted(there | set(outputs)):
        if name not in there:
            raise RunError(f"{run.path / name}: was removed after the run finished")
        if name not in outputs:
            raise RunError(f"{run.path / name}: was added after the run finished")
        if file_digest(run.path / name) != outputs[name]["sha256"]:
            raise RunError(f"{run.path / name}: was changed after the run finished")
    manifest = run.manifest
    expected = run_id(
        manifest["inputs"], manifest["config_digest"], run.as_of, code=manifest["code_digest"]
    )
    if run.id != expected:
        raise RunError(f"{run.path / MANIFEST}: inputs, config or code were changed afterwards")


@dataclass(frozen=True)
class Comparison:
    """How two runs differ: why (inputs, config, code) and what (facts).

    Attributes
    ----------
    inputs : tuple of str
        Files whose content differs, or that only one of the runs read.
    config : Mapping of str to tuple
        Dotted key to its two values, for keys that change a number.
    is_same_code : bool
        True if both were computed by the same sources and numeric libraries.
    facts : Table (fact_id, scope, unit, before, after, change)
        Every published number of either run; null where one has none.
    """

    inputs: tuple[str, ...]
    config: Mapping[str, tuple[Any, Any]]
    is_same_code: bool
    facts: pa.Table


def compare_runs(before: Run, after: Run) -> Comparison:
    """Compare two finished runs."""
    import pyarrow as pa

    inputs = [run.manifest["inputs"] for run in (before, after)]
    configs = [_flat(run.manifest["config"], NOT_IDENTITY) for run in (before, after)]
    facts = [
        {(fact["fact_id"], fact["scope"]): fact for fact in run.facts.to_pylist()}
        for run in (before, after)
    ]
    rows = []
    for key in dict.fromkeys([*facts[0], *facts[1]]):
        first, last = (side.get(key, {}) for side in facts)
        old, new = first.get("value"), last.get("value")
        rows.append(
            {
                "fact_id": key[0],
                "scope": key[1],
                "unit": (last or first)["unit"],
                "before": old,
                "after": new,
                "change": None if old is None or new is None else new - old,
            }
        )
    text, number = pa.string(), pa.float64()
    schema = {"fact_id": text, "scope": text, "unit": text}
    schema |= {"before": number, "after": number, "change": number}
    return Comparison(
        inputs=tuple(sorted(_differing(*inputs))),
        config={key: (configs[0].get(key), configs[1].get(key)) for key in _differing(*configs)},
        is_same_code=before.manifest["code_digest"] == after.manifest["code_digest"],
        facts=pa.Table.from_pylist(rows, schema=pa.schema(schema)),
    )


def _differing(first: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    return [name for name in {**first, **last} if first.get(name) != last.get(name)]


def _flat(values: Mapping[str, Any], exclude: Any, at: str = "") -> dict[str, Any]:
    """Nested keys with dots, without the excluded ones."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        skip = exclude.get(key) if isinstance(exclude, dict) else key in exclude
        if skip is True:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, skip or {}, f"{at}{key}.")
        else:
            flat[f"{at}{key}"] = value
    return flat
