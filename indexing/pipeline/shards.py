"""Shards: the pending clips of one video together, long videos cut for all workers."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from encoders.stages.base import span_row
from indexing.ledger.planned_clip import PlannedClip
from indexing.sources.content import FileStamp
from indexing.store.rows import labels_of

# A long video is cut for as many workers as there are, and not finer than its decoding is worth: each cut decodes a group of
# pictures (seldom over 10 s) twice.
_SHARDS_PER_WORKER = 4
_CLIPS_PER_SHARD = (16, 256)
_LEAST_SHARD_S = 60.0
_MAX_CLIPS_PER_SHARD = 4096


def make_shards(
    pending: Sequence[PlannedClip],
    fetch_uris: Mapping[str, str] | None = None,
    *,
    num_workers: int = 1,
) -> list[dict[str, Any]]:
    """Rows for DecodeStage: the clips of one video together, long videos in several shards, for so many workers.

    `fetch_uris` open remote videos; they live in memory only.
    """
    ordered = sorted(
        pending, key=lambda planned_clip: (planned_clip.clip.video_uri, planned_clip.clip.start_s)
    )
    fewest, most = _CLIPS_PER_SHARD
    num_clips = min(max(len(ordered) // (_SHARDS_PER_WORKER * num_workers), fewest), most)
    return [
        _shard(part, (fetch_uris or {}).get(video_uri, video_uri))
        for video_uri, group in groupby(
            ordered, key=lambda planned_clip: planned_clip.clip.video_uri
        )
        for part in _parts(list(group), num_clips)
    ]


def _parts(members: Sequence[PlannedClip], num_clips: int) -> Iterator[Sequence[PlannedClip]]:
    """Clips of one video by their starts, cut where a part has enough clips and enough seconds."""
    first = 0
    for i, planned_clip in enumerate(members):
        is_long = planned_clip.clip.start_s - members[first].clip.start_s >= _LEAST_SHARD_S
        if (i - first >= num_clips and is_long) or i - first >= _MAX_CLIPS_PER_SHARD:
            yield members[first:i]
            first = i
    yield members[first:]


def _shard(part: Sequence[PlannedClip], fetch_uri: str) -> dict[str, Any]:
    stamp = part[0].stamp or FileStamp(size_bytes=0, mtime_ns=0)
    return {
        "video_uri": part[0].clip.video_uri,
        "fetch_uri": fetch_uri,
        "content_hash": part[0].content_hash,
        "size_bytes": stamp.size_bytes,
        "mtime_ns": stamp.mtime_ns,
        "planned_on": socket.gethostname(),
        "version": stamp.version,
        "clip_ids": [planned_clip.clip.clip_id for planned_clip in part],
        "spans": [span_row(planned_clip.clip) for planned_clip in part],
        "labels": [labels_of(planned_clip.clip) for planned_clip in part],
    }
