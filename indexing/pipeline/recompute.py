"""Recomputes the vectors of sampled clips with fresh workers and compares them with those that Milvus holds.

This catches vectors that were stored under another clip's name, or that changed afterwards, in the archive's own rows.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cluster.dataflow import stream_dataflow
from encoders.stages.base import ClipError, error_of
from indexing.ledger.planned_clip import PlannedClip
from indexing.pipeline.shards import make_shards, work_of
from indexing.pipeline.stages import VectorOptions, vector_stages
from indexing.pipeline.workers import Workers
from indexing.store.collection import ClipCollection

MIN_COSINE = 0.999
"""Between two computations of one clip; reduced precision and other batches stay above."""
_FEWEST, _MOST, _ONE_IN = 16, 256, 1000
# More workers than that cost more to start than they save.
_CLIPS_PER_WORKER = 64
_NUM_NAMED = 20


class VectorMismatchError(ValueError):
    """Milvus holds a vector that is not that of its clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recomputed:
    """How stored vectors compare with vectors of the same clips computed again."""

    num_compared: int
    min_cosine: float | None
    """None = nothing could be compared."""
    wrong: Mapping[str, float]
    """Clip id -> cosine, where it is below MIN_COSINE."""
    failed: Mapping[str, ClipError]
    """Clips that could not be computed again."""
    unsteady: Mapping[str, float] = field(default_factory=dict)
    """As `wrong`, of damaged files: their frames depend on where decoding starts, and with the clips beside them they came out as stored."""

    def line(self) -> str:
        """For people."""
        if self.wrong:
            return mismatch_text(self.wrong)
        line = f"recomputed {self.num_compared} clips"
        if self.min_cosine is not None:
            line += f": lowest cosine with their stored vectors {self.min_cosine:.6f}"
        if self.unsteady:
            line += f"; {len(self.unsteady)} of damaged files, which decode otherwise alone ({min(self.unsteady)})"
        if self.failed:
            clip_id, error = next(iter(self.failed.items()))
            line += f"; {len(self.failed)} could not be computed again ({clip_id}: {error.reason}: {error.detail})"
        return line


def sample_size(num_clips: int) -> int:
    """Clips that are recomputed by default: 16 or one in a thousand, whichever is more, at most 256."""
    return min(num_clips, max(_FEWEST, min(num_clips // _ONE_IN, _MOST)))


def recompute_clips(
    clips: Sequence[PlannedClip],
    collection: ClipCollection,
    options: VectorOptions,
    workers: Workers,
    *,
    fetch_uris: Mapping[str, str],
    beside: Callable[[Collection[str]], Sequence[PlannedClip]],
) -> Recomputed:
    """Needs a connected Ray. A clip without a row is left out: comparing keys finds it. `beside` gives the clips of some videos.

    A clip that differs is decoded once more with all clips of its video, as it was at first: the frames of a damaged file can depend
    on where decoding starts, and are no fault of the rows.
    """
    stored = {
        row["clip_id"]: np.asarray(row["embedding"], np.float32)
        for row in collection.rows_of_keys([planned_clip.clip_key for planned_clip in clips])
    }
    clips = [planned_clip for planned_clip in clips if planned_clip.clip.clip_id in stored]
    vectors, failed = _compute(clips, options, workers, fetch_uris)
    cosines = {clip_id: _cosine(vector_D, stored[clip_id]) for clip_id, vector_D in vectors.items()}
    differ = {clip_id: cosine for clip_id, cosine in cosines.items() if not cosine >= MIN_COSINE}
    videos = {c.clip.video_uri for c in clips if c.clip.clip_id in differ}
    together, _ = _compute(beside(videos) if videos else [], options, workers, fetch_uris)
    unsteady = {
        clip_id: cosine
        for clip_id, cosine in differ.items()
        if clip_id in together and _cosine(together[clip_id], stored[clip_id]) >= MIN_COSINE
    }
    return Recomputed(
        num_compared=len(cosines),
        min_cosine=min((c for i, c in cosines.items() if i not in unsteady), default=None),
        wrong={clip_id: cosine for clip_id, cosine in differ.items() if clip_id not in unsteady},
        failed=failed,
        unsteady=unsteady,
    )


def _compute(
    clips: Sequence[PlannedClip],
    options: VectorOptions,
    workers: Workers,
    fetch_uris: Mapping[str, str],
) -> tuple[dict[str, np.ndarray], dict[str, ClipError]]:
    """Vectors and errors by clip id, by few workers."""
    vectors: dict[str, np.ndarray] = {}
    failed: dict[str, ClipError] = {}
    if not clips:
        return vectors, failed
    num_workers = -(-len(clips) // _CLIPS_PER_WORKER)
    few = replace(
        workers,
        num_decode=min(workers.num_decode, num_workers),
        num_embed=min(workers.num_embed, num_workers),
    )
    shards = make_shards(clips, fetch_uris, num_workers=few.num_decode)
    for batch in stream_dataflow(shards, vector_stages(options, few, work_of(shards))):
        for clip_id, error, vector_D in zip(
            map(str, batch["clip_id"]), map(error_of, batch["error"]), batch["embedding"], strict=True
        ):  # fmt: skip
            if error is None:
                vectors[clip_id] = vector_D
            else:
                failed[clip_id] = error
    return vectors, failed


def mismatch_text(wrong: Mapping[str, float]) -> str:
    """Names the clips."""
    named = [f"{clip_id} ({cosine:.4f})" for clip_id, cosine in sorted(wrong.items())]
    more = f" and {len(named) - _NUM_NAMED} more" if len(named) > _NUM_NAMED else ""
    return (
        f"{len(named)} stored vectors are not those of their clips (cosine with the clip computed again, at least {MIN_COSINE} is "
        f"needed): {', '.join(named[:_NUM_NAMED])}{more}"
    )


def _cosine(vector_D: np.ndarray, other_D: np.ndarray) -> float:
    length = float(np.linalg.norm(vector_D) * np.linalg.norm(other_D))
    return float(vector_D @ other_D) / length if length else 0.0
