"""The capped gallery: the clips that triplets name as query or target, and no others.

Where a split lists only some of the valid targets of a query, its other clips would be answers that
count as wrong. Most of them are not named by any triplet, and stay out; those that are in because
another query names them, or because they are queries themselves, are counted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from encoders.clips import Clip
from training.annotations.triplets.table import Triplet


@dataclass(frozen=True, kw_only=True, slots=True)
class CappedGallery:
    """The gallery's clips, in the order of the table that they come from."""

    clips: tuple[Clip, ...]
    num_left_out: int
    """Clips of the same splits that no triplet names."""
    unlisted_answers_per_query: float
    """Gallery clips of a query's target label, in other videos than its own, that the query does not list; on average."""


def cap_gallery(triplets: Sequence[Triplet], clips: Sequence[Clip]) -> CappedGallery:
    """The clips that the triplets name; ValueError if one of them is not in the table."""
    named = {clip_id for t in triplets for clip_id in (t.query_clip_id, *t.target_clip_ids)}
    kept = tuple(clip for clip in clips if clip.clip_id in named)
    if len(kept) < len(named):
        strangers = sorted(named - {clip.clip_id for clip in kept})
        raise ValueError(
            f"{len(strangers)} clips of the triplets are no clips, first: {strangers[:3]}"
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
