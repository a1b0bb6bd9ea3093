"""Read one table of a snapshot: any number of Parquet parts, checked for damage and column types.

A file that is damaged or ill-typed stops the load with one sentence. What a row holds is not judged
here, except that it can be read at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from risk.errors import DataError

_UTC_NAMES = frozenset({"UTC", "utc", "Etc/UTC", "Z", "+00:00", "GMT", "Etc/GMT"})
_EXPECTED = {
    pa.types.is_string: "text",
    pa.types.is_floating: "a number",
    pa.types.is_integer: "a whole number",
    pa.types.is_boolean: "true or false",
    pa.types.is_timestamp: "a timestamp with zone UTC",
}


class Part(NamedTuple):
    """One file of a table: its rows, where they came from, and what the file says of itself."""

    name: str
    digest: str
    frame: pl.DataFrame
    is_synthetic: bool
    source: str | None


def read_parts(folder: Path, name: str, schema: pa.Schema) -> list[Part]:
    """Read ``<name>.parquet`` or every ``<name>/*.parquet``, in the order of their names.

    Parameters
    ----------
    folder : Path
        The snapshot.
    name : str
        Name of the table.
    schema : Schema
        Columns wanted; others in the file are ignored.

    Returns
    -------
    list of Part
        Frames carry the schema's columns (null where the file lacks a nullable one) plus `file` and
        `row` (in that file, first is 0).

    Raises
    ------
    DataError
        If the table is missing, or a part is damaged, lacks a column or has one of another type.
    """
    return [_read_part(folder, path, schema) for path in _parts(folder, name)]


def has_table(folder: Path, name: str) -> bool:
    """Whether the snapshot has the table, as a file or as a folder of parts."""
    return (folder / f"{name}.parquet").exists() or (folder / name).exists()


def _parts(folder: Path, name: str) -> list[Path]:
    single, many = folder / f"{name}.parquet", folder / name
    if single.exists() and many.exists():
        raise DataError(f"{folder}: has both {name}.parquet and {name}/; keep one of them")
    if single.is_file():
        return [single]
    parts = sorted(path for path in many.glob("*.parquet") if path.is_file())
    if not parts:
        raise DataError(f"{single}: missing; write it, or parts of it into {name}/")
    return parts


def _read_part(folder: Path, path: Path, schema: pa.Schema) -> Part:
    try:
        # Read once, so that the digest is of the very bytes that are used.
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check it") from error
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        found = file.schema_arrow
        _check_names(path, found, schema)
        table = file.read(columns=[name for name in schema.names if name in found.names])
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: truncated, damaged or not a Parquet file; write it again ({detail})"
        ) from error
    name = path.relative_to(folder).as_posix()
    absent = pa.chunked_array([pa.nulls(table.num_rows)])
    columns = [
        _convert(path, table[field.name] if field.name in found.names else absent, field)
        for field in schema
    ]
    frame = pl.DataFrame(pl.from_arrow(pa.table(columns, names=schema.names))).with_columns(
        file=pl.lit(name), row=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    metadata = found.metadata or {}
    source = metadata.get(b"bulkhead.source", b"").decode("utf-8", "replace").strip()
    return Part(
        name=name,
        digest=hashlib.sha256(content).hexdigest(),
        frame=frame,
        is_synthetic=metadata.get(b"bulkhead.synthetic") == b"true",
        source=source or None,
    )


def _check_names(path: Path, found: pa.Schema, schema: pa.Schema) -> None:
    # A column whose every value may be null may be left out; a mark only by saying so.
    missing = [
        field.name
        for field in schema
        if field.name not in found.names and (not field.nullable or field.name == "mark_price")
    ]
    if missing:
        raise DataError(f"{path}: missing column {', '.join(missing)}; add it")
    twice = [name for name in schema.names if found.names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: column {twice[0]} appears more than once; keep one")


def _convert(path: Path, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    kind, wanted = column.type, field.type
    if pa.types.is_dictionary(kind) and pa.types.is_string(wanted):
        kind = kind.value_type
    if not (pa.types.is_null(kind) or _is_accepted(kind, wanted)):
        expected = next(text for matches, text in _EXPECTED.items() if matches(wanted))
        raise DataError(
            f"{path}: column {field.name} is {column.type}, must be {expected} ({wanted}); "
            "write it with that type"
        )
    try:
        # Fractions of a millisecond and digits beyond float64 are dropped; nothing else may be.
        is_number = pa.types.is_floating(wanted)
        options = pc.CastOptions(
            target_type=wanted, allow_time_truncate=True, allow_float_truncate=is_number
        )
        if is_number and pa.types.is_integer(kind):
            options = pc.CastOptions.unsafe(wanted)
        return pc.cast(column, options=options)
    except pa.ArrowInvalid as error:
        row = _first_refused(column, wanted)
        raise DataError(
            f"{path}: row {row}: column {field.name} holds {column[row]}, which is no {wanted}; "
            "correct it"
        ) from error


def _is_accepted(kind: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_string(wanted):
        views = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        return any(matches(kind) for matches in views)
    if pa.types.is_floating(wanted) or pa.types.is_integer(wanted):
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
    if pa.types.is_timestamp(wanted):
        return bool(pa.types.is_timestamp(kind) and kind.tz in _UTC_NAMES)
    return bool(kind == wanted)


def _first_refused(column: pa.ChunkedArray, wanted: pa.DataType) -> int:
    options = pc.CastOptions(target_type=wanted, allow_time_truncate=True)
    for row, value in enumerate(_scalars(column)):
        try:
            pc.cast(value, options=options)
        except pa.ArrowInvalid:
            return row
    return 0


def _scalars(column: pa.ChunkedArray) -> Iterator[pa.Scalar]:
    for chunk in column.chunks:
        yield from chunk
