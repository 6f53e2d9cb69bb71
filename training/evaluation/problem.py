"""The retrieval problem of an evaluation: the queries of one split, the gallery, and the vectors of both.

Protocol `unique`: the gallery holds each clip of the split once, and a query's own clip is hidden from it.
"""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from encoders.clips import Clip
from training.annotations.triplets.table import Triplet
from training.vectors.tables import with_own_length


@dataclass(frozen=True, kw_only=True)
class RetrievalProblem:
    """N queries over a gallery of M clips, vectors D wide."""

    triplets: tuple[Triplet, ...]
    gallery_ids: tuple[str, ...]
    vectors: Mapping[str, np.ndarray]
    """Unit vector by clip id, of every query and gallery clip."""
    seen_pairs: frozenset[tuple[str | None, str | None]]
    """(source label, target label) pairs of the training triplets; empty = unknown."""
    num_dead_clips: int = 0
    """Number of clips of the split without a vector, which are neither in the gallery nor targets."""
    num_queries_left_out: int = 0
    """Number of queries whose own clip, or whose every target, has no vector."""
    lengths: Mapping[str, float] = field(default_factory=dict)
    """The length that a vector had before it was made unit length, by clip id; empty = unknown. Read where a fusion keeps it."""

    @cached_property
    def gallery_MD(self) -> np.ndarray:  # noqa: N802 - M gallery clips, D wide
        """Gallery vectors in the order of the ids."""
        return np.stack([self.vectors[clip_id] for clip_id in self.gallery_ids])

    @cached_property
    def clips_ND(self) -> np.ndarray:  # noqa: N802 - N queries, D wide
        """The query clips' own vectors."""
        return np.stack([self.vectors[triplet.query_clip_id] for triplet in self.triplets])

    def fusion_clips(self, *, keeps_length: bool) -> np.ndarray:
        """The query clips' vectors as a fusion reads them [N, D]."""
        if not keeps_length:
            return self.clips_ND
        ids = [triplet.query_clip_id for triplet in self.triplets]
        return with_own_length(self.clips_ND, ids, self.lengths)

    @cached_property
    def targets(self) -> list[frozenset[int]]:
        """Gallery positions of the targets, per query."""
        place = {clip_id: n for n, clip_id in enumerate(self.gallery_ids)}
        return [frozenset(place[clip] for clip in t.target_clip_ids) for t in self.triplets]

    @cached_property
    def hidden(self) -> list[tuple[int, ...]]:
        """Gallery position of the query's own clip, which is excluded from its ranking."""
        place = {clip_id: n for n, clip_id in enumerate(self.gallery_ids)}
        return [
            (place[t.query_clip_id],) if t.query_clip_id in place else () for t in self.triplets
        ]

    @cached_property
    def is_seen_N(self) -> np.ndarray:  # noqa: N802 - N queries
        """Whether a query's label pair occurs in training."""
        return np.array(
            [(t.source_label, t.target_label) in self.seen_pairs for t in self.triplets]
        )


def build_retrieval_problem(
    triplets: Sequence[Triplet],
    vectors: Mapping[str, np.ndarray],
    *,
    split: str | None,
    clips: Sequence[Clip] | None = None,
    dead_ids: Collection[str] = (),
    train_split: str = "train",
) -> RetrievalProblem:
    """Build the queries of a split and a gallery of all its clips.

    `clips` defines the clips of the split. Without it the gallery is the query and target clips of the
    split's triplets, which leaves out clips that no triplet names. `dead_ids` are clips that could
    not be embedded; any other missing vector is an error.
    """
    chosen = [triplet for triplet in triplets if triplet.split == split]
    if not chosen:
        splits = sorted({triplet.split or "(none)" for triplet in triplets})
        raise ValueError(f"no triplet has the split {split!r}; there are {splits}")
    gallery = _split_clips(chosen, split, clips)
    dead = gallery & set(dead_ids)
    missing = sorted(gallery - dead - vectors.keys())
    if missing:
        raise ValueError(f"{len(missing)} clips have no vector, first: {missing[:3]}")
    alive = [_without(triplet, dead) for triplet in chosen] if dead else list(chosen)
    kept = tuple(triplet for triplet in alive if triplet is not None)
    if not kept:
        raise ValueError(
            f"all {len(chosen)} queries of split {split!r} lost their clips: {sorted(dead)[:3]} ..."
        )
    seen = {(t.source_label, t.target_label) for t in triplets if t.split == train_split}
    return RetrievalProblem(
        triplets=kept,
        gallery_ids=tuple(sorted(gallery - dead)),
        vectors=vectors,
        seen_pairs=frozenset(pair for pair in seen if all(pair) and split != train_split),
        num_dead_clips=len(dead),
        num_queries_left_out=len(chosen) - len(kept),
    )


def _split_clips(
    triplets: Sequence[Triplet], split: str | None, clips: Sequence[Clip] | None
) -> set[str]:
    named = {clip_id for t in triplets for clip_id in (t.query_clip_id, *t.target_clip_ids)}
    if clips is None:
        return named
    gallery = {clip.clip_id for clip in clips if clip.split == split}
    unknown_ids = sorted(named - gallery)
    if unknown_ids:
        raise ValueError(
            f"{len(unknown_ids)} clips of the triplets are not in split {split!r}, first: {unknown_ids[:3]}"
        )
    return gallery


def _without(triplet: Triplet, dead: Set[str]) -> Triplet | None:
    targets = tuple(clip_id for clip_id in triplet.target_clip_ids if clip_id not in dead)
    if triplet.query_clip_id in dead or not targets:
        return None
    return replace(triplet, target_clip_ids=targets)
