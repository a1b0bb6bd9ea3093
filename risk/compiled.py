"""Compiled loops, and a cache of their machine code that can be trusted.

Machine code is kept beside the sources, so that the second process compiles nothing. numba's own
cache has two ways to run code that is not the sources' own: it looks at the file of the function
itself, so a caller goes on with the callee it was compiled with when that one's file changes; and
two processes that compile two signatures of one function at once can leave the code of one under
the name of the other. Here an entry's name digests every file that compiled loops are made of, and
entries are written one process at a time.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.cgutils import get_or_insert_function, unpack_tuple
from numba.extending import intrinsic

_HERE = Path(__file__).resolve()
_ROOT = _HERE.parent
_MARK = "from risk.compiled import njit"


def njit(
    function: Callable[..., Any] | None = None, *, inline: Literal["never", "always"] = "never"
) -> Any:
    """Compile a function without the interpreter or its lock, and keep the machine code.

    Neither threads nor fast-math: the same inputs give the same bits.
    """
    if function is None:
        return functools.partial(njit, inline=inline)
    dispatcher: Any = numba.njit(function, nogil=True, inline=inline)
    dispatcher._cache = _Cache(function)
    return dispatcher


@intrinsic
def prefetch(context: Any, array: Any, item: Any) -> Any:
    """Ask for the cache line of the n-th item of a contiguous array, without waiting for it.

    Changes no result. An item beyond the array is no error: the processor ignores the request.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, arguments[0]).data
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        word, byte = ir.IntType(64), ir.IntType(8).as_pointer()
        offset = builder.mul(arguments[1], ir.Constant(word, size))
        address = builder.inttoptr(builder.add(builder.ptrtoint(data, word), offset), byte)
        flag = ir.IntType(32)
        ask = get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]),
            "llvm.prefetch.p0",
        )  # fmt: skip
        # To read, into the second-level cache, as data.
        builder.call(ask, [address, *(ir.Constant(flag, value) for value in (0, 2, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def _borrow(context: Any, value: Any) -> Any:
    """The same array, or tuple of arrays, of which no loop counts the references.

    A compiled function counts references to every array it takes out of a tuple or passes on, which
    in short functions costs more than their work. For arguments of the function that asks: its
    caller keeps them alive, so nothing borrowed may outlive the call.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _uncounted(context, builder, signature.args[0], arguments[0])

    return value(value), generate


borrow: Any = intrinsic(_borrow)


def _uncounted(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = ir.Constant(array.meminfo.type, None)
        array.parent = ir.Constant(array.parent.type, None)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        members: Any = kind  # the library's own types do not say that it can be gone through
        parts = zip(members, unpack_tuple(builder, value), strict=True)
        new = [_uncounted(context, builder, *part) for part in parts]
        return context.make_tuple(builder, kind, new)
    return value


class _Cache(FunctionCache):
    """The machine code of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(
            self._cache_path, f"{self._impl.filename_base}.{kernels_digest()[:12]}", ""
        )

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write one signature's code; without the lock two writers may share a file's name."""
        self._impl.locator.ensure_cache_path()
        with _locked(Path(self._cache_path) / ".kernels.lock"):
            super().save_overload(sig, data)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def kernel_modules() -> tuple[str, ...]:
    """Names of the modules that hold compiled loops."""
    return tuple(
        ".".join(file.relative_to(_ROOT.parent).with_suffix("").parts)
        for file in sorted(_ROOT.rglob("*.py"))
        if file != _HERE and _MARK in file.read_text(encoding="utf-8")
    )


@functools.cache
def kernel_sources() -> tuple[Path, ...]:
    """Every file that compiled loops may take a function or a constant from."""
    rooms = {_ROOT / name.split(".")[1] for name in kernel_modules()}
    inside = (file for room in sorted(rooms) for file in sorted(room.rglob("*.py")))
    shared = (_ROOT / f"{name}.py" for name in ("drivers", "instruments", "schema"))
    return (_HERE, *shared, *inside)


@functools.cache
def kernels_digest() -> str:
    """SHA-256 (hex) of what compiled loops are made of."""
    digest = hashlib.sha256()
    for file in kernel_sources():
        digest.update(f"{file.relative_to(_ROOT).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def cache_folders() -> tuple[Path, ...]:
    """Where the machine code of the kernels lies."""
    folders = set()
    for name in kernel_modules():
        for value in vars(importlib.import_module(name)).values():
            cache = getattr(value, "_cache", None)
            if isinstance(cache, _Cache):
                folders.add(Path(cache.cache_path))
    return tuple(sorted(folders))


def _kept() -> Iterator[tuple[Path, bool]]:
    """Every file of machine code, and whether it is of these sources."""
    current = f".{kernels_digest()[:12]}."
    for folder in cache_folders():
        for file in (*folder.glob("*.nbi"), *folder.glob("*.nbc")):
            yield file, current in file.name


def count_kept() -> int:
    """How many compiled loops, each signature on its own, lie on disk for these sources."""
    return sum(is_current and file.suffix == ".nbc" for file, is_current in _kept())


def remove_outdated() -> int:
    """Delete the machine code of other sources; say how many files that were."""
    outdated = [file for file, is_current in _kept() if not is_current]
    for file in outdated:
        file.unlink(missing_ok=True)
    return len(outdated)
