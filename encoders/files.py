"""Parquet tables, with the file's name in every error, and file hashes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All columns, or these in this order. ValueError for a file that is not Parquet, is truncated or lacks a column; OSError where there is none."""
    try:
        with pq.ParquetFile(path) as file:
            stored_columns = file.schema_arrow.names
            for name in columns or ():
                if name not in stored_columns:
                    raise ValueError(f"{path}: column {name!r} is missing; it has {stored_columns}")
            return file.read(columns=list(columns) if columns is not None else None)
    except FileNotFoundError as error:  # pyarrow's names neither the file nor what it should be
        wanted = f" with columns {', '.join(columns)}" if columns else ""
        raise FileNotFoundError(
            f"{path} does not exist; expected a Parquet file{wanted}"
        ) from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not pyarrow's
            raise
        raise ValueError(
            f"{path} is not a Parquet file, or is truncated or damaged: {error}"
        ) from error


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
