"""The decode stage of an archive: fetched videos from the cache, and how fast one worker can be."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from typing import Any

from encoders.media.container import path_of
from encoders.media.errors import DecodeError, DecodeSetupError
from encoders.media.sampling import SamplingConfig
from encoders.stages.base import ClipStage, clip_rows_of, error_of
from encoders.stages.decode_embed_stage import VectorStage
from encoders.stages.decode_stage import DecodeStage
from indexing.sources.content import hash_file
from indexing.sources.fetch_cache import FetchCache, FetchOptions, stamp_of_row
from indexing.sources.uris import is_remote

_PROBE_SPANS = 4
_PLAN_COLUMNS = ("fetch_uri", "size_bytes", "mtime_ns", "planned_on", "version")


class _ArchiveStage(ClipStage):
    """For rows of `make_shards`.

    Adds `decode_ceiling_per_s`: clips per second of this worker with a core (or its GPU) to itself, measured in the first
    moments of its life, 0 = not known.
    """

    def __init__(self, *, sampling: SamplingConfig, fetch: FetchOptions, **others: Any) -> None:
        super().__init__(sampling=sampling, **others)
        self._fetch = fetch
        self._cache: FetchCache | None = None
        self._ceiling_per_s: float | None = None

    def _open(self, row: dict[str, Any], opened: ExitStack) -> str:
        """Where the video lies on this machine while `opened` is; DecodeError where it cannot be had as it was planned."""
        if not is_remote(row["video_uri"]):
            _require_planned(row)
            return row["video_uri"]
        self._cache = self._cache or FetchCache(self._fetch)
        copy = self._cache.local_copy(row["fetch_uri"], row["content_hash"], stamp_of_row(row))
        return str(opened.enter_context(copy))

    def _measure(self, video: str, clip_rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Once: a few clips of the first video, decoded twice, the second time by a child that is warm.

        Gives back what waited for its batch before: the probe takes all that comes to be its own.
        """
        if self._ceiling_per_s is not None:
            return
        yield from self.flush()
        self._ceiling_per_s = 0.0
        rows: list[dict[str, Any]] = []
        seconds = 0.0
        for _ in range(2):
            started = self.busy_clock_s()
            rows = [*self.clips(video, clip_rows[:_PROBE_SPANS]), *self.flush()]
            seconds = self.busy_clock_s() - started
            if any(error_of(clip["error"]) for clip in rows):
                return
            if seconds > 2.0:
                break
        self._ceiling_per_s = len(rows) / seconds if seconds else 0.0

    def _with_ceiling(self, clips: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for clip in clips:
            yield clip | {"decode_ceiling_per_s": self._ceiling_per_s or 0.0}


class ArchiveDecodeStage(_ArchiveStage, DecodeStage):
    """DecodeStage for rows of `make_shards`; adds `decode_ceiling_per_s`, see above."""

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        clip_rows = _clip_rows(row)
        with ExitStack() as opened:
            yield from self._with_ceiling(self._clips_of_row(row, clip_rows, opened))

    def _clips_of_row(
        self, row: dict[str, Any], clip_rows: Sequence[dict[str, Any]], opened: ExitStack
    ) -> Iterator[dict[str, Any]]:
        try:
            video = self._open(row, opened)
        except DecodeError as error:
            yield from self.failed_rows(clip_rows, error, stage="fetch")
            return
        yield from self._measure(video, clip_rows)
        yield from self.clips(video, clip_rows)


class ArchiveVectorStage(_ArchiveStage, VectorStage):
    """The decode and the embed stage in one, where both use one device, for rows of several videos at once.

    Their clips share batches.
    """

    def __call__(self, videos: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in videos:
            yield from self._with_ceiling(self._rows_ready(row))
        yield from self._with_ceiling(self.flush())

    def _rows_ready(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        clip_rows = _clip_rows(row)
        with ExitStack() as opened:
            try:
                video = self._open(row, opened)
            except DecodeError as error:
                yield from self.failed_rows(clip_rows, error, stage="fetch")
                return
            yield from self._measure(video, clip_rows)
            again = partial(self._open, row)
            yield from self.clips(video, clip_rows, opened=opened.pop_all(), open_again=again)


def _require_planned(row: dict[str, Any]) -> None:
    """The local file that was hashed: DecodeError for one that changed, DecodeSetupError on a machine that does not have it."""
    video, here = row["video_uri"], socket.gethostname()
    try:
        status = path_of(video).stat()
        is_planned = status.st_size == row["size_bytes"]
    except OSError:
        status, is_planned = None, False
    if here != row["planned_on"] and not is_planned:
        on_this_machine = f"has {status.st_size}" if status else "has no such file"
        raise DecodeSetupError(
            f"{video} has {row['size_bytes']} bytes on {row['planned_on']}, which plans this run, and {here} {on_this_machine}; give videos "
            "that every node reaches under the same path, or URIs of object storage"
        )
    if status is None:
        raise DecodeError("fetch_failed", f"{video} went away since it was planned")
    # Copies on other machines may have times of their own: what tells a changed file of the same size is its content.
    is_touched = status.st_mtime_ns != row["mtime_ns"]
    if not is_planned or (
        is_touched and _hash_once(video, status.st_mtime_ns) != row["content_hash"]
    ):
        raise DecodeError("fetch_failed", f"{video} changed since it was planned; index again")


@lru_cache(maxsize=1024)
def _hash_once(video: str, mtime_ns: int) -> str:
    return hash_file(path_of(video))


def _clip_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A shard's row as one row per clip, each with its own labels."""
    clip_rows = clip_rows_of(_without_plan(row))
    for clip_row, labels in zip(clip_rows, row["labels"], strict=True):
        clip_row["labels"] = labels
    return clip_rows


def _without_plan(row: dict[str, Any]) -> dict[str, Any]:
    """What every clip's row repeats of its video's; the cost of fetching is shared by the clips."""
    plain = {name: value for name, value in row.items() if name not in _PLAN_COLUMNS}
    num_clips = max(len(row["clip_ids"]), 1)
    for name in ("fetch_busy_s", "fetch_bytes"):
        plain[name] = row.get(name, 0.0) / num_clips
    plain["fetch_ceiling_bytes_per_s"] = row.get("fetch_ceiling_bytes_per_s", 0.0)
    return plain
