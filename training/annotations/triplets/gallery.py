"""The capped gallery: only clips that triplets name as query or target.

Where a split lists only some of the valid targets of a query, its other clips would be correct answers
that count as wrong. Most of them are in no triplet and are left out; those that remain, because another
query names them or because they are queries, are counted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from encoders.clips import Clip
from training.annotations.triplets.table import Triplet


@dataclass(frozen=True, kw_only=True, slots=True)
class CappedGallery:
    """The clips of the gallery, in the order of their table."""

    clips: tuple[Clip, ...]
    num_left_out: int
    """Number of clips of the same splits that no triplet names."""
    unlisted_answers_per_query: float
    """Mean number of gallery clips per query that have its target label and another video, but are not among its targets."""


def cap_gallery(triplets: Sequence[Triplet], clips: Sequence[Clip]) -> CappedGallery:
    """The clips that the triplets name; ValueError if one of them is not in the table."""
    named = {clip_id for t in triplets for clip_id in (t.query_clip_id, *t.target_clip_ids)}
    kept = tuple(clip for clip in clips if clip.clip_id in named)
    if len(kept) < len(named):
        unknown_ids = sorted(named - {clip.clip_id for clip in kept})
        raise ValueError(
            f"{len(unknown_ids)} clips of the triplets are not in the clips table, first: {unknown_ids[:3]}"
        )
    splits = {triplet.split for triplet in triplets}
    by_id = {clip.clip_id: clip for clip in kept}
    of_label = Counter((clip.split, clip.label) for clip in kept)
    of_video = Counter((clip.split, clip.label, clip.video_uri) for clip in kept)
    num_unlisted = 0
    for triplet in triplets:
        key = (triplet.split, triplet.target_label)
        video = by_id[triplet.query_clip_id].video_uri
        num_unlisted += of_label[key] - of_video[(*key, video)] - len(triplet.target_clip_ids)
    return CappedGallery(
        clips=kept,
        num_left_out=sum(clip.split in splits for clip in clips) - len(kept),
        unlisted_answers_per_query=num_unlisted / max(1, len(triplets)),
    )
