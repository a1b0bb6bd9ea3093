"""The margined book of a night on disk: the file its readers get, and a copy that is mapped.

Every stage and every part of one asks for the book. A Parquet file has to be decoded each time; the
copy lies there as it does in memory, so that each takes the columns it needs and no more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

#: The file of the run, and the copy of it that goes when the run is finished.
BOOK, MAPPED = "book.parquet", "book.arrow"


def write_positions(table: pa.Table, path: Path) -> None:
    """Write a table that has a row for every position, or several.

    Labels repeat, so they become dictionaries; numbers hardly do, so that looking for a dictionary
    of them and compressing them costs much more than it saves.
    """
    text = [
        field.name
        for field in table.schema
        if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)
    ]
    pq.write_table(
        table,
        path,
        use_dictionary=[name for name in text if name != "position_id"],
        write_statistics=[name for name in text if name != "position_id"],
        compression={name: "snappy" if name in text else "none" for name in table.column_names},
    )


def write_book(folder: Path, book: pa.Table) -> None:
    """Write a book (schema ``BOOK`` and what was added to it) into the folder of a night."""
    write_positions(book, folder / BOOK)
    # Aside and renamed: a worker left over from a killed start may have the old one mapped.
    draft = folder / f"{MAPPED}.tmp"
    with pa.OSFile(str(draft), "wb") as file, pa.ipc.new_file(file, book.schema) as out:
        out.write_table(book.combine_chunks())
    os.replace(draft, folder / MAPPED)


def read_book(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The book of a night, or some columns of it; of a finished one from its file.

    Parameters
    ----------
    folder : Path
        Of the night.
    columns : sequence of str, optional
        All when absent.
    """
    mapped = folder / MAPPED
    if not mapped.exists():
        names = None if columns is None else list(columns)
        return pq.read_table(folder / BOOK, columns=names, partitioning=None)
    # The map lives as long as the arrays that lie in it.
    book = pa.ipc.open_file(pa.memory_map(str(mapped))).read_all()
    return book if columns is None else book.select(list(columns))
