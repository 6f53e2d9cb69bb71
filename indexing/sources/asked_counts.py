"""Counts of the clips that people ask for and are answered with: what a new encoder should read first.

One Parquet file per process, `clip_id` and `num`, in a folder that all replicas of a service may share.
"""

import logging
import os
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.repetition import repeated
from encoders.files import atomic_file, read_table

logger = logging.getLogger(__name__)

_MOST_CLIPS = 200_000
_SCHEMA = pa.schema([("clip_id", pa.string()), ("num", pa.int64())])


class AskedCounts:
    """The counts of one process. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._path = folder / f"{name}.parquet"
        self._counts: Counter[str] = Counter()
        self._is_new = False
        self._lock = threading.Lock()

    def add(self, clip_ids: Iterable[str]) -> None:
        """One more for each of these; "" is passed over."""
        with self._lock:
            self._counts.update(clip_id for clip_id in clip_ids if clip_id)
            self._is_new = True
            if len(self._counts) > _MOST_CLIPS:
                self._counts = Counter(dict(self._counts.most_common(_MOST_CLIPS // 2)))

    @contextmanager
    def written(self, *, every_s: float) -> Iterator[None]:
        """Write them now and then while the block runs, and at its end; a full disk costs the counts, not the service."""
        with repeated(self._try_to_write, every_s=every_s, name="asked-counts"):
            yield
        self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            self.write()
        except OSError as error:
            logger.warning("the counts of clips that are asked for: %s", error)

    def write(self) -> None:
        """Write the file anew, where there is more than it holds."""
        with self._lock:
            counts, is_new = dict(self._counts), self._is_new
            self._is_new = False
        if not is_new:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._path) as temporary:
                table = pa.table([list(counts), list(counts.values())], _SCHEMA)
                pq.write_table(table, temporary)
        except OSError:
            self._is_new = True  # the next call tries again
            raise


def read_asked_counts(folder: Path) -> Counter[str]:
    """The sums over all processes; ValueError where the folder holds no such file, or a damaged one."""
    paths = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not paths:
        raise ValueError(
            f"asked is {str(folder)!r}; it must be a folder that `tfcovr serve --asked` wrote"
        )
    total: Counter[str] = Counter()
    for path in paths:
        table = read_table(path, _SCHEMA.names)
        for clip_id, num in zip(*(table[name].to_pylist() for name in _SCHEMA.names), strict=True):
            total[clip_id] += num
    return total
