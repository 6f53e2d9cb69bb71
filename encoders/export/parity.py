"""Parity of two backends: cosines clip by clip and query by query, on the same frames and texts.

N clips, T frames, H W pixels, C channels, D clip vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from typing import Protocol

import numpy as np

_CLIPS_AT_ONCE = 8


class VectorSource(Protocol):
    """What parity asks of a backend."""

    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray: ...
    def embed_queries(
        self, clip_vectors_ND: np.ndarray, edit_texts: Sequence[str]
    ) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityReport:
    """The lowest cosines between two backends."""

    num_clips: int
    min_cosine_clips: float
    min_cosine_queries: float | None
    """Lowest cosine of the query vectors; None = the bundle has no fusion."""

    @property
    def min_cosine(self) -> float:
        """The worse of both; NaN when either is."""
        if self.min_cosine_queries is None:
            return self.min_cosine_clips
        return float(np.min([self.min_cosine_clips, self.min_cosine_queries]))


def cosines(left_ND: np.ndarray, right_ND: np.ndarray) -> np.ndarray:
    """Row by row, in float64."""
    left, right = left_ND.astype(np.float64), right_ND.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (left * right).sum(axis=1) / norms


def compare_backends(
    reference: VectorSource,
    candidate: VectorSource,
    frames_NTHWC: np.ndarray,
    *,
    edit_texts: Sequence[str] = (),
) -> ParityReport:
    """Clips through both; then queries of the reference's clip vectors and the texts, one text per clip.

    Batches have different sizes for both, since a graph that fixed its batch at export would otherwise pass.
    """
    reference_ND = embed_in_batches(reference, frames_NTHWC, _CLIPS_AT_ONCE)
    candidate_ND = embed_in_batches(candidate, frames_NTHWC, _CLIPS_AT_ONCE - 1)
    query_cosine = None
    if edit_texts:
        texts = list(islice(cycle(edit_texts), len(reference_ND)))
        expected_ND = reference.embed_queries(reference_ND, texts)
        candidate_queries = [
            candidate.embed_queries(reference_ND[i : i + 5], texts[i : i + 5])
            for i in range(0, len(texts), 5)
        ]
        query_cosine = float(cosines(expected_ND, np.concatenate(candidate_queries)).min())
    return ParityReport(
        num_clips=len(frames_NTHWC),
        min_cosine_clips=float(cosines(reference_ND, candidate_ND).min()),
        min_cosine_queries=query_cosine,
    )


def sample_edit_texts(num_texts: int) -> list[str]:
    """Edits of many lengths, for checking; no two alike among the first few hundred."""
    counts = ("with {} twists", "now with {} somersaults and no twist", "{} turns")
    places = ("", " in pike position", ", from a back take-off, in tuck, from the armstand")
    numbers = [f"{half / 2:g}" for half in range(1, 15)]
    texts = [f"{c.format(n)}{p}" for n, c, p in product(numbers, counts, places)]
    return list(islice(cycle(texts), num_texts))


def embed_in_batches(source: VectorSource, frames_NTHWC: np.ndarray, size: int) -> np.ndarray:
    """Clip vectors [N, D], `size` clips at a time."""
    return np.concatenate(
        [
            source.embed_clips(frames_NTHWC[start : start + size])
            for start in range(0, len(frames_NTHWC), size)
        ]
    )
