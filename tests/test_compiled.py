"""Machine code is kept, and is always that of the sources it is named after."""

from __future__ import annotations

import ast
import importlib
import threading
import time
from pathlib import Path
from types import FunctionType

import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile

from risk import compiled

ROOT = Path(__file__).resolve().parents[1]


def add(values, more):
    """A loop small enough to compile at once."""
    total = more
    for value in values:
        total += value
    return total


def save_at_once(tmp_path, monkeypatch, make_cache):
    """Two signatures of one function saved at the same moment; whether each loads its own code."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    load_index = IndexDataCacheFile._load_index

    def slow_load_index(self):
        found = load_index(self)
        time.sleep(0.2)
        return found

    monkeypatch.setattr(IndexDataCacheFile, "_load_index", slow_load_index)
    compiling = compiled.njit(add)
    for values in (np.arange(3), np.arange(3.0)):
        compiling(values, values[0])
    context = compiling.targetctx
    signatures = list(compiling.overloads)
    cache = make_cache(add)
    cache.flush()
    threads = [
        threading.Thread(target=cache.save_overload, args=(s, compiling.overloads[s]))
        for s in signatures
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loaded = [make_cache(add).load_overload(signature, context) for signature in signatures]
    return all(
        found is None or found.signature.args == signature
        for found, signature in zip(loaded, signatures, strict=True)
    ) and all(found is not None for found in loaded)


def test_two_signatures_written_at_once_keep_their_own_code(tmp_path, monkeypatch):
    assert save_at_once(tmp_path, monkeypatch, compiled._Cache)


def test_numbas_own_cache_would_mix_them_up(tmp_path, monkeypatch):
    """The reason for the lock; when numba mends it, the lock can go."""
    assert not save_at_once(tmp_path, monkeypatch, FunctionCache)


def test_every_source_a_loop_may_use_names_its_machine_code():
    """A callee or a frozen constant in a file outside the digest would go stale unseen."""
    inside = {
        file.relative_to(ROOT).with_suffix("").as_posix() for file in compiled.kernel_sources()
    }
    for name in compiled.kernel_modules():
        module = importlib.import_module(name)
        tree = ast.parse((ROOT / name.replace(".", "/")).with_suffix(".py").read_text())
        for node in ast.walk(tree):
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("risk.")):
                continue
            path = node.module.replace(".", "/")
            if path in inside or f"{path}/__init__" in inside:
                continue
            for alias in node.names:
                value = getattr(module, alias.asname or alias.name)
                # Classes and plain functions cannot be part of a compiled loop.
                assert isinstance(value, type | FunctionType), (name, node.module, alias.name)


def test_loops_are_compiled_in_one_place():
    for file in (ROOT / "risk").rglob("*.py"):
        if file.name != "compiled.py":
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "numba":
                    names = {alias.name for alias in node.names}
                    assert names.isdisjoint({"njit", "jit"}), f"{file}: see risk.compiled"


def test_a_changed_source_leads_to_other_machine_code(tmp_path, monkeypatch):
    source = tmp_path / "callee.py"
    digests = []
    for text in ("x = 1", "x = 2"):
        source.write_text(text)
        monkeypatch.setattr(compiled, "kernel_sources", lambda: (source,))
        monkeypatch.setattr(compiled, "_ROOT", tmp_path)
        compiled.kernels_digest.cache_clear()
        digests.append(compiled.kernels_digest())
    monkeypatch.undo()
    compiled.kernels_digest.cache_clear()
    assert digests[0] != digests[1]
    assert compiled.kernels_digest()[:12] in compiled.njit(add)._cache._cache_file._index_name
