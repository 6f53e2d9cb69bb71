""" "No match" detection by a threshold on the best score, calibrated on validation triplets.

Each triplet is searched twice: with all clips, and without its targets in the gallery. The threshold has the best F1 among those of
sufficient precision; its precision and recall on held-out triplets are stored with it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.files import from_dict
from indexing.search.types import Hit

MIN_PRECISION = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class AbstainThreshold:
    """A calibrated threshold: an answer whose best score is below `min_score` is "no match". Precision and recall are those of that verdict."""

    min_score: float
    encoder_id: str
    bundle_id: str
    split: str
    """Split on which precision and recall were measured; the threshold was fitted on another one."""
    precision: float
    recall: float
    num_queries: int

    def has_match(self, hits: Sequence[Hit]) -> bool:
        """Whether the best cosine with the composed query is high enough."""
        return max((hit.from_clip + hit.from_edit for hit in hits), default=-1.0) >= self.min_score


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdicts:
    """Best scores of the same queries with and without their targets."""

    with_targets: np.ndarray
    without_targets: np.ndarray

    def precision_recall(self, min_score: float) -> tuple[float, float]:
        """Precision and recall of "no match" below this score; precision is 1 where no answer is below it."""
        right = int((self.without_targets < min_score).sum())
        wrong = int((self.with_targets < min_score).sum())
        precision = right / (right + wrong) if right + wrong else 1.0
        return precision, right / len(self.without_targets)

    def best_threshold(self, min_precision: float = MIN_PRECISION) -> float:
        """The highest F1 among scores of at least this precision; ValueError where no score reaches it."""
        scores = np.unique(np.concatenate([self.with_targets, self.without_targets]))
        middles = (scores[1:] + scores[:-1]) / 2

        def f1(score: float) -> float:
            precision, recall = self.precision_recall(score)
            return 2 * precision * recall / max(precision + recall, 1e-12)

        good = [s for s in middles if self.precision_recall(s)[0] >= min_precision]
        if not good or max(map(f1, good)) == 0:
            raise ValueError(f"no threshold reaches precision {min_precision} for 'no match'")
        return float(max(good, key=f1))


def read_threshold(path: Path, *, encoder_id: str, bundle_id: str) -> AbstainThreshold:
    """ValueError for a file of another bundle."""
    try:
        threshold = from_dict(AbstainThreshold, json.loads(path.read_text()), "it")
    except ValueError as error:
        raise ValueError(
            f"{path} is not a threshold file of `tfcovr calibrate`: {error}"
        ) from error
    if (threshold.encoder_id, threshold.bundle_id) != (encoder_id, bundle_id):
        raise ValueError(
            f"{path} was fitted for bundle {threshold.bundle_id!r}, and this is {bundle_id!r}; run "
            "`tfcovr calibrate` again"
        )
    return threshold
