"""Composed queries against a gallery of spans that may not be the true ones, counted by the performance that a hit shows.

A hit finds a performance where it overlaps its live span or its replay at temporal IoU >= 0.5. N clips, D clip vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.backends.base import EncoderBackend, embed_with_length
from encoders.clips import REPLAY_OF, Clip
from encoders.decoding.decode import iter_spans, iter_timeline
from encoders.decoding.request import DecodeRequest, TimelineBlock
from encoders.media.container import MediaLimits
from encoders.media.frame_index import Span
from encoders.metrics import average_precision_at_k, match_moments, temporal_iou
from indexing.clipping.moments import MomentFinder

_DEPTH = 50
_MERGE_IOU = 0.3
_MARGIN_S = 1.5
_NUM_LONGER = 40


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Clips and their vectors."""

    clips: Sequence[Clip]
    vectors_ND: np.ndarray
    """Unit vectors."""
    given_ND: np.ndarray
    """As the fusion reads them."""
    groups_replays: bool = True
    """Whether a replay and what it shows again are one answer, as search has them."""
    merges: bool = False
    """Whether hits that overlap a better one of their video are left out: without it windows would answer twice."""

    def ungrouped(self) -> "Gallery":
        return replace(self, groups_replays=False)

    def merging(self) -> "Gallery":
        return replace(self, merges=True)

    def performance(self, number: int) -> tuple[str, str]:
        """As search groups hits."""
        clip = self.clips[number]
        shown = clip.attributes.get(REPLAY_OF) if self.groups_replays else None
        return clip.video_uri, shown or clip.clip_id


@dataclass(frozen=True, kw_only=True)
class Question:
    """A composed query and the live clips that answer it."""

    clip: Clip
    edit_text: str
    vector_D: np.ndarray
    relevant: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What all questions got."""

    map50: float
    dead_time_share: float
    """Of the top 10: those of which more than half lies outside of every true span."""
    echo_at_10: float
    """Of the top 10: replays of the query's own performance."""

    def named(self, name: str) -> dict[str, float]:
        return {
            f"{name}_map50": self.map50,
            f"{name}_dead_time_share": self.dead_time_share,
            f"{name}_echo_at_10": self.echo_at_10,
        }


def ask(gallery: Gallery, truth: Sequence[Clip], questions: Sequence[Question]) -> Answers:
    """All questions; the clip that the query is, or overlaps, is no answer."""
    shows = _performances(gallery.clips, truth)
    is_dead = _dead_time(gallery.clips, truth)
    precisions: list[float] = []
    dead: list[bool] = []
    echoes: list[bool] = []
    for question in questions:
        hits = _ranked(gallery, question)
        ids = [shows[n] or f"nothing {n}" for n in hits]
        first = [i if i not in ids[:k] else f"again {k}" for k, i in enumerate(ids)]
        precisions.append(average_precision_at_k(first, question.relevant, k=_DEPTH))
        dead += [is_dead[n] for n in hits[:10]]
        echoes += [shows[n] == question.clip.clip_id for n in hits[:10]]
    return Answers(
        map50=float(np.mean(precisions)),
        dead_time_share=float(np.mean(dead)),
        echo_at_10=float(np.mean(echoes)),
    )


