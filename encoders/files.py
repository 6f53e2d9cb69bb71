"""Files: Parquet tables with the file's name in every error, and hashes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All columns, or these in this order. ValueError for what is no Parquet file, is torn or lacks a column; OSError where there is none."""
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            for name in columns or ():
                if name not in found:
                    raise ValueError(f"{path}: column {name!r} is missing; found {found}")
            return file.read(columns=list(columns) if columns is not None else None)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file, or is torn: {error}") from error


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
