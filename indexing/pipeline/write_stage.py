"""The write stage, last of the dataflow: vectors into Milvus, and rows brought up to date with their clips' labels."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoders.bundle.canaries import is_canary
from encoders.clips import Clip, read_clips
from encoders.stages.base import error_of
from indexing.ledger.planned_clip import PlannedClip
from indexing.pipeline.canary_rows import PROBE, check_canary_vector
from indexing.store.collection import ClipCollection
from indexing.store.rows import clip_key, collection_row, row_of_batch

_REFRESH_PAGE = 512
_PROBE_ROWS = 64


def refresh_rows(collection: ClipCollection, planned: Sequence[PlannedClip]) -> None:
    """Bring label, split, attributes and file name of rows up to date; their vectors stay."""
    for first in range(0, len(planned), _REFRESH_PAGE):
        part = {one.clip_key: one for one in planned[first : first + _REFRESH_PAGE]}
        collection.upsert(
            [
                collection_row(
                    part[row["clip_key"]].clip,
                    key=row["clip_key"],
                    embedding_D=np.asarray(row["embedding"], np.float32),
                    backend=row["backend"],
                    precision=row["precision"],
                )
                for row in collection.rows_of_keys(list(part))
            ]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteTarget:
    """Where rows go."""

    address: str
    collection: str
    """Its own name, no alias: that may be another collection's before the run ends."""
    canary_collection: str


class WriteStage:
    """Upserts the rows of a batch that have no error; takes `embedding` away, adds `clip_key`, `write_busy_s`, `write_ceiling_per_s`.

    `clips_path` holds the clips of this run with what Milvus stores beside a vector. A canary among the rows whose vector is
    not its own stops the batch before anything of it is written; good ones go to a collection of their own. `is_bulk`: the
    caller imports the rows, so `embedding` stays.
    """

    def __init__(
        self,
        *,
        target: WriteTarget,
        clips_path: str,
        encoder_id: str,
        canaries_ND: np.ndarray,
        is_bulk: bool = False,
    ) -> None:
        self._collection = ClipCollection(target.address, target.collection)
        self._canary_collection = ClipCollection(target.address, target.canary_collection)
        self._canaries_ND = canaries_ND
        self._ceiling_per_s = self._measure(canaries_ND.shape[1])
        self._clip_by_id = {clip.clip_id: clip for clip in read_clips(Path(clips_path))}
        self._encoder_id = encoder_id
        self._is_bulk = is_bulk

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        keys = [
            clip_key(self._encoder_id, str(clip_id), str(content_hash), **span)
            for clip_id, content_hash, span in zip(
                batch["clip_id"], batch["content_hash"], batch["span"], strict=True
            )
        ]
        batch["clip_key"] = np.array(keys, dtype=object)
        rows: list[dict[str, Any]] = []
        canaries: list[dict[str, Any]] = []
        for i, clip_id in enumerate(map(str, batch["clip_id"])):
            if error_of(batch["error"][i]) is not None:
                continue
            if is_canary(clip_id):
                check_canary_vector(clip_id, batch["embedding"][i], self._canaries_ND)
                canaries.append(row_of_batch(batch, i, Clip(clip_id=clip_id, video_uri=clip_id)))
            elif not self._is_bulk:
                rows.append(row_of_batch(batch, i, self._clip_by_id[clip_id]))
        self._collection.upsert(rows)
        self._canary_collection.upsert(canaries)
        if not self._is_bulk:
            del batch["embedding"]
        busy_s = (time.perf_counter() - started) / max(len(keys), 1)
        batch["write_busy_s"] = np.full(len(keys), busy_s)
        batch["write_ceiling_per_s"] = np.full(len(keys), self._ceiling_per_s)
        return batch

    def _measure(self, embedding_dim: int) -> float:
        """Rows per second of this worker alone: the second of two upserts of rows that are deleted again."""
        probe = Clip(clip_id=PROBE, video_uri=PROBE)
        vector_D = np.full(embedding_dim, embedding_dim**-0.5, np.float32)
        rows = [
            collection_row(
                probe,
                key=f"{PROBE}-{os.getpid()}-{i}",
                embedding_D=vector_D,
                backend="",
                precision="",
            )
            for i in range(_PROBE_ROWS)
        ]
        self._canary_collection.upsert(rows)
        started = time.perf_counter()
        self._canary_collection.upsert(rows)
        seconds = time.perf_counter() - started
        self._canary_collection.delete([row["clip_key"] for row in rows])
        return len(rows) / seconds
