"""Cache of clips that were query clips or answers: a further query with one of them needs no call to Milvus.

N clips, D vector.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from cachetools import TTLCache

from indexing.search.types import Candidate, clip_place_of_row
from indexing.store.collection import ClipCollection

MAX_CLIPS = 10_000
MAX_AGE_S = 60.0
"""Maximum age of an entry: a clip that was re-indexed or deleted is served as it was for at most this long."""


def candidate_of_row(row: Mapping[str, Any], *, cosine: float = 0.0) -> Candidate:
    """A candidate from a row of the collection, with its vector where the row has one."""
    vector_D = np.asarray(row.get("embedding", ()), np.float32)
    length = float(row.get("vector_length", 1.0))
    return Candidate(
        place=clip_place_of_row(row), vector_D=vector_D, vector_length=length, cosine=cosine
    )


class ClipCache:
    """Clips by id. Thread-safe."""

    def __init__(
        self, collection: ClipCollection, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._collection = collection
        self._clips: TTLCache[str, Candidate] = TTLCache(MAX_CLIPS, MAX_AGE_S, timer=now)
        self._lock = threading.Lock()

    def find(self, clip_ids: Iterable[str]) -> dict[str, Candidate]:
        """The clips that the collection has, by id; one call to Milvus reads all that are missing or expired."""
        names = set(clip_ids)
        # The timer stands still for the look-up: an entry must not expire between the test and the read.
        with self._lock, self._clips.timer:
            cached = {name: self._clips[name] for name in names if name in self._clips}
        rows = self._collection.rows_of_clips(sorted(names - cached.keys()))
        fetched = {row["clip_id"]: candidate_of_row(row) for row in reversed(rows)}
        self.put(fetched.values())
        return cached | fetched

    def vectors(self, clip_ids: Sequence[str]) -> np.ndarray:
        """Vectors of clips [N, D]; ValueError names a clip that the collection does not have."""
        clips = self.find(clip_ids)
        for clip_id in clip_ids:
            if clip_id not in clips:
                raise ValueError(f"no clip {clip_id!r} in collection {self._collection.name!r}")
        return np.array([clips[clip_id].vector_D for clip_id in clip_ids], np.float32)

    def put(self, clips: Iterable[Candidate]) -> None:
        """Add or refresh clips that were just read."""
        with self._lock:
            for clip in clips:
                self._clips[clip.place.clip_id] = clip
