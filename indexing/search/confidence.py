"""How sure an answer is: the probability of each hit, and why nothing matches. Reads the calibration that stage 2 put into the bundle.

N hits, D clip vector.
"""

from functools import cached_property

import numpy as np

from encoders.bundle.calibration import Calibration, QueryKind, ScoreCalibration
from indexing.search.collection_snapshot import CollectionSnapshot
from indexing.search.query_encoder import QueryEncoder
from indexing.search.types import ComposedQuery, Hit, Mismatch

_TYPICAL_CLIPS = 0.9


class Confidence:
    """The calibration of a bundle at work on one collection; without one, nothing is said."""

    def __init__(
        self, calibration: Calibration | None, encoder: QueryEncoder, snapshot: CollectionSnapshot
    ) -> None:
        self.calibration = calibration
        self._encoder, self._snapshot = encoder, snapshot

    @cached_property
    def _max_clip_distance(self) -> float:
        """That of the val clips; more where the clips of this collection are themselves farther from the training clips."""
        assert self.calibration is not None
        clips = self.calibration.clips
        of_collection = np.quantile(clips.distance(self._snapshot.samples), _TYPICAL_CLIPS)
        return max(clips.max_distance, float(of_collection))

    def unrelated(self, query: ComposedQuery, new_clip_D: np.ndarray | None) -> Mismatch:
        """Whether an edit, or a clip that is not of the collection, has nothing to do with what the encoder learned."""
        if self.calibration is None:
            return ""
        if new_clip_D is not None:
            (distance,) = self.calibration.clips.distance(new_clip_D[None])
            if distance > self._max_clip_distance:
                return "clip"
        if query.edits:
            text_vectors_NE = self._encoder.text_vectors(query.edits)
            if not self.calibration.texts.is_related(text_vectors_NE).all():
                return "text"
        return ""

    def probabilities(
        self, query: ComposedQuery, unrelated: Mismatch, cosines_N: np.ndarray
    ) -> list[float | None]:
        """The probability that each hit shows what was asked; None where the bundle does not tell."""
        score = self._score(query)
        if unrelated:
            return [0.0] * len(cosines_N)
        return [None] * len(cosines_N) if score is None else score.probability(cosines_N).tolist()

    def log_odds(self, query: ComposedQuery, scores_N: np.ndarray) -> np.ndarray | None:
        """Scores of hits as log-odds of being right, which those of another encoder can be set beside; None where the bundle does not
        tell."""
        score = self._score(query)
        return None if score is None else score.log_odds(scores_N)

    def _score(self, query: ComposedQuery) -> ScoreCalibration | None:
        return None if self.calibration is None else self.calibration.scores.get(_kind(query))

    def mismatch(
        self, query: ComposedQuery, hits: tuple[Hit, ...], unrelated: Mismatch, condition: str
    ) -> Mismatch | None:
        """Why nothing matches among the clips that pass the condition, "" where something does; None where the bundle does not tell."""
        if unrelated or not hits:
            return unrelated or "filters"
        score = self._score(query)
        if score is None:
            return None
        best = max(hit.probability or 0.0 for hit in hits)
        lowest = score.min_cosine_among(self._snapshot.num_matching(condition))
        return "" if best >= score.probability(np.array(lowest)) else "score"


def _kind(query: ComposedQuery) -> QueryKind:
    if not query.edits:
        return "clip"
    return "composed" if query.clip else "text"
