"""What stage 2 knows of factors: the values of the clips that its triplets name, texts whose effect is known, and labels that stage 1
learned and no triplet shows.

M clips with vectors, N triplets, F factors, U texts, K slots of one factor, O operations, L labels of stage 1, V width of clip vectors.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.bundle.folder import load_bundle
from encoders.clips import read_clips
from encoders.query_encoder.factors import Factor, find_factors, parse_number
from encoders.query_encoder.numbers import Count, kind_counted, read_counts
from training.annotations.labels.names import label_attributes
from training.annotations.triplets.free_texts import FreeText, Operation, free_texts
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
    unshown: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Attributes by label, of labels that stage 1 learned and no training triplet has."""
    directions: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By label that stage 1 learned: the unit direction [V] of its clip vectors."""

    def values(self, clip_ids: Sequence[str]) -> Tensor:
        """The slot of every factor [M, F]; -1 where it is not known."""
        return self._slots([self.attributes.get(clip_id) for clip_id in clip_ids])

    def unshown_values(self) -> Tensor:
        """As `values`, of the labels that no triplet shows."""
        return self._slots(list(self.unshown.values()))

    def _slots(self, known: Sequence[Mapping[str, str] | None]) -> Tensor:
        rows = [
            [factor.slot(values.get(factor.name)) for factor in self.factors]
            if values
            else [-1] * len(self.factors)
            for values in known
        ]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(known), len(self.factors))

    def truths(self) -> list[Tensor]:
        """What each text does to each factor: per factor [U, K, K]."""
        by_text = [text.truths(self.factors) for text in self.texts]
        return [
            torch.from_numpy(np.stack([truths[f] for truths in by_text]))
            for f in range(len(self.factors) if by_text else 0)
        ]

    def counted_edits(self, triplets: Sequence[Triplet]) -> tuple[list[Tensor], Tensor]:
        """What each triplet's edit text does to a factor that it counts: per factor the operations as matrices [O, K, K], the first of
        them zero, and per triplet the number of its operation [N, F], 0 where the text counts nothing of the factor.

        A pair of clips does not tell "one more" from "two": both turn its one into two.
        """
        matrices: list[list[np.ndarray]] = []
        numbers_NF = torch.zeros(len(triplets), len(self.factors), dtype=torch.int64)
        counts = {text: read_counts(text) for text in {triplet.edit_text for triplet in triplets}}
        for f, factor in enumerate(self.factors):
            matrices.append([np.zeros((len(factor.values),) * 2, np.float32)])
            places: dict[tuple[str, str], int] = {}
            for n, triplet in enumerate(triplets):
                operation = self._counted(factor, triplet, counts[triplet.edit_text])
                if operation is None:
                    continue
                key = (operation.kind, operation.value)
                if key not in places:
                    places[key] = len(matrices[f])
                    matrices[f].append(operation.truth_KK)
                numbers_NF[n, f] = places[key]
        return [torch.from_numpy(np.stack(of_factor)) for of_factor in matrices], numbers_NF

    def _counted(
        self, factor: Factor, triplet: Triplet, counts: Mapping[str, Count]
    ) -> Operation | None:
        """The operation that the text names and that the two labels bear out."""
        count = counts.get(kind_counted(factor.name)) if factor.is_ordered else None
        if count is None:
            return None
        source = self._number(factor, triplet.query_clip_id)
        target = self._number(factor, triplet.target_clip_ids[0])
        if target is None:
            return None
        if count.sense == "absolute":
            if count.value != target:
                return None
            return Operation(factor=factor, kind="set_number", value=f"{float(target):g}")
        if source is None or factor.step is None:
            return None
        change = target - source if count.sense == "more" else source - target
        if change <= 0 or change != count.value:
            return None
        return Operation(factor=factor, kind=count.sense, value=str(int(change / factor.step)))

    def _number(self, factor: Factor, clip_id: str) -> Fraction | None:
        value = self.attributes.get(clip_id, {}).get(factor.name)
        return None if value is None or factor.slot(value) < 0 else parse_number(value)


def read_factors(
    config: Stage2Config,
    triplets: Sequence[Triplet],
    clips_path: Path | None,
    directions: Mapping[str, np.ndarray] | None = None,
) -> FactorTable:
    """The factors of training triplets and of labels with `directions`, those that stage 1 learned: attributes of the clips' rows where
    there are any, else those that label names tell.

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
    columns_by_label: dict[str, Mapping[str, str]] = {}
    for clip in read_clips(clips_path) if clips_path is not None else []:
        columns[clip.clip_id] = dict(clip.attributes)
        columns_by_label.setdefault(clip.label or "", dict(clip.attributes))
    attributes = {
        clip_id: columns.get(clip_id) or label_attributes(label or "")
        for clip_id, label in label_by_clip.items()
    }
    unshown = {
        label: columns_by_label.get(label) or label_attributes(label)
        for label in sorted(set(directions or ()) - set(label_by_clip.values()))
    }
    unshown = {label: values for label, values in unshown.items() if values}
    factors = find_factors([*attributes.values(), *unshown.values()])
    if not factors:
        logger.warning(
            "no attribute differs between the labels of the %d training clips%s, so the factored fusion is its Combiner alone",
            len(attributes),
            ""
            if clips_path is not None
            else ", as far as the labels' names say (no clips.parquet was given)",
        )
    texts = free_texts(factors, num_texts=config.num_free_texts, seed=0)
    return FactorTable(
        factors=factors,
        attributes=attributes,
        texts=tuple(texts),
        unshown=unshown,
        directions=directions or {},
    )


def read_label_directions(config: Stage2Config, bundle_dir: Path | None) -> dict[str, np.ndarray]:
    """Of each label of a stage 1 head the unit direction [V] that its clip vectors lie in, for the factored fusion; nothing without a
    bundle or a head.
    """
    if config.fusion != "factored" or bundle_dir is None:
        return {}
    bundle = load_bundle(bundle_dir)
    if bundle.head is None or bundle.card.labels is None:
        return {}
    unit_LV = F.normalize(bundle.head.weight.detach().float(), dim=-1).numpy()
    return dict(zip(bundle.card.labels, unit_LV, strict=True))
