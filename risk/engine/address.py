"""A shared address: a folder or an object store, whole files in and out."""

from __future__ import annotations

import io
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

#: Bytes copied at a time.
_PIECE = 1 << 22


class Address:
    """A folder, or a URL such as ``s3://bucket/prefix`` that pyarrow opens.

    A name is there whole or not at all: an object store shows an object when its upload is
    complete, a folder when the file is renamed.

    Parameters
    ----------
    address : str

    Raises
    ------
    ValueError
        If no file system is known for it.
    """

    def __init__(self, address: str) -> None:
        from pyarrow import fs

        if "://" in address:
            self._store, self._base = fs.FileSystem.from_uri(address)
        else:
            self._store, self._base = fs.LocalFileSystem(), str(Path(address).absolute())
        self._is_folder = isinstance(self._store, fs.LocalFileSystem)

    @staticmethod
    def below(address: str, name: str) -> str:
        """A folder of an address; the query of a URL stays behind the path.

        Examples
        --------
        >>> Address.below("s3://bucket/risk?region=eu-west-1", "night")
        's3://bucket/risk/night?region=eu-west-1'
        """
        if "://" not in address:
            return f"{address.rstrip('/')}/{name}"
        parts = urlsplit(address)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

    def put(self, name: str, source: Path) -> None:
        """Copy a file to the address."""
        with source.open("rb") as file:
            self._write(name, file)

    def put_bytes(self, name: str, content: bytes) -> None:
        """Write a small file."""
        self._write(name, io.BytesIO(content))

    def get(self, name: str, target: Path) -> None:
        """Copy a file from the address."""
        with self._store.open_input_stream(self._path(name)) as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file, _PIECE)

    def read(self, name: str) -> bytes:
        """The content of a small file."""
        with self._store.open_input_stream(self._path(name)) as stream:
            return stream.read()

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        from pyarrow import fs

        return self._store.get_file_info(self._path(name)).type == fs.FileType.File

    def sizes(self, folder: str) -> dict[str, int]:
        """Name and bytes of the files of one folder; none where there is no such folder."""
        from pyarrow import fs

        found = self._store.get_file_info(fs.FileSelector(self._path(folder), allow_not_found=True))
        return {one.base_name: one.size for one in found if one.type == fs.FileType.File}

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all that is in it, if it is there."""
        from pyarrow import fs

        path = self._path(name)
        kind = self._store.get_file_info(path).type
        if kind == fs.FileType.File:
            self._store.delete_file(path)
        elif kind == fs.FileType.Directory:
            self._store.delete_dir(path)

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}".rstrip("/")

    def _write(self, name: str, file: BinaryIO) -> None:
        path = self._path(name)
        draft = path
        if self._is_folder:
            self._store.create_dir(path.rpartition("/")[0], recursive=True)
            writer = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
            draft = f"{path}.{writer}.tmp"
        with self._store.open_output_stream(draft) as stream:
            shutil.copyfileobj(file, stream, _PIECE)
        if self._is_folder:
            self._store.move(draft, path)
