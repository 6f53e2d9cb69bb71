"""Shards: the pending clips of one video together, long videos cut for all workers; and blocks of shards on disk."""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.dataflow import Block, write_block
from encoders.stages.base import span_row
from indexing.ledger.planned_clip import PlannedClip
from indexing.sources.content import FileStamp
from indexing.sources.uris import is_remote
from indexing.store.rows import labels_of

# A long video is cut for as many workers as there are, and not finer than its decoding is worth: each cut decodes a group of
# pictures (seldom over 10 s) twice.
_SHARDS_PER_WORKER = 4
_CLIPS_PER_SHARD = (16, 256)
_LEAST_SHARD_S = 60.0
_MAX_CLIPS_PER_SHARD = 4096
# One to three minutes of a core, at five to ten clips a second.
_MAX_CLIPS_PER_BLOCK = 512
_BLOCKS_PER_WORKER = 8
_SPAN = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64())])
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("video_uri", "fetch_uri", "content_hash")),
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("planned_on", pa.string()),
        ("version", pa.string()),
        ("clip_ids", pa.list_(pa.string())),
        ("spans", pa.list_(_SPAN)),
        ("labels", pa.list_(pa.string())),
    ]
)


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
    return list(_iter_shards(ordered, fetch_uris or {}, num=len(ordered), num_workers=num_workers))


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Clips that are to be made, as blocks of shards on disk, and how many there are."""

    blocks: tuple[Block, ...]
    num_clips: int
    num_shards: int
    num_remote: int


def work_of(shards: Sequence[Mapping[str, Any]]) -> Work:
    """What these shards are, without blocks."""
    return Work(
        blocks=(),
        num_clips=sum(len(shard["clip_ids"]) for shard in shards),
        num_shards=len(shards),
        num_remote=sum(is_remote(shard["video_uri"]) for shard in shards),
    )


def write_work(
    folder: Path,
    pending: Iterable[PlannedClip],
    fetch_uris: Mapping[str, str],
    *,
    num_clips: int,
    num_workers: int,
) -> Work:
    """The shards of clips that come by video and start, in blocks of some minutes of work; smaller ones at the end.

    A worker takes a block at a time: one that goes away loses a block, and at the end all should have work.
    """
    blocks: list[Block] = []
    held: list[dict[str, Any]] = []
    num_shards = num_held = num_before = num_remote = 0
    for shard in _iter_shards(pending, fetch_uris, num=num_clips, num_workers=num_workers):
        held.append(shard)
        num_held += len(shard["clip_ids"])
        num_shards += 1
        num_remote += is_remote(shard["video_uri"])
        fair = (num_clips - num_before) // (_BLOCKS_PER_WORKER * num_workers)
        if num_held >= min(fair, _MAX_CLIPS_PER_BLOCK):
            blocks.append(_write_block(folder / f"{len(blocks):06d}.parquet", held))
            num_before += num_held
            held, num_held = [], 0
    if held:
        blocks.append(_write_block(folder / f"{len(blocks):06d}.parquet", held))
    return Work(blocks=tuple(blocks), num_clips=num_clips, num_shards=num_shards, num_remote=num_remote)  # fmt: skip


def _write_block(path: Path, shards: Sequence[dict[str, Any]]) -> Block:
    """With what opens a video in memory only, where that is more than its name."""
    public = [shard | {"fetch_uri": shard["video_uri"]} for shard in shards]
    fetch_uris = [shard["fetch_uri"] for shard in shards]
    has_secrets = any(shard["fetch_uri"] != shard["video_uri"] for shard in shards)
    return write_block(path, public, _SCHEMA, {"fetch_uri": fetch_uris} if has_secrets else {})


def _iter_shards(
    ordered: Iterable[PlannedClip], fetch_uris: Mapping[str, str], *, num: int, num_workers: int
) -> Iterator[dict[str, Any]]:
    fewest, most = _CLIPS_PER_SHARD
    num_clips = min(max(num // (_SHARDS_PER_WORKER * num_workers), fewest), most)
    # A file that changed while it was planned has clips of two contents.
    for (video_uri, _), group in groupby(
        ordered, key=lambda one: (one.clip.video_uri, one.content_hash)
    ):
        for part in _parts(list(group), num_clips):
            yield _shard(part, fetch_uris.get(video_uri, video_uri))


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
