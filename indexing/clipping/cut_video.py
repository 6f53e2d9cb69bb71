"""Cuts an unlabelled video into windows of one length, into its shots, or finds its moments."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from queue import SimpleQueue
from typing import Literal

import numpy as np

from encoders.decoding.isolated import IsolatedTimeline
from encoders.decoding.request import TimelineBlock, TimelineRequest
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from indexing.clipping.moments import Cut, MomentFinder, Seconds, cut_of_moments
from indexing.clipping.shots import ShotSettings, find_cuts
from indexing.sources.content import Content, FileStamp
from indexing.sources.fetch_cache import FetchCache, FetchOptions
from indexing.sources.remote import RemoteStamp
from indexing.sources.uris import is_remote

_FRAME_SIZE = 64
_FRAMES_PER_BLOCK = 256
# Videos that were cut by another rule are cut again.
_RULE_OF_WINDOWS = 2
_ROUNDING_S = 1e-3
_LEAST_S = 0.01
"""No window is shorter than a frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CutSettings:
    """Where to cut."""

    by: Literal["windows", "shots", "moments"] = "windows"
    """windows: of one length, every so many seconds; shots: from one cut of the broadcast to the next; moments: where something
    happens, as the moment head of --bundle sees it, dead time left out."""
    length_s: float = 4.0
    """Seconds of a window; the last one takes what is left of the video, and is between half and one and a half as long. A longer
    shot is cut into equal clips of at most this length."""
    every_s: float | None = None
    """From the start of a window to that of the next; None = the length, so that windows do not overlap."""
    shots: ShotSettings = field(default_factory=ShotSettings)

    def __post_init__(self) -> None:
        for name in ("length_s", "every_s"):
            value = getattr(self, name)
            if value is not None and not value >= _LEAST_S:
                raise ValueError(f"{name} is {value}; it must be at least {_LEAST_S} seconds")
        if self.every_s is not None and self.every_s > self.length_s:
            raise ValueError(
                f"every_s is {self.every_s} and length_s {self.length_s}: windows must not leave gaps (every_s <= length_s)"
            )

    @property
    def key(self) -> str:
        """Changes with everything that decides where a video is cut."""
        settings = asdict(self) | {"windows": _RULE_OF_WINDOWS}
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def windows(end_s: float, *, length_s: float, every_s: float) -> list[Seconds]:
    """Of a video of so many seconds. What the last whole window leaves is a window of its own, or joins that one where it is short."""
    if end_s <= length_s:
        return [(0.0, end_s)]
    count = int((end_s - length_s) / every_s + 1e-9) + 1
    whole = [(k * every_s, k * every_s + length_s) for k in range(count)]
    last_start_s, last_end_s = whole[-1]
    if end_s - last_end_s <= _ROUNDING_S:
        return whole
    is_worth_its_own = min(end_s - count * every_s, (end_s - last_end_s) * length_s / every_s)
    if is_worth_its_own >= length_s / 2 - _ROUNDING_S:
        return [*whole, (count * every_s, end_s)]
    return [*whole[:-1], (last_start_s, end_s)]


def pieces(cuts_s: Sequence[float], end_s: float, *, length_s: float) -> list[Seconds]:
    """Shots from cut to cut, those that are too long in equal parts."""
    bounds = [0.0, *cuts_s, end_s]
    windows: list[Seconds] = []
    for start, stop in pairwise(bounds):
        count = max(1, -int(-(stop - start) // length_s))
        step = (stop - start) / count
        windows += [(start + k * step, start + (k + 1) * step) for k in range(count)]
    return windows


class Cutter:
    """Videos to spans, each in a killable child; threads may share it.

    `fetch_uris` are the URIs that open remote videos, by public URI, where they have more than that.
    """

    def __init__(  # noqa: PLR0913 - what a run of `tfcovr split` decides
        self,
        settings: CutSettings,
        *,
        finder: MomentFinder | None = None,
        num_workers: int,
        deadline_s: float,
        fetch_uris: Mapping[str, str],
        has_remote: bool,
        fetch: FetchOptions,
        limits: MediaLimits | None = None,
    ) -> None:
        self._settings, self._fetch_uris, self._finder = settings, fetch_uris, finder
        self._limits = limits or MediaLimits()
        self._cache = FetchCache(fetch) if has_remote else None
        self._decoders = [IsolatedTimeline(deadline_s=deadline_s) for _ in range(num_workers)]
        self._idle: SimpleQueue[IsolatedTimeline] = SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)

    def __enter__(self) -> "Cutter":
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in self._decoders:
            decoder.close()

    def cut(self, uri: str, content: Content) -> tuple[Cut, str]:
        """(spans, "") or (none, what is wrong with the video)."""
        if content.problem:
            return Cut(spans=[]), f"fetch_failed: {content.problem}"
        try:
            with self._local(uri, content) as path:
                return self._cut(path), ""
        except DecodeError as error:
            return Cut(spans=[]), str(error)

    @contextmanager
    def _local(self, uri: str, content: Content) -> Iterator[str]:
        if self._cache is None or not is_remote(uri):
            yield uri
            return
        stamp = content.stamp or FileStamp(size_bytes=0, mtime_ns=0)
        remote = RemoteStamp(size_bytes=stamp.size_bytes, version=stamp.version)
        full = self._fetch_uris.get(uri, uri)
        with self._cache.local_copy(full, content.content_hash, remote) as path:
            yield str(path)

    def _cut(self, path: str) -> Cut:
        settings, finder = self._settings, self._finder
        by_shots = settings.by == "shots"
        if finder is not None:
            request = finder.request(path, self._limits)
        else:
            request = TimelineRequest(
                video=path,
                reads_frames=by_shots,
                frames_per_block=_FRAMES_PER_BLOCK,
                frame_size=_FRAME_SIZE,
                resize="swscale_area",
                limits=self._limits,
            )
        decoder = self._idle.get()
        try:
            # Closed before another thread takes the decoder: closing it amid a reply ends its process.
            with closing(decoder.iter_blocks(request)) as blocks:
                end_s = float(next(blocks).times_s[-1])
                if not end_s:
                    raise DecodeError("too_short", "it has one frame")
                if finder is not None:
                    return cut_of_moments(finder.find(blocks), end_s)
                if by_shots:
                    cuts_s = find_cuts(_shown(blocks), settings.shots)
                    return Cut(spans=pieces(cuts_s, end_s, length_s=settings.length_s))
                list(blocks)  # the child is in step again when it has said its last word
                every_s = settings.every_s or settings.length_s
                return Cut(spans=windows(end_s, length_s=settings.length_s, every_s=every_s))
        finally:
            self._idle.put(decoder)


def _shown(blocks: Iterable[TimelineBlock]) -> Iterator[tuple[float, np.ndarray]]:
    """(second, frame) of blocks with frames."""
    for block in blocks:
        if block.frames_THWC is not None:
            for time_s, frame_HWC in zip(block.times_s[:-1], block.frames_THWC, strict=True):
                yield float(time_s), frame_HWC
