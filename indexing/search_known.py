"""Clips that a client has met: as query clips, and as answers. Asking with one of them again costs no call to Milvus.

N clips, D vector.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from indexing.milvus import ClipCollection
from indexing.search_hits import Candidate
from indexing.search_place import place_of_row

MAX_CLIPS = 10_000
MAX_AGE_S = 60.0
"""A clip that was indexed anew, or deleted, is still asked with as it was for so long."""


def candidate_of_row(row: Mapping[str, Any]) -> Candidate:
    """A clip with its vector, as Milvus holds it."""
    return Candidate(place=place_of_row(row), vector_D=np.asarray(row["embedding"], np.float32))


class KnownClips:
    """Clips by their id; threads may share it."""

    def __init__(
        self, collection: ClipCollection, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._collection, self._now = collection, now
        self._clips: OrderedDict[str, tuple[float, Candidate]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, clip_id: str) -> Candidate | None:
        """None where the collection has no such clip."""
        with self._lock:
            known = self._clips.get(clip_id)
        if known is not None and self._now() - known[0] < MAX_AGE_S:
            return known[1]
        rows = self._collection.rows_of_clip(clip_id)
        if not rows:
            return None
        found = candidate_of_row(rows[0])
        self.keep([found])
        return found

    def vectors(self, clip_ids: Sequence[str]) -> np.ndarray:
        """[N, D]; ValueError names the clip that is not there."""
        found = []
        for clip_id in clip_ids:
            clip = self.find(clip_id)
            if clip is None:
                raise ValueError(f"no clip {clip_id!r} in collection {self._collection.name!r}")
            found.append(clip.vector_D)
        return np.array(found, np.float32)

    def keep(self, clips: Iterable[Candidate]) -> None:
        """Rows that were just read."""
        with self._lock:
            for clip in clips:
                self._clips[clip.place.clip_id] = self._now(), clip
                self._clips.move_to_end(clip.place.clip_id)
            while len(self._clips) > MAX_CLIPS:
                self._clips.popitem(last=False)
