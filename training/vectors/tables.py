"""Tables that training writes, whole or not at all; clips that got no vector stand beside vectors.parquet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import write_atomic
from encoders.files import read_table
from encoders.stages.base import DEAD_LETTER_COLUMNS, DeadLetter

_DEAD_SCHEMA = pa.schema([(name, pa.string()) for name in DEAD_LETTER_COLUMNS])


def write_table(path: Path, table: pa.Table) -> None:
    """As Parquet; makes the folder."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_atomic(path, sink.getvalue().to_pybytes())


def write_dead_letters(vectors_path: Path, letters: Sequence[DeadLetter]) -> None:
    """`<vectors>.dead.parquet` in the order of clip ids; none where nothing died and none was there."""
    path = _dead_path(vectors_path)
    if letters or path.exists():
        rows = [
            letter.to_columns() for letter in sorted(letters, key=lambda letter: letter.clip_id)
        ]
        write_table(path, pa.Table.from_pylist(rows, schema=_DEAD_SCHEMA))


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
    for batch in pq.ParquetFile(path).iter_batches(1, columns=["embedding"]):
        return len(batch["embedding"][0].as_py() or ())
    raise ValueError(f"{path}: it holds no vectors")


def read_unit_vectors(path: str | Path) -> dict[str, np.ndarray]:
    """clip id -> float32 unit vector, from vectors.parquet."""
    path = Path(path)
    table = read_table(path, ["clip_id", "embedding"])
    if not len(table):
        raise ValueError(f"{path}: it holds no vectors")
    ids = table["clip_id"].to_pylist()
    lists = table["embedding"].combine_chunks()
    lengths = np.diff(np.asarray(lists.offsets)) if hasattr(lists, "offsets") else None
    if lists.null_count or (lengths is not None and len(set(lengths.tolist())) != 1):
        raise ValueError(f"{path}: column 'embedding': vectors are missing or differ in width")
    vectors_ND = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors_ND = vectors_ND.reshape(len(ids), -1)
    length_N = np.linalg.norm(vectors_ND, axis=1)
    for row in np.flatnonzero(~(np.abs(length_N - 1) < _MAX_LENGTH_ERROR)):
        raise ValueError(
            f"{path}: row {row}: embedding of clip {ids[row]!r} has length {length_N[row]:.4g}; it must be 1"
        )
    if len(set(ids)) != len(ids):
        raise ValueError(f"{path}: column 'clip_id': some ids occur twice; they must be unique")
    return dict(zip(ids, vectors_ND, strict=True))
