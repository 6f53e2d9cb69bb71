"""Clips that a client has met: as query clips, and as answers. Asking with one of them again costs no call to Milvus.

N clips, D vector.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from indexing.search.types import Candidate, clip_place_of_row
from indexing.store.collection import ClipCollection

MAX_CLIPS = 10_000
MAX_AGE_S = 60.0
"""A clip that was indexed anew, or deleted, is still asked with as it was for so long."""


def candidate_of_row(row: Mapping[str, Any], *, cosine: float = 0.0) -> Candidate:
    """A clip as Milvus holds it, with its vector where that was read."""
    vector_D = np.asarray(row.get("embedding", ()), np.float32)
    return Candidate(place=clip_place_of_row(row), vector_D=vector_D, cosine=cosine)


class ClipCache:
    """Clips by their id; threads may share it."""

    def __init__(
        self, collection: ClipCollection, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._collection, self._now = collection, now
        self._clips: OrderedDict[str, tuple[float, Candidate]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, clip_ids: Iterable[str]) -> dict[str, Candidate]:
        """Clip id -> clip, for those that the collection has; one call to Milvus for all that are new or too old."""
        wanted, oldest_s = set(clip_ids), self._now() - MAX_AGE_S
        with self._lock:
            known = {name: self._clips[name] for name in wanted if name in self._clips}
        found = {name: clip for name, (met_s, clip) in known.items() if met_s > oldest_s}
        rows = self._collection.rows_of_clips(sorted(wanted - found.keys()))
        read = {row["clip_id"]: candidate_of_row(row) for row in reversed(rows)}
        self.keep(read.values())
        return found | read

    def vectors(self, clip_ids: Sequence[str]) -> np.ndarray:
        """[N, D]; ValueError names the clip that is not there."""
        found = self.find(clip_ids)
        for clip_id in clip_ids:
            if clip_id not in found:
                raise ValueError(f"no clip {clip_id!r} in collection {self._collection.name!r}")
        return np.array([found[clip_id].vector_D for clip_id in clip_ids], np.float32)

    def keep(self, clips: Iterable[Candidate]) -> None:
        """Rows that were just read."""
        with self._lock:
            for clip in clips:
                self._clips[clip.place.clip_id] = self._now(), clip
                self._clips.move_to_end(clip.place.clip_id)
            while len(self._clips) > MAX_CLIPS:
                self._clips.popitem(last=False)
