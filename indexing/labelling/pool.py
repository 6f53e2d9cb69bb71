"""The clips of a collection that labelling works on, with their stored vectors: all of them, or a random part of a large collection.

Keys of rows are hashes, so that the first rows are a random part. N clips, D vector.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from indexing.labelling.heads import Scaling
from indexing.search.client import SearchClient
from indexing.search.types import ClipPlace, clip_place_of_row
from indexing.store.filter_expression import quoted
from indexing.store.schema import ROW_FIELDS

MAX_UNLABELLED, MAX_LABELLED = 10_000, 3_000
"""Most clips of the pool whose rows have no label, and that have one."""
_FIELDS = (*ROW_FIELDS, "embedding")
_NO_LABEL = f"label == {quoted('')}"
_SOME_LABEL = f"label != {quoted('')}"


class Pool:
    """Clips in a fixed order; ones that a click names and that are not here are added at the end."""

    def __init__(self, client: SearchClient) -> None:
        self._client = client
        self.places: list[ClipPlace] = []
        self._number: dict[str, int] = {}
        self._vectors_ND = np.zeros((0, client.card.embedding_dim), np.float32)
        rows = client.collection.rows
        for condition, most in ((_NO_LABEL, MAX_UNLABELLED), (_SOME_LABEL, MAX_LABELLED)):
            self._add(islice(rows(_FIELDS, condition=condition), most))
        self._scaling = Scaling.of(self._vectors_ND) if self.places else None

    def __len__(self) -> int:
        return len(self.places)

    def include(self, clip_ids: Sequence[str]) -> None:
        """Add the clips that are not here; ids that the collection does not have are left out."""
        missing = [clip_id for clip_id in clip_ids if clip_id not in self._number]
        self._add(self._client.collection.rows_of_clips(missing))
        if self._scaling is None and self.places:
            self._scaling = Scaling.of(self._vectors_ND)

    def number(self, clip_id: str) -> int | None:
        """The place of a clip in the order."""
        return self._number.get(clip_id)

    def scaled(self) -> np.ndarray:
        """Vectors as heads take them [N, D]."""
        if self._scaling is None:
            return self._vectors_ND
        return self._scaling(self._vectors_ND)

    def _add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        vectors = []
        for row in rows:
            place = clip_place_of_row(row)
            if place.clip_id in self._number:  # a stale row
                continue
            self._number[place.clip_id] = len(self.places)
            self.places.append(place)
            vectors.append(np.asarray(row["embedding"], np.float32))
        if vectors:
            self._vectors_ND = np.concatenate([self._vectors_ND, np.stack(vectors)])
