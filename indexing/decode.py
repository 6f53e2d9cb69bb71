"""The decode stage of an archive: fetched videos from the cache, canaries among the clips, and how fast one worker can be."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

from encoders.canaries import draw_canaries
from encoders.media import DecodeError
from encoders.sampling import SamplingConfig
from encoders.stage_vectors import VectorStage
from encoders.stages import DecodeStage, clip_rows_of
from indexing.canary_rows import canary_number
from indexing.fetch import FetchCache, FetchOptions, stamp_of_row
from indexing.sources import is_remote

_PROBE_SPANS = 4
_PLAN_COLUMNS = ("fetch_uri", "size_bytes", "version", "canaries")


class ArchiveDecodeStage(DecodeStage):
    """DecodeStage for rows of `make_shards` and `add_canaries`.

    Adds `decode_ceiling_per_s`: clips per second of this worker with a core (or its GPU) to itself, measured in the first
    moments of its life, 0 = not known.
    """

    def __init__(self, *, sampling: SamplingConfig, fetch: FetchOptions, **others: Any) -> None:
        super().__init__(sampling=sampling, **others)
        self._canary_frames = draw_canaries(sampling)
        self._fetch = fetch
        self._cache: FetchCache | None = None
        self._ceiling_per_s: float | None = None

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        plain = {name: value for name, value in row.items() if name not in _PLAN_COLUMNS}
        plain = {"fetch_busy_s": 0.0, "fetch_bytes": 0} | plain
        plain["fetch_busy_s"] = plain["fetch_busy_s"] / max(len(row["clip_ids"]), 1)
        plain["fetch_bytes"] = plain["fetch_bytes"] / max(len(row["clip_ids"]), 1)
        for clip in self._with_canaries(row, plain):
            yield clip | {"decode_ceiling_per_s": self._ceiling_per_s or 0.0}

    def _with_canaries(
        self, row: dict[str, Any], plain: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        clips = self._decoded(row, plain)
        first = next(clips, None)  # canaries travel in the middle of a block
        canaries = (self._canary_row(clip_id, plain) for clip_id in row["canaries"])
        yield from chain([first] if first is not None else [], canaries, clips)

    def _decoded(self, row: dict[str, Any], plain: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not is_remote(row["video_uri"]):
            self._measure(plain)
            yield from super().__call__(plain)
            return
        self._cache = self._cache or FetchCache(self._fetch)
        try:
            with self._cache.local_copy(
                row["fetch_uri"], row["content_hash"], stamp_of_row(row)
            ) as path:
                local = plain | {"video_uri": str(path)}
                self._measure(local)
                for clip in super().__call__(local):
                    yield clip | {"video_uri": row["video_uri"]}
        except DecodeError as error:  # of the fetch: those of decoding are rows already
            yield from self.dead_rows(plain, error, stage="fetch")

    def _measure(self, row: dict[str, Any]) -> None:
        """Once: a few clips of the first video, decoded twice, the second time by a child that is warm."""
        if self._ceiling_per_s is not None:
            return
        self._ceiling_per_s = 0.0
        few = row | {name: row[name][:_PROBE_SPANS] for name in ("clip_ids", "starts_s", "ends_s")}
        rows: list[dict[str, Any]] = []
        seconds = 0.0
        for _ in range(2):
            started = self.busy_clock_s()
            rows = list(super().__call__(few))
            seconds = self.busy_clock_s() - started
            if any(one["dead_reason"] for one in rows):
                return
            if seconds > 2.0:
                break
        self._ceiling_per_s = len(rows) / seconds if seconds else 0.0

    def _canary_row(self, clip_id: str, plain: dict[str, Any]) -> dict[str, Any]:
        return _canary_clip(clip_id, plain) | {
            "frames": self._canary_frames[canary_number(clip_id)].tobytes(),
            "decode_backend": "drawn",
            "decode_fallback_reason": "",
            "decode_busy_s": 0.0,
            "frames_decoded": 0,
            "frames_used": 0,
            "dead_stage": "",
            "dead_reason": "",
            "dead_detail": "",
        }


class ArchiveVectorStage(ArchiveDecodeStage, VectorStage):
    """ArchiveDecodeStage and the embed stage in one, where both use one device; canaries share a batch with the clips."""

    def _with_canaries(
        self, row: dict[str, Any], plain: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        self.ride(
            [(canary_number(clip_id), _canary_clip(clip_id, plain)) for clip_id in row["canaries"]]
        )
        yield from self._decoded(row, plain)
        if self._riders:  # their video never came
            yield from self._clips("", [])

    def _measure(self, row: dict[str, Any]) -> None:
        riders, self._riders = self._riders, []
        super()._measure(row)
        self.ride(riders)


def _canary_clip(clip_id: str, plain: dict[str, Any]) -> dict[str, Any]:
    """A canary as a clip of this video, nothing decoded yet."""
    (clip,) = clip_rows_of(plain | {"clip_ids": [clip_id], "starts_s": [0.0], "ends_s": [math.nan]})
    return clip
