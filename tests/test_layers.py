"""Imports point down, dask and Prefect stay in their rooms, and only the edges read the clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Lowest first. A room may import from floors below its own, and from itself.
FLOORS = [
    {"risk.schema", "risk.errors", "risk.compiled", "risk.leave"},
    {"risk.drivers"},
    {"risk.instruments"},
    {"risk.contracts", "risk.margin"},
    {
        "risk.snapshot",
        "risk.sample",
        "risk.market",
        "risk.scenarios",
        "risk.liquidation",
        "risk.engine",
        "risk.book",
        "risk.cube",
        "risk.coverage",
        "risk.measures",
        "risk.backtest",
        "risk.capital",
        "risk.reports",
    },
    {"risk.config"},
    {"risk.ahead", "risk.block", "risk.explore", "risk.store", "risk.standing"},
    {"risk.worker"},
    {"risk.findings", "risk.replay"},
    {"risk.explain", "risk.solvency"},
    {"risk.pipeline"},
    {"risk.commands", "risk.terminal"},
    {"risk.cli", "flows"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
#: Floors whose rooms know each other: errors serve the schema, contracts and margin are one maths.
SHARED_FLOORS = {FLOOR_OF["risk.schema"], FLOOR_OF["risk.margin"]}

#: (importer, imported) that may point up, and only inside a function.
LAZY_EXCEPTIONS = {("risk", "risk.store"), ("risk.commands", "flows")}

FAN_OUT = {"dask", "distributed"}
ORCHESTRATION = {"prefect", "prefect_dask"}
CLOCK_ROOMS = {"risk.cli", "flows"}
CLOCK_CALLS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("Timestamp", "now"),
    ("Timestamp", "today"),
    ("Timestamp", "utcnow"),
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "localtime"),
    ("time", "gmtime"),
}


def room_of(module: str) -> str:
    """The room of a module: `risk.margin.book` lives in `risk.margin`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "risk" else parts[0]


def imports(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[str, bool, int]]:
    """Every imported module as (name, inside a function, line)."""
    lazy_lines = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *([base] if base else [])])
            # `from risk import cube` imports the module risk.cube.
            is_root = base in {"risk", "flows"}
            names = [f"{base}.{alias.name}" if is_root else base for alias in node.names]
        else:
            continue
        for name in names:
            yield name, node.lineno in lazy_lines, node.lineno


def clock_reads(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every mention of a call that reads the wall clock; a stopwatch (perf_counter) is free."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            value = node.value
            owner = getattr(value, "id", None) or getattr(value, "attr", None)
            if (owner, node.attr) in CLOCK_CALLS:
                yield f"{owner}.{node.attr}", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            for alias in node.names:
                if ("time", alias.name) in CLOCK_CALLS:
                    yield f"time.{alias.name}", node.lineno


def faults(sources: Mapping[str, str]) -> list[str]:
    """What is wrong with a tree given as {relative path: source}."""
    found = []
    for path, source in sources.items():
        module = path.removesuffix(".py").replace("/", ".")
        is_package = module.endswith(".__init__")
        module = module.removesuffix(".__init__")
        room, tree = room_of(module), ast.parse(source)
        if room not in FLOOR_OF and module != "risk":
            found.append(f"{path}: {room} has no floor; give it one in tests/test_layers.py")
            continue
        for name, is_lazy, line in imports(tree, module, is_package):
            target, top = room_of(name), name.split(".")[0]
            if top in FAN_OUT and room != "risk.engine":
                found.append(f"{path}:{line}: only risk.engine may import {top}")
            if top in ORCHESTRATION and room != "flows":
                found.append(f"{path}:{line}: only flows may import {top}")
            if top not in {"risk", "flows"} or target == room:
                continue
            if is_lazy and (room, target) in LAZY_EXCEPTIONS:
                continue
            if target not in FLOOR_OF:
                found.append(f"{path}:{line}: {name} is no room of the tree")
            elif module == "risk":
                found.append(f"{path}:{line}: the package itself imports {target} at the top")
            elif FLOOR_OF[target] > FLOOR_OF[room]:
                found.append(f"{path}:{line}: {room} imports up to {target}")
            elif FLOOR_OF[target] == FLOOR_OF[room] and FLOOR_OF[room] not in SHARED_FLOORS:
                found.append(f"{path}:{line}: {room} imports sideways from {target}")
        if room not in CLOCK_ROOMS:
            found += [f"{path}:{line}: reads the clock, {call}" for call, line in clock_reads(tree)]
    return found


def test_imports_point_down_and_rooms_keep_their_tools():
    files = [*ROOT.glob("risk/**/*.py"), *ROOT.glob("flows/**/*.py")]
    sources = {file.relative_to(ROOT).as_posix(): file.read_text() for file in sorted(files)}
    assert "risk/schema.py" in sources
    assert faults(sources) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("risk/schema.py", "from risk.config import Config"),
        ("risk/snapshot.py", "from risk.market import history"),
        ("risk/snapshot.py", "from risk import pipeline"),
        ("risk/snapshot.py", "def f():\n    import risk.pipeline"),
        ("risk/market/history.py", "from .. import cube"),
        ("risk/pipeline.py", "import prefect"),
        ("risk/commands.py", "from flows.serve import serve"),
        ("risk/commands.py", "def serve():\n    import prefect"),
        ("risk/measures/tail.py", "def f():\n    from dask.distributed import Client"),
        ("risk/__init__.py", "from risk.store import open_run"),
        ("risk/pipeline.py", "from datetime import datetime\nday = datetime.now()"),
        ("risk/pipeline.py", "import datetime as dt\nday = dt.datetime.now(dt.UTC)"),
        ("risk/store.py", "import time\nfinished = time.time()"),
        ("risk/store.py", "from time import time_ns"),
        ("risk/helpers.py", "import math"),
        ("risk/errors.py", "from risk.ghost import haunt"),
    ],
)
def test_a_planted_fault_is_found(path, source):
    assert len(faults({path: source})) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("risk/schema.py", "from risk.errors import DataError"),
        ("risk/margin/book.py", "from risk.contracts import linear"),
        ("risk/margin/book.py", "from risk.margin import venues"),
        ("risk/engine/local.py", "from dask.distributed import LocalCluster"),
        ("risk/commands.py", "def serve():\n    from flows.serve import serve"),
        ("risk/__init__.py", "def __getattr__(name):\n    from risk.store import open_run"),
        ("risk/pipeline.py", "import time\nstart = time.perf_counter()"),
        ("flows/nightly.py", "import prefect\nfrom risk import pipeline"),
    ],
)
def test_what_the_house_allows_is_no_fault(path, source):
    assert faults({path: source}) == []
