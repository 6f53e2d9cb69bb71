"""Imports released embeddings, a stream of pickled dicts or a folder of `.pth` files, to vectors.parquet.

Nothing in a file is executed (see pickle_reader). The output is written whole or not at all; memory holds
one row group of vectors and, for a stream, some 1 KB of bookkeeping per vector of the dict being read.
"""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import atomic_path
from encoders.stages.base import ClipError, DeadLetter
from training.annotations.embeddings.pickle_reader import PickleReader, PickleRefusedError
from training.annotations.embeddings.pickled_tensors import (
    embedding_of,
    read_tensor_file,
    tensor_builders,
)
from training.vectors.tables import write_dead_letters

_ROWS_PER_GROUP = 4096
_BYTES_PER_GROUP = 1 << 26
_MAX_WIDTH = 1 << 16
_MAX_FILE_BYTES = 1 << 28
BAD_VECTOR = "bad_vector"
"""Reason of a vector that could not be read."""
_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("length", pa.float32()),
        pa.field("tokens", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportEmbeddingsConfig:
    """Convert released embeddings to the vectors.parquet that stage 2 and evaluate read.

    The source is one file of pickled dicts (video name -> tensor), one after the other, or a folder of .pth files, one tensor
    each. Nothing in it is run: a pickle that names anything but tensors is refused.
    """

    source: Path
    """A file of pickled dicts, or a folder of .pth files."""
    out: Path
    """vectors.parquet: `clip_id`, the unit vector as `embedding`, the `length` that it had, and as `tokens` the vectors of a clip that
    has several in order, one after the other; `embedding` is then their mean."""
    skip_bad: bool = False
    """A vector that cannot be read goes to <out>.dead.parquet with its reason, instead of ending the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedEmbeddings:
    """Counts of a conversion."""

    num_vectors: int
    num_replaced: int
    """Number of repeated names; the later vector replaces the earlier one, as in the released reader."""
    num_bad: int
    width: int
    seconds: float


def import_embeddings(config: ImportEmbeddingsConfig) -> ImportedEmbeddings:
    """ValueError names file and video; PickleRefusedError, even with `skip_bad`, for a pickle with more than data."""
    started = time.perf_counter()
    if not config.source.exists():
        raise ValueError(
            f"{config.source} does not exist; expected a file of pickled dicts or a folder of .pth files"
        )
    with _open_vector_file(config.out) as writer:
        read = _read_folder if config.source.is_dir() else _read_stream
        bad = read(config.source, writer.add, skip_bad=config.skip_bad)
        writer.flush()
        if not writer.num_rows:
            raise ValueError(f"{config.source}: it holds no vectors ({len(bad)} bad ones)")
    write_dead_letters(config.out, bad)
    return ImportedEmbeddings(
        num_vectors=len(writer.row_by_name),
        num_replaced=writer.num_rows - len(writer.row_by_name),
        num_bad=len(bad),
        width=writer.width,
        seconds=time.perf_counter() - started,
    )


@dataclass(kw_only=True)
class _VectorFile:
    """Writes vectors D wide, one row group at a time."""

    writer: pq.ParquetWriter
    names: list[str] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    tokens: list[np.ndarray | None] = field(default_factory=list)
    num_bytes: int = 0
    """Of what waits for its row group."""
    row_by_name: dict[str, int] = field(default_factory=dict)
    num_rows: int = 0
    width: int = 0

    def add(self, name: str, value: object) -> None:
        vector_D, tokens_TD = embedding_of(value)
        if self.width and len(vector_D) != self.width:
            raise ValueError(
                f"the vector is {len(vector_D)} wide; those before it are {self.width} wide"
            )
        if len(vector_D) > _MAX_WIDTH:
            raise ValueError(f"the vector is {len(vector_D)} wide; at most {_MAX_WIDTH} are read")
        self.width = len(vector_D)
        self.names.append(name)
        self.vectors.append(vector_D)
        self.tokens.append(None if tokens_TD is None else tokens_TD.ravel())
        self.num_bytes += vector_D.nbytes + (0 if tokens_TD is None else tokens_TD.nbytes)
        self.row_by_name[name] = self.num_rows
        self.num_rows += 1
        if len(self.names) == _ROWS_PER_GROUP or self.num_bytes >= _BYTES_PER_GROUP:
            self.flush()

    def flush(self) -> None:
        if not self.names:
            return
        vectors_ND = np.stack(self.vectors)
        length_N = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
        unit_ND = (vectors_ND / length_N[:, None]).astype(np.float32)
        offsets = np.arange(0, unit_ND.size + 1, unit_ND.shape[1], dtype=np.int32)
        self.writer.write_table(
            pa.table(
                [
                    pa.array(self.names, pa.string()),
                    pa.ListArray.from_arrays(pa.array(offsets), pa.array(unit_ND.ravel())),
                    pa.array(length_N.astype(np.float32)),
                    pa.array(self.tokens, pa.list_(pa.float32())),
                ],
                schema=_SCHEMA,
            )
        )
        self.names, self.vectors, self.tokens, self.num_bytes = [], [], [], 0


@contextmanager
def _open_vector_file(out: Path) -> Iterator[_VectorFile]:
    """Write to a temporary file that is renamed to `out` after a success, without the rows of replaced names."""
    with atomic_path(out) as temporary:
        with pq.ParquetWriter(temporary, _SCHEMA) as writer:
            vector_file = _VectorFile(writer=writer)
            yield vector_file
        if len(vector_file.row_by_name) < vector_file.num_rows:
            _drop_replaced(temporary, set(vector_file.row_by_name.values()))


def _drop_replaced(path: Path, kept_rows: set[int]) -> None:
    smaller = path.with_suffix(".kept")
    try:
        source = pq.ParquetFile(path, pre_buffer=False)  # group by group
        with pq.ParquetWriter(smaller, _SCHEMA) as writer:
            first = 0
            for batch in source.iter_batches(_ROWS_PER_GROUP):
                is_kept = [first + row in kept_rows for row in range(len(batch))]
                writer.write_batch(batch.filter(pa.array(is_kept)))
                first += len(batch)
        smaller.replace(path)
    finally:
        smaller.unlink(missing_ok=True)


def _read_stream(
    path: Path, add: Callable[[str, object], None], *, skip_bad: bool
) -> list[DeadLetter]:
    bad: list[DeadLetter] = []

    def take(name: object, value: object) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"{path}: a key is {name!r}; it must be a video's name")
        try:
            add(name, value)
        except ValueError as error:
            _bad(bad, name, path, error, skip_bad=skip_bad)

    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    with path.open("rb") as file:
        # The mapping is closed with its last view: an explicit close would fail while an error still refers to one.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = PickleReader(
        memoryview(content), source=str(path), builders=tensor_builders(str(path))
    )
    while not reader.at_end:
        value = reader.load(take)
        if not isinstance(value, dict):
            raise ValueError(
                f"{path}: byte {reader.position}: a {type(value).__name__}; it must be a dict"
            )
        content.madvise(mmap.MADV_DONTNEED)  # pages that were read may leave memory
    return bad


def _read_folder(
    folder: Path, add: Callable[[str, object], None], *, skip_bad: bool
) -> list[DeadLetter]:
    bad: list[DeadLetter] = []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".pth"))
    if not names:
        raise ValueError(f"{folder}: it has no .pth files")
    for file_name in names:
        path = folder / file_name
        try:
            if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
                raise ValueError(f"it must be a regular file of at most {_MAX_FILE_BYTES} bytes")
            content = path.read_bytes()
            add(
                file_name.removesuffix(".pth"),
                read_tensor_file(content, source=str(path)),
            )
        except PickleRefusedError:
            raise
        except (ValueError, OSError) as error:
            _bad(bad, file_name.removesuffix(".pth"), path, error, skip_bad=skip_bad)
    return bad


def _bad(bad: list[DeadLetter], name: str, path: Path, error: Exception, *, skip_bad: bool) -> None:
    if not skip_bad:
        raise ValueError(f"{path}: video {name!r}: {error}") from error
    bad.append(
        DeadLetter(
            clip_id=name,
            video_uri=str(path),
            error=ClipError(stage="import-embeddings", reason=BAD_VECTOR, detail=str(error)),
        )
    )
