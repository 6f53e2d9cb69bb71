"""Which tables does training write, and how? Whole or not at all; clips that got no vector stand beside vectors.parquet."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import write_atomic
from encoders.files import read_table
from encoders.stages.base import DeadLetter

_DEAD_SCHEMA = pa.schema([(name, pa.string()) for name in DeadLetter.__slots__])


def write_table(path: Path, table: pa.Table) -> None:
    """As Parquet; makes the folder."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_atomic(path, sink.getvalue().to_pybytes())


def write_dead_letters(vectors_path: Path, letters: Sequence[DeadLetter]) -> None:
    """`<vectors>.dead.parquet` in the order of clip ids; none where nothing died and none was there."""
    path = _dead_path(vectors_path)
    if letters or path.exists():
        rows = [asdict(letter) for letter in sorted(letters, key=lambda one: one.clip_id)]
        write_table(path, pa.Table.from_pylist(rows, schema=_DEAD_SCHEMA))


def read_dead_ids(vectors_path: Path) -> frozenset[str]:
    """The clips that could not be embedded, of what `write_dead_letters` wrote."""
    path = _dead_path(vectors_path)
    if not path.exists():
        return frozenset()
    return frozenset(read_table(path, ["clip_id"])["clip_id"].to_pylist())


def _dead_path(vectors_path: Path) -> Path:
    return vectors_path.with_name(f"{vectors_path.stem}.dead.parquet")
