"""Tables that training writes, whole or not at all; clips that got no vector stand beside vectors.parquet."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import write_atomic
from encoders.files import open_table, read_table
from encoders.stages.base import DEAD_LETTER_COLUMNS, DeadLetter

_DEAD_SCHEMA = pa.schema([(name, pa.string()) for name in (*DEAD_LETTER_COLUMNS, "fingerprint")])


def write_table(path: Path, table: pa.Table) -> None:
    """As Parquet; makes the folder. Nothing is replaced by a table that could not be opened again."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content = sink.getvalue()
    with pq.ParquetFile(pa.BufferReader(content)) as written:
        if written.metadata.num_rows != table.num_rows:
            raise OSError(f"{path} would have {written.metadata.num_rows} of {table.num_rows} rows")
    write_atomic(path, content.to_pybytes())


def write_dead_letters(
    vectors_path: Path,
    letters: Sequence[DeadLetter],
    *,
    fingerprint_by_id: Mapping[str, str] | None = None,
) -> None:
    """`<vectors>.dead.parquet` in the order of clip ids; none where nothing died and none was there."""
    path = _dead_path(vectors_path)
    prints = fingerprint_by_id or {}
    if letters or path.exists():
        rows = [
            letter.to_columns() | {"fingerprint": prints.get(letter.clip_id, "")}
            for letter in sorted(letters, key=lambda letter: letter.clip_id)
        ]
        write_table(path, pa.Table.from_pylist(rows, schema=_DEAD_SCHEMA))


def read_dead_rows(vectors_path: Path) -> list[dict[str, Any]]:
    """The rows of `write_dead_letters`; a table of an earlier version has no fingerprints."""
    path = _dead_path(vectors_path)
    rows = read_table(path).to_pylist() if path.exists() else []
    return [{"fingerprint": ""} | row for row in rows]


def read_dead_ids(vectors_path: Path) -> frozenset[str]:
    """The clips that could not be embedded, of what `write_dead_letters` wrote."""
    path = _dead_path(vectors_path)
    if not path.exists():
        return frozenset()
    return frozenset(read_table(path, ["clip_id"])["clip_id"].to_pylist())


def _dead_path(vectors_path: Path) -> Path:
    return vectors_path.with_name(f"{vectors_path.stem}.dead.parquet")


_MAX_LENGTH_ERROR = 1e-2


def vector_width(path: str | Path) -> int:
    """Length of the vectors in vectors.parquet, from its first row."""
    with open_table(path, ["embedding"]) as file:
        for batch in file.iter_batches(1, columns=["embedding"]):
            return len(batch["embedding"][0].as_py() or ())
    raise ValueError(f"{path}: it holds no vectors")


def read_unit_vectors(path: str | Path) -> dict[str, np.ndarray]:
    """clip id -> float32 unit vector, from vectors.parquet."""
    path = Path(path)
    table = read_table(path, ["clip_id", "embedding"])
    if not len(table):
        raise ValueError(f"{path}: it holds no vectors")
    ids = table["clip_id"].to_pylist()
    try:
        vectors_ND = vectors_of_column(table["embedding"])
    except ValueError as error:
        raise ValueError(f"{path}: column 'embedding': {error}") from None
    length_N = np.linalg.norm(vectors_ND, axis=1)
    for row in np.flatnonzero(~(np.abs(length_N - 1) < _MAX_LENGTH_ERROR)):
        raise ValueError(
            f"{path}: row {row}: embedding of clip {ids[row]!r} has length {length_N[row]:.4g}; it must be 1"
        )
    if len(set(ids)) != len(ids):
        raise ValueError(f"{path}: column 'clip_id': some ids occur twice; they must be unique")
    return dict(zip(ids, vectors_ND, strict=True))


def vectors_of_column(column: pa.ChunkedArray) -> np.ndarray:
    """float32 [N, D]; chunk by chunk, because 2^31 numbers do not fit into one. ValueError where vectors are missing or differ in width."""
    parts: list[np.ndarray] = []
    for chunk in column.chunks:
        width = len(chunk.flatten()) // len(chunk) if len(chunk) else 0
        lengths = np.diff(np.asarray(chunk.offsets)) if hasattr(chunk, "offsets") else width
        if chunk.null_count or np.any(lengths != width) or (parts and parts[0].shape[1] != width):
            raise ValueError("vectors are missing or differ in width")
        if len(chunk):
            values = chunk.flatten().to_numpy(zero_copy_only=False)
            parts.append(values.astype(np.float32, copy=False).reshape(len(chunk), width))
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def list_column(vectors_ND: np.ndarray) -> pa.ListArray:
    """Lists of float32, the form that every reader of vectors takes."""
    offsets = np.arange(0, vectors_ND.size + 1, vectors_ND.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors_ND.ravel(), pa.float32()))


def read_lengths(path: str | Path) -> dict[str, float]:
    """clip id -> the length that its vector had before it was made unit length; {} for a file that does not tell."""
    path = Path(path)
    if "length" not in pq.ParquetFile(path).schema_arrow.names:
        return {}
    table = read_table(path, ["clip_id", "length"])
    return {
        clip_id: length
        for clip_id, length in zip(
            table["clip_id"].to_pylist(), table["length"].to_pylist(), strict=True
        )
        if length is not None
    }


def with_own_length(
    unit_ND: np.ndarray, clip_ids: Sequence[str], lengths: Mapping[str, float]
) -> np.ndarray:
    """The vectors as the encoder gave them; ValueError for a clip whose length is not known."""
    for clip_id in clip_ids:
        length = lengths.get(clip_id, 0.0)
        if not 0 < length < math.inf:
            raise ValueError(
                f"the vector of clip {clip_id!r} has no length of its own, and keeps_length is on: the fusion reads clip vectors "
                "as long as the encoder made them; remove the file and make the vectors again (tfcovr vectors, or import-embeddings)"
            )
    length_N1 = np.array([[lengths[clip_id]] for clip_id in clip_ids], unit_ND.dtype)
    return unit_ND * length_N1


def iter_tokens(path: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """(clip id, float32 [T, D] in order) of the clips that have several vectors; row group by row group."""
    with open_table(path) as file:
        if "tokens" not in file.schema_arrow.names:
            return
        width = vector_width(path)
        for batch in file.iter_batches(1024, columns=["clip_id", "tokens"]):
            for clip_id, tokens in zip(batch["clip_id"].to_pylist(), batch["tokens"], strict=True):
                if tokens.is_valid:
                    values = tokens.values.to_numpy(zero_copy_only=False)
                    yield clip_id, values.astype(np.float32).reshape(-1, width)