def longer_queries(
    backend: EncoderBackend,
    finder: MomentFinder,
    gallery: Gallery,
    truth: Sequence[Clip],
    questions: Sequence[Question],
) -> dict[str, float]:
    """mAP@50 of query clips with a margin on both sides: as they are, and cut to their best moment, as search does."""
    drawn = questions[:: max(1, len(questions) // _NUM_LONGER)]
    blocks_by_video: dict[str, list[TimelineBlock]] = {}
    as_is: list[Question] = []
    tightened: list[Question] = []
    for question in drawn:
        uri = question.clip.video_uri
        if uri not in blocks_by_video:
            blocks_by_video[uri] = list(iter_timeline(finder.request(uri, MediaLimits())))
        start_s = max(question.clip.start_s - _MARGIN_S, 0.0)
        end_s = float(question.clip.end_s or 0.0) + _MARGIN_S
        seen = [_part(block, start_s, end_s) for block in blocks_by_video[uri][1:]]
        moments = finder.find([block for block in seen if len(block.frame_indices_T)])
        best = max(moments, key=lambda moment: moment.score, default=None)
        as_is.append(_asked(backend, question, start_s, end_s))
        span = (start_s, end_s) if best is None else (best.start_s, best.end_s)
        tightened.append(_asked(backend, question, *span))
    return {
        "usual_query_map50": ask(gallery, truth, drawn).map50,
        "longer_query_map50": ask(gallery, truth, as_is).map50,
        "longer_query_cut_map50": ask(gallery, truth, tightened).map50,
    }


def _asked(backend: EncoderBackend, question: Question, start_s: float, end_s: float) -> Question:
    """The same question of another span."""
    request = DecodeRequest(
        video=question.clip.video_uri,
        spans=(Span(start_s=start_s, end_s=end_s),),
        sampling=backend.card.sampling,
    )
    frames_THWC = next(iter(iter_spans(request))).frames_THWC
    assert frames_THWC is not None
    unit_1D, length_1 = embed_with_length(backend, frames_THWC[None])
    fusion = backend.card.fusion
    is_long = fusion is not None and fusion.keeps_length
    given_1D = unit_1D * length_1[:, None] if is_long else unit_1D
    vector_D = backend.embed_queries(given_1D, [question.edit_text])[0]
    return replace(question, vector_D=vector_D)


def _part(block: TimelineBlock, start_s: float, end_s: float) -> TimelineBlock:
    is_in = (block.times_s[:-1] >= start_s) & (block.times_s[:-1] < end_s)
    assert block.frames_THWC is not None
    times_s = block.times_s[:-1][is_in]
    return TimelineBlock(
        frames_THWC=block.frames_THWC[is_in],
        frame_indices_T=block.frame_indices_T[is_in],
        times_s=np.append(times_s, times_s[-1:]),
    )


def _ranked(gallery: Gallery, question: Question) -> list[int]:
    """The best clips, grouped and merged, without the query's own."""
    own = {
        gallery.performance(n)
        for n, clip in enumerate(gallery.clips)
        if clip.video_uri == question.clip.video_uri and _overlap(clip, question.clip) > 0
    }
    taken: set[tuple[str, str]] = set()
    hits: list[int] = []
    for n in np.argsort(-(gallery.vectors_ND @ question.vector_D), kind="stable").tolist():
        shown = gallery.performance(n)
        if shown in own or shown in taken:
            continue
        if gallery.merges and any(
            _iou(gallery.clips[n], gallery.clips[m]) > _MERGE_IOU for m in hits
        ):
            continue
        taken.add(shown)
        hits.append(n)
        if len(hits) == _DEPTH:
            break
    return hits


def _performances(clips: Sequence[Clip], truth: Sequence[Clip]) -> list[str]:
    """For each clip the id of the live clip whose performance it shows, or ""."""
    matches = match_moments([_span(c) for c in clips], [_span(c) for c in truth])
    shown = [clip.attributes.get(REPLAY_OF) or clip.clip_id for clip in truth]
    return [shown[n] if n >= 0 else "" for n in matches]


def _dead_time(clips: Sequence[Clip], truth: Sequence[Clip]) -> list[bool]:
    by_video: dict[str, list[Clip]] = {}
    for clip in truth:
        by_video.setdefault(clip.video_uri, []).append(clip)
    return [
        sum(_overlap(clip, other) for other in by_video.get(clip.video_uri, ()))
        < 0.5 * (float(clip.end_s or 0.0) - clip.start_s)
        for clip in clips
    ]


def _span(clip: Clip) -> tuple[str, float, float]:
    return clip.video_uri, clip.start_s, float(clip.end_s or 0.0)


def _overlap(clip: Clip, other: Clip) -> float:
    """Seconds."""
    end_s = min(float(clip.end_s or 0.0), float(other.end_s or 0.0))
    return max(end_s - max(clip.start_s, other.start_s), 0.0)


def _iou(clip: Clip, other: Clip) -> float:
    if clip.video_uri != other.video_uri:
        return 0.0
    spans = (np.array([_span(c)[1:]]) for c in (clip, other))
    return float(temporal_iou(*spans)[0, 0])
