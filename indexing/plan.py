"""Which clips an archive has, the key of each, and what is left to do: shards by video.

A key covers everything that decides a vector, so that one key never stands for two vectors.
"""

import glob
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from encoders.clips import Clip, read_clips
from indexing.content import Content

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".wmv",
        ".flv",
    }
)
_MAX_CLIPS_PER_SHARD = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedClip:
    """A clip with its key; `problem` is set when its video cannot be read at all."""

    clip: Clip
    clip_key: str
    content_hash: str
    problem: str = ""


def list_clips(source: str | Path) -> list[Clip]:
    """A clips.parquet, or a folder or glob of videos (one clip per file, named by its path)."""
    text = str(source)
    path = Path(text)
    if path.is_file() and path.suffix == ".parquet":
        return read_clips(path)
    if path.is_dir():
        base = path
        files = [one for one in path.rglob("*") if one.suffix.lower() in VIDEO_SUFFIXES]
    elif glob.has_magic(text):
        base = Path(*_parts_before_magic(path))
        files = list(base.glob(str(path.relative_to(base))))
    elif path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        base, files = path.parent, [path]
    else:
        raise ValueError(
            f"{text!r} has no clips; give a clips.parquet, a video file, a folder of videos "
            "or a glob such as 'videos/**/*.mp4'"
        )
    files = sorted(one for one in files if one.is_file())
    if not files:
        raise ValueError(f"{text!r} has no video files ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return [
        Clip(clip_id=one.relative_to(base).as_posix(), video_uri=str(one.resolve()))
        for one in files
    ]


def _parts_before_magic(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def clip_key(
    encoder_id: str, clip_id: str, content_hash: str, start_s: float, end_s: float | None
) -> str:
    """Primary key in Milvus, 32 hex digits. `end_s` None = to the end of the video."""
    end_us = "end" if end_s is None else str(round(end_s * 1_000_000))
    parts = (encoder_id, clip_id, content_hash, str(round(start_s * 1_000_000)), end_us)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def plan_clips(
    clips: Sequence[Clip], contents: Mapping[str, Content], *, encoder_id: str
) -> list[PlannedClip]:
    """Every clip with the key that it must have in the collection."""
    planned = []
    for clip in clips:
        content = contents[clip.video_uri]
        key = clip_key(encoder_id, clip.clip_id, content.content_hash, clip.start_s, clip.end_s)
        planned.append(
            PlannedClip(
                clip=clip,
                clip_key=key,
                content_hash=content.content_hash,
                problem=content.problem,
            )
        )
    return planned


def pending_clips(
    planned: Sequence[PlannedClip], finished_keys: Collection[str]
) -> list[PlannedClip]:
    """What has to be decoded: readable, and neither in the collection nor a known dead letter."""
    return [one for one in planned if not one.problem and one.clip_key not in finished_keys]


def make_shards(pending: Sequence[PlannedClip]) -> list[dict[str, Any]]:
    """Rows for DecodeStage: the clips of one video together, long videos in several shards."""
    ordered = sorted(pending, key=lambda one: (one.clip.video_uri, one.clip.start_s))
    shards = []
    for video_uri, group in groupby(ordered, key=lambda one: one.clip.video_uri):
        members = list(group)
        for first in range(0, len(members), _MAX_CLIPS_PER_SHARD):
            part = members[first : first + _MAX_CLIPS_PER_SHARD]
            shards.append(
                {
                    "video_uri": video_uri,
                    "content_hash": part[0].content_hash,
                    "clip_ids": [one.clip.clip_id for one in part],
                    "starts_s": [float(one.clip.start_s) for one in part],
                    "ends_s": [
                        float("nan") if one.clip.end_s is None else float(one.clip.end_s)
                        for one in part
                    ],
                }
            )
    return shards
