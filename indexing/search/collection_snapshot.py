"""Snapshot of a collection: labels, attributes, sample vectors, and all vectors for exact search.

Each part is read once, with the first query that needs it. N clips, D vector, Q queries.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from encoders.bundle.card import BundleCard
from indexing.search.attributes import AttributeReader, attributes_of_labels, open_attribute_reader
from indexing.search.filters import FilterFields
from indexing.store.collection import ClipCollection
from indexing.store.schema import ROW_FIELDS

MAX_ROWS = 16_384
NUM_SAMPLES = 64
NUM_FIT = 1024
MAX_EXACT_BYTES = 4 << 30


class CollectionSnapshot:
    """Facts of a collection, as of their first use."""

    def __init__(self, collection: ClipCollection, bundle_dir: Path, card: BundleCard) -> None:
        self._collection, self._bundle_dir, self._card = collection, bundle_dir, card
        self._lock = threading.Lock()
        self._exact: tuple[list[str], np.ndarray] | None = None

    @cached_property
    def is_exact(self) -> bool:
        """Whether the index of Milvus is exact."""
        return self._collection.is_exact()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Up to MAX_ROWS rows without their vectors, in the order of their keys, which are hashes."""
        fields = ("clip_key", "clip_id", "label", "split", "attributes")
        rows = self._collection.some_rows(fields, limit=MAX_ROWS)
        return sorted(rows, key=lambda row: row["clip_key"])

    @cached_property
    def labels(self) -> dict[str, int]:
        """Number of rows of each label."""
        return dict(sorted(Counter(row["label"] for row in self.rows if row["label"]).items()))

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """All splits."""
        return tuple(sorted({row["split"] for row in self.rows if row["split"]}))

    @cached_property
    def fields(self) -> FilterFields:
        """The names that filters may use, and the values of each attribute."""
        values: defaultdict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            for name, value in (row["attributes"] or {}).items():
                values[name].add(str(value))
        return FilterFields(
            attributes={name: tuple(sorted(of_name)) for name, of_name in sorted(values.items())}
        )

    @cached_property
    def samples(self) -> np.ndarray:
        """Vectors of a pseudo-random sample of clips: those with the first hashes [N, D]."""
        return self._vectors(self.rows[:NUM_SAMPLES])[0]

    @cached_property
    def typical_length(self) -> float:
        """Mean length of the sample clips' vectors; ValueError for a collection of unit vectors."""
        stored = self._vectors(self.rows[:NUM_SAMPLES])[1]
        lengths = [row.get("vector_length", 1.0) for row in stored]
        if all(length == 1.0 for length in lengths):
            raise ValueError(
                f"collection {self._collection.name!r} holds unit vectors, and the fusion of this bundle reads clip vectors as "
                "long as the encoder made them; index the archive again into another --collection"
            )
        return float(np.mean(lengths))

    @cached_property
    def reader(self) -> AttributeReader | None:
        """The classification head, calibrated on the validation clips of the collection, or on all clips where it has none."""
        attributes = attributes_of_labels(self.rows)
        reader = open_attribute_reader(self._bundle_dir, self._card, attributes)
        if reader is None:
            return None
        held_out = [row for row in self.rows if row["split"] == "val" and row["label"]]
        vectors_ND, rows = self._vectors((held_out or self.rows)[:NUM_FIT])
        return reader.fit(vectors_ND, [row["label"] for row in rows])

    def exact_nearest(
        self, vectors_QD: np.ndarray, *, limit: int, condition: str = ""
    ) -> list[list[tuple[float, dict[str, Any]]]]:
        """Exact search: (cosine, row with its vector), best first."""
        keys, gallery_ND = self._gallery()
        allowed = self._allowed(keys, condition)
        answers = []
        for vector_D in vectors_QD:
            cosines_N = gallery_ND @ vector_D.astype(np.float32)
            cosines_N[~allowed] = -np.inf
            num_hits = min(limit, int(allowed.sum()))
            best = np.argpartition(-cosines_N, max(num_hits - 1, 0))[:num_hits]
            best = best[np.argsort(-cosines_N[best], kind="stable")]
            rows = {row["clip_key"]: row for row in self._rows_of([keys[i] for i in best])}
            ranked = [(float(cosines_N[i]), rows.get(keys[i])) for i in best]
            # A row may have been deleted since the gallery was read.
            answers.append([(cosine, row) for cosine, row in ranked if row is not None])
        return answers

    def read_gallery(self) -> None:
        """Read all vectors into memory before the first exact query; does nothing where they exceed MAX_EXACT_BYTES."""
        with suppress(ValueError):
            self._gallery()

    def _gallery(self) -> tuple[list[str], np.ndarray]:
        """All keys and vectors in memory; read again when the number of rows has changed."""
        with self._lock:
            count = self._collection.count()
            num_bytes = count * self._card.embedding_dim * 4
            if num_bytes > MAX_EXACT_BYTES:
                raise ValueError(
                    f"exact search would hold {num_bytes / 2**30:.1f} GiB of vectors in memory; at most "
                    f"{MAX_EXACT_BYTES / 2**30:.0f} GiB are allowed"
                )
            if self._exact is None or len(self._exact[0]) != count:
                keys: list[str] = []
                vectors_ND = np.empty((count, self._card.embedding_dim), np.float32)
                for row in self._collection.rows(("clip_key", "embedding")):
                    if len(keys) == len(vectors_ND):  # rows were added while it was read
                        break
                    vectors_ND[len(keys)] = row["embedding"]
                    keys.append(row["clip_key"])
                self._exact = keys, vectors_ND[: len(keys)]
            return self._exact

    def _allowed(self, keys: Sequence[str], condition: str) -> np.ndarray:
        if not condition:
            return np.ones(len(keys), bool)
        rows = self._collection.rows(("clip_key",), condition=condition)
        matching = {row["clip_key"] for row in rows}
        return np.array([key in matching for key in keys], bool)

    def _rows_of(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        return self._collection.rows_of_keys(keys) if keys else []

    def _vectors(self, rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, list[dict]]:
        stored = self._rows_of([row["clip_key"] for row in rows])
        if not stored:
            raise ValueError(
                f"collection {self._collection.name!r} is empty; index an archive first"
            )
        return np.array([row["embedding"] for row in stored], np.float32), stored


DETAIL_FIELDS = (*ROW_FIELDS, "embedding")
