"""Query encoder: clip vectors and edit texts to query vectors, with a cache of text vectors.

A text is encoded once for any number of clips. N queries, D clip vector, E text vector.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from cachetools import LRUCache

from encoders.backends.base import EncoderBackend, check_queries
from encoders.bundle.card import BundleCard
from encoders.query_encoder.composition import FactorComposition, given_factors
from encoders.query_encoder.factors import Factor
from indexing.store.schema import UNIT_ERROR

NUM_CACHED_TEXTS = 10_000


class QueryEncoder:
    """Text encoder and fusion of a backend as two steps. Thread-safe."""

    def __init__(
        self, backend: EncoderBackend, *, typical_length: Callable[[], float] | None = None
    ) -> None:
        """`typical_length` of clip vectors is needed by a fusion that keeps lengths, for unit vectors that are not a clip's."""
        self._typical_length = typical_length
        self.card: BundleCard = backend.card
        self._backend = backend
        self._texts: LRUCache[str, np.ndarray] = LRUCache(NUM_CACHED_TEXTS)
        self._lock = threading.Lock()

    @property
    def can_compose(self) -> bool:
        """Whether the bundle has a fusion (stage 2)."""
        return self.card.fusion is not None

    @property
    def adds_texts(self) -> bool:
        """Whether texts lie in the space of clips, and a query is the sum of both."""
        return self.card.fusion is not None and self.card.fusion.kind == "sum"

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What an edit can change; empty where the fusion knows no attributes."""
        return () if self.card.fusion is None else self.card.fusion.factors

    def given_factors(self, given: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Corrections by attribute as slots [N, S]; ValueError for what no factor has."""
        return given_factors(self.factors, given)

    def compose_factors(
        self, clip_vectors_ND: np.ndarray, texts: Sequence[str], given_NS: np.ndarray
    ) -> FactorComposition:
        """As `compose`, with what was read of the clips, or given in its place, and what the texts ask for."""
        vectors_ND = check_queries(self.card, clip_vectors_ND, texts)
        return self._backend.compose_factors(vectors_ND, self.text_vectors(texts), given_NS)

    @property
    def keeps_length(self) -> bool:
        """Whether the fusion reads clip vectors as long as the encoder made them."""
        return self.card.fusion is not None and self.card.fusion.keeps_length

    def _with_length(self, vectors_ND: np.ndarray) -> np.ndarray:
        is_unit_N = np.abs(np.linalg.norm(vectors_ND, axis=1) - 1) < UNIT_ERROR
        if not is_unit_N.any():
            return vectors_ND
        if self._typical_length is None:
            raise ValueError(
                "clip vectors are unit vectors; the fusion of this bundle reads them as long as the encoder made them"
            )
        return np.where(is_unit_N[:, None], vectors_ND * self._typical_length(), vectors_ND)

    def text_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Text vectors [N, E]; each text is encoded once and cached."""
        with self._lock:
            cached = {text: self._texts[text] for text in texts if text in self._texts}
        # One at a time: with padding to the longest text, the last bits of a vector would depend on the other texts of the batch.
        encoded = {
            text: self._backend.encode_texts([text])[0]
            for text in dict.fromkeys(texts)
            if text not in cached
        }
        with self._lock:
            self._texts.update(encoded)
        return np.stack([(cached | encoded)[text] for text in texts])

    def fuse(self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
        """Clip vectors [N, D] and text vectors [N, E] -> unit query vectors [N, D].

        For a fusion that keeps lengths, a clip's vector is as long as the encoder made it, and a unit vector (a composed query, a
        sample) becomes as long as the clips are on average.
        """
        if self.keeps_length:
            clip_vectors_ND = self._with_length(clip_vectors_ND)
        parts = (clip_vectors_ND, text_vectors_NE)
        return self._backend.fuse(*(np.ascontiguousarray(part, np.float32) for part in parts))

    def compose(self, clip_vectors_ND: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Clip vectors, as `fuse` takes them, and their texts -> unit query vectors [N, D]."""
        vectors_ND = check_queries(self.card, clip_vectors_ND, texts)
        return self.fuse(vectors_ND, self.text_vectors(texts))
