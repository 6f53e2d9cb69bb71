"""Calibration of a trained composer on the val split: what `encoders.bundle.calibration` stores in the bundle.

N queries, M gallery clips, K hits, D clip vector, E text vector.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from encoders.bundle.calibration import (
    Answers,
    Calibration,
    QueryKind,
    ScoreCalibration,
    fit_clips,
    fit_scores,
    fit_texts,
)
from encoders.query_encoder.fusion import Fusion
from encoders.query_encoder.text_encoder import TextEncoder
from training.annotations.labels.pairs import stable_hash
from training.annotations.triplets.table import Triplet
from training.vectors.tables import with_own_length

_UNRELATED = Path(__file__).resolve().parent / "data" / "unrelated_texts.txt"
_NUM_QUERIES = 1000
_NUM_TEXTS = 4096
_NUM_HITS = 10
_SHARES, _NUM_DRAWS = (2, 4), 8
_NUM_SAMPLES = 64
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Queries of one kind [N, D] with what is right for each."""

    queries_ND: np.ndarray
    own_ids: Sequence[str]
    """The query's own clip, which is no answer; "" = none."""
    is_right_NM: np.ndarray


class Calibrator:
    """The val split of a stage 2 run, and the composer that answers its queries."""

    def __init__(
        self,
        fusion: Fusion,
        text: TextEncoder,
        triplets: Mapping[str, Sequence[Triplet]],
        vectors: Mapping[str, np.ndarray],
        *,
        lengths: Mapping[str, float] | None = None,
    ) -> None:
        """`triplets` by split, "train" and "val"; `lengths` of the vectors where the fusion reads them as long as they were."""
        self._fusion, self._text, self._vectors, self._lengths = fusion, text, vectors, lengths
        self._train, self._val = triplets["train"], _thinned(triplets["val"], _NUM_QUERIES)
        self._gallery_ids = sorted(_clips_of(self._val))
        self._label_by_id = dict(_labels_of(self._val))
        self._text_by_text: dict[str, np.ndarray] = {}

    def fit(self) -> Calibration:
        """Score by kind of query, clips and texts."""
        kinds: dict[QueryKind, _Asked | None] = {
            "composed": self._composed(),
            "clip": self._clip_only(),
            "text": self._text_only(),
        }
        fitted: dict[QueryKind, ScoreCalibration | None] = {
            kind: fit_scores(self._hits(answers), list(self._among_fewer(answers)))
            for kind, answers in kinds.items()
            if answers
        }
        known = sorted({t.edit_text for t in self._train}, key=stable_hash)[:_NUM_TEXTS]
        return Calibration(
            scores={kind: score for kind, score in fitted.items() if score is not None},
            clips=fit_clips(
                self._unit(sorted(_clips_of(self._train))), self._unit(self._gallery_ids)
            ),
            texts=fit_texts(self._encode_whole(known), self._encode_whole(unrelated_texts())),
        )

    def _composed(self) -> _Asked:
        clips_ND = self._fusion_clips([t.query_clip_id for t in self._val])
        texts_NE = self._encode([t.edit_text for t in self._val])
        right = [self._right(t.target_clip_ids, {t.target_label}) for t in self._val]
        return _Asked(
            queries_ND=self._fuse(clips_ND, texts_NE),
            own_ids=[t.query_clip_id for t in self._val],
            is_right_NM=np.stack(right),
        )

    def _clip_only(self) -> _Asked | None:
        """Of each labelled clip the others of its label are right."""
        ids = [clip_id for clip_id in self._gallery_ids if clip_id in self._label_by_id]
        if not ids:
            return None
        right = [self._right((), {self._label_by_id[clip_id]}) for clip_id in ids]
        return _Asked(queries_ND=self._unit(ids), own_ids=ids, is_right_NM=np.stack(right))

    def _text_only(self) -> _Asked:
        """Of each text the targets of all queries with that text are right."""
        ids: defaultdict[str, set[str]] = defaultdict(set)
        labels: defaultdict[str, set[str | None]] = defaultdict(set)
        for triplet in (*self._train, *self._val):
            ids[triplet.edit_text].update(triplet.target_clip_ids)
            labels[triplet.edit_text].add(triplet.target_label)
        texts = sorted({t.edit_text for t in self._val})
        samples = sorted(self._gallery_ids, key=stable_hash)[:_NUM_SAMPLES]
        samples_SD = self._fusion_clips(samples)
        queries = []
        for text_E in self._encode(texts):
            composed_SD = self._fuse(samples_SD, np.repeat(text_E[None], len(samples_SD), axis=0))
            mean_D = composed_SD.mean(axis=0)
            queries.append(mean_D / max(float(np.linalg.norm(mean_D)), 1e-12))
        return _Asked(
            queries_ND=np.stack(queries),
            own_ids=[""] * len(texts),
            is_right_NM=np.stack([self._right(ids[text], labels[text]) for text in texts]),
        )

    def _among_fewer(self, asked: _Asked) -> Iterator[Answers]:
        """The same among a half and a quarter of the clips, drawn some times."""
        num_clips = len(self._gallery_ids)
        rng = np.random.default_rng(0)
        for share in _SHARES:
            for _ in range(_NUM_DRAWS):
                yield self._hits(asked, rng.choice(num_clips, max(1, num_clips // share), False))

    def _hits(self, asked: _Asked, drawn: np.ndarray | None = None) -> Answers:
        """Hits among all clips or those drawn [2N, K]: each query that some of them answer, and the same where nothing does."""
        places = np.arange(len(self._gallery_ids)) if drawn is None else drawn
        ids = np.array([self._gallery_ids[place] for place in places])
        is_own_NM = np.array(asked.own_ids)[:, None] == ids
        is_right_NM = asked.is_right_NM[:, places] & ~is_own_NM
        has_right_N = is_right_NM.any(axis=1)
        cosines_NM = asked.queries_ND @ self._unit(ids.tolist()).T
        cosines_NM = np.where(is_own_NM, np.nan, cosines_NM)[has_right_N]
        is_right_NM = is_right_NM[has_right_N]
        without_NM = np.where(is_right_NM, np.nan, cosines_NM)
        both = np.concatenate([cosines_NM, without_NM])
        right = np.concatenate([is_right_NM, np.zeros_like(is_right_NM)])
        order = np.argsort(-both, axis=1, kind="stable")[:, :_NUM_HITS]  # NaN comes last
        return Answers(
            cosines_NK=np.take_along_axis(both, order, axis=1),
            is_right_NK=np.take_along_axis(right, order, axis=1),
            num_clips=len(ids),
        )

    def _right(self, target_ids: Iterable[str], labels: set[str | None]) -> np.ndarray:
        """Which gallery clips are targets or have one of the labels [M]."""
        targets = set(target_ids)
        return np.array(
            [
                clip_id in targets or (self._label_by_id.get(clip_id) or None) in labels - {None}
                for clip_id in self._gallery_ids
            ]
        )

    def _unit(self, clip_ids: Sequence[str]) -> np.ndarray:
        return np.stack([self._vectors[clip_id] for clip_id in clip_ids])

    def _fusion_clips(self, clip_ids: Sequence[str]) -> np.ndarray:
        unit_ND = self._unit(clip_ids)
        return (
            unit_ND if self._lengths is None else with_own_length(unit_ND, clip_ids, self._lengths)
        )

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        """Text vectors [N, E], each text once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._text_by_text]
        with torch.inference_mode():
            for start in range(0, len(new), _AT_ONCE):
                part = new[start : start + _AT_ONCE]
                encoded = self._text.encode(part).float().cpu().numpy()
                self._text_by_text.update(zip(part, encoded, strict=True))
        return np.stack([self._text_by_text[text] for text in texts])

    def _encode_whole(self, texts: Sequence[str]) -> np.ndarray:
        """The same without what a reader of tokens adds."""
        return self._encode(texts)[:, : self._text.whole_dim]

    def _fuse(self, clips_ND: np.ndarray, texts_NE: np.ndarray) -> np.ndarray:
        device = next(self._fusion.parameters()).device
        with torch.inference_mode():
            clips, texts = (torch.from_numpy(part).to(device) for part in (clips_ND, texts_NE))
            return self._fusion(clips, texts).float().cpu().numpy()


def unrelated_texts() -> list[str]:
    """Texts that no archive of actions is asked for; those that an archive's own edits are about are left out by `fit_texts`."""
    return [line for line in _UNRELATED.read_text().splitlines() if line]


def _clips_of(triplets: Iterable[Triplet]) -> set[str]:
    return {clip_id for t in triplets for clip_id in (t.query_clip_id, *t.target_clip_ids)}


def _labels_of(triplets: Iterable[Triplet]) -> Iterator[tuple[str, str]]:
    """(clip id, label) of the clips whose labels the triplets tell."""
    for triplet in triplets:
        if triplet.source_label is not None:
            yield triplet.query_clip_id, triplet.source_label
        if triplet.target_label is not None:
            yield from ((clip_id, triplet.target_label) for clip_id in triplet.target_clip_ids)


def _thinned(triplets: Sequence[Triplet], num_kept: int) -> list[Triplet]:
    """The first by a hash; a fixed step would meet the same kinds of edits again and again."""
    return sorted(triplets, key=lambda triplet: stable_hash(triplet.query_id))[:num_kept]
