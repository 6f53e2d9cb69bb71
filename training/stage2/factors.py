"""What stage 2 knows of factors: the values of the clips that its triplets name, and texts whose effect is known.

M clips with vectors, F factors, U texts, K slots of one factor.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from encoders.clips import read_clips
from encoders.query_encoder.factors import Factor, find_factors
from training.annotations.labels.names import label_attributes
from training.annotations.triplets.free_texts import FreeText, free_texts
from training.annotations.triplets.table import Triplet
from training.configs import Stage2Config

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FactorTable:
    """The factors of the training triplets, with everything that is known of them."""

    factors: tuple[Factor, ...]
    attributes: Mapping[str, Mapping[str, str]]
    """Attributes by clip id, of clips that training triplets name."""
    texts: tuple[FreeText, ...]

    def values(self, clip_ids: Sequence[str]) -> Tensor:
        """The slot of every factor [M, F]; -1 where it is not known."""
        rows = [
            [factor.slot(known.get(factor.name)) for factor in self.factors]
            if (known := self.attributes.get(clip_id))
            else [-1] * len(self.factors)
            for clip_id in clip_ids
        ]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(clip_ids), len(self.factors))

    def truths(self) -> list[Tensor]:
        """What each text does to each factor: per factor [U, K, K]."""
        by_text = [text.truths(self.factors) for text in self.texts]
        return [
            torch.from_numpy(np.stack([truths[f] for truths in by_text]))
            for f in range(len(self.factors) if by_text else 0)
        ]


def read_factors(
    config: Stage2Config, triplets: Sequence[Triplet], clips_path: Path | None
) -> FactorTable:
    """The factors of training triplets: attributes of the clips' rows where there are any, else those that label names tell.

    Without either there are no factors, and the factored fusion is its Combiner.
    """
    if config.fusion != "factored":
        return FactorTable(factors=(), attributes={}, texts=())
    label_by_clip: dict[str, str | None] = {}
    for triplet in triplets:
        label_by_clip.setdefault(triplet.query_clip_id, triplet.source_label)
        for clip_id in triplet.target_clip_ids:
            label_by_clip.setdefault(clip_id, triplet.target_label)
    columns: dict[str, Mapping[str, str]] = {}
    if clips_path is not None:
        columns = {c.clip_id: dict(c.attributes) for c in read_clips(clips_path)}
    attributes = {
        clip_id: columns.get(clip_id) or label_attributes(label or "")
        for clip_id, label in label_by_clip.items()
    }
    factors = find_factors(attributes.values())
    if not factors:
        logger.warning(
            "no attribute of the %d training clips takes two values, so the factored fusion is its Combiner alone",
            len(attributes),
        )
    texts = free_texts(factors, num_texts=config.num_free_texts, seed=0)
    return FactorTable(factors=factors, attributes=attributes, texts=tuple(texts))
