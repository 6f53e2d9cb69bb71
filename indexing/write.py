"""Vectors into Milvus: the last stage of the dataflow, and how a row keeps up with its clip's label."""

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoders.clips import Clip, read_clips
from indexing.canary_rows import PROBE, check_canary_vector, is_canary
from indexing.milvus import ClipCollection
from indexing.milvus_schema import TO_THE_END
from indexing.plan import PlannedClip, clip_key

_REFRESH_PAGE = 512
_PROBE_ROWS = 64


def collection_row(
    clip: Clip, *, key: str, embedding_D: np.ndarray, backend: str, precision: str
) -> dict[str, Any]:
    """One clip as Milvus stores it."""
    return {
        "clip_key": key,
        "clip_id": clip.clip_id,
        "video_uri": clip.video_uri,
        "label": clip.label or "",
        "split": clip.split or "",
        "backend": backend,
        "precision": precision,
        "start_s": float(clip.start_s),
        "end_s": TO_THE_END if clip.end_s is None else float(clip.end_s),
        "attributes": dict(clip.attributes),
        "embedding": embedding_D.tolist(),
    }


def row_of_batch(batch: Mapping[str, np.ndarray], i: int, clip: Clip) -> dict[str, Any]:
    """What Milvus stores of row `i` of a batch that has its keys. ValueError for a vector of another length than 1."""
    return collection_row(
        clip,
        key=str(batch["clip_key"][i]),
        embedding_D=checked_vector(batch["embedding"][i], clip.clip_id),
        backend=str(batch["embed_backend"][i]),
        precision=str(batch["embed_precision"][i]),
    )


def row_digest(clip: Clip) -> str:
    """Of what a row holds beside its key and its vector."""
    parts = [clip.video_uri, clip.label, clip.split, sorted(clip.attributes.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


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
    """Upserts the living rows of a batch; takes `embedding` away, adds `clip_key`, `write_busy_s`, `write_ceiling_per_s`.

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
            clip_key(self._encoder_id, str(clip_id), str(content_hash), start_s, _or_none(end_s))
            for clip_id, content_hash, start_s, end_s in zip(
                batch["clip_id"],
                batch["content_hash"],
                batch["start_s"],
                batch["end_s"],
                strict=True,
            )
        ]
        batch["clip_key"] = np.array(keys, dtype=object)
        rows: list[dict[str, Any]] = []
        canaries: list[dict[str, Any]] = []
        for i, clip_id in enumerate(map(str, batch["clip_id"])):
            if batch["dead_reason"][i]:
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


def _or_none(end_s: float) -> float | None:
    return None if math.isnan(end_s) else float(end_s)


def checked_vector(vector_D: np.ndarray, clip_id: str) -> np.ndarray:
    """The vector itself; ValueError where its length is not 1."""
    length = float(np.linalg.norm(vector_D))
    if not abs(length - 1.0) < 1e-3:
        raise ValueError(f"the vector of clip {clip_id!r} has length {length}; it must be 1")
    return vector_D
