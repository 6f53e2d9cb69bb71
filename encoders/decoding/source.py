"""What an editing program needs to know of a video: its exact frame rate, its first timecode, its reel; read in a killable child.

`VideoClock` turns the times that people write into seconds of a video, labels of frames among them, and knows its last frame.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from encoders.decoding.sandbox.process import Sandbox
from encoders.media.container import LIMITS_OF_AN_ARCHIVE, local_path
from encoders.media.errors import DecodeError
from encoders.media.timecode import TIMECODE_PATTERN, frame_of, parse_seconds

_DEADLINE_S = 120.0
_NAMED_RATES = (24, 25, 30, 48, 50, 60, 100, 120)
_NTSC_RATES = (24, 30, 48, 60, 120)


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRequest:
    """A video on this machine."""

    video: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTimes:
    """The times of a video's frames, and what its header says of timecode and reel."""

    times_s: np.ndarray
    """When each frame is shown, in seconds after the first [F], float64."""
    tick_s: float
    """Times are whole numbers of this."""
    width: int
    height: int
    timecode: str
    """Of the first frame; "" where the file has none."""
    reel: str
    """Name of the tape or card; "" where the file does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A video as an editing program sees it."""

    path: Path
    times: SourceTimes
    rate: Fraction | None
    """Frames per second, exact; None = variable."""


class SourceCodec:
    """SourceRequest and SourceTimes over the pipe of a sandbox; the payload is the times."""

    setup_errors: tuple[type[Exception], ...] = ()

    def request_to_dict(self, request: SourceRequest) -> dict[str, Any]:
        return asdict(request)

    def request_from_dict(self, values: dict[str, Any]) -> SourceRequest:
        return SourceRequest(**values)

    def reply_to_message(self, reply: SourceTimes) -> tuple[dict[str, Any], memoryview | bytes]:
        header = {name: getattr(reply, name) for name in SourceTimes.__slots__ if name != "times_s"}
        return header, reply.times_s.astype(np.float64).tobytes()

    def reply_from_message(self, values: dict[str, Any], payload: bytearray) -> SourceTimes:
        return SourceTimes(times_s=np.frombuffer(payload, np.float64), **values)


def read_sources(paths: list[Path]) -> dict[Path, Source]:
    """Each video once. DecodeError, with the path, where one cannot be read."""
    with _sandbox() as sandbox:
        return {path: _read_source(sandbox, path) for path in dict.fromkeys(paths)}


def _sandbox() -> Sandbox[SourceRequest, SourceTimes]:
    return Sandbox(f"{__name__}:iter_source_times", SourceCodec(), deadline_s=_DEADLINE_S)


def _read_source(sandbox: Sandbox[SourceRequest, SourceTimes], path: Path) -> Source:
    try:
        (times,) = sandbox.iter_replies(SourceRequest(video=str(path)))
    except DecodeError as error:
        raise DecodeError(error.reason, f"{path}: {error.detail}") from error
    return Source(path=path, times=times, rate=constant_rate(times))


def iter_source_times(request: SourceRequest) -> Iterator[SourceTimes]:
    """One reply; runs in the child."""
    from encoders.decoding.pyav_video import PyavVideo  # av only in the child

    with closing(PyavVideo(local_path(request.video), LIMITS_OF_AN_ARCHIVE)) as video:
        index, texts = video.index, video.header_texts
    yield SourceTimes(
        times_s=np.asarray(index.shown_times_s, np.float64),
        tick_s=float(index.time_base),
        width=index.width,
        height=index.height,
        timecode=texts.get("timecode", ""),
        reel=texts.get("reel_name", ""),
    )


def constant_rate(times: SourceTimes) -> Fraction | None:
    """The rate at which every frame has its time, to within what the container rounds; None where there is none."""
    times_s = times.times_s
    if len(times_s) < 2 or times_s[-1] <= 0:
        return None
    mean = (len(times_s) - 1) / times_s[-1]
    named = [Fraction(rate) for rate in _NAMED_RATES]
    named += [Fraction(rate * 1000, 1001) for rate in _NTSC_RATES]
    named.sort(key=lambda rate: abs(float(rate) - mean))
    numbers = np.arange(len(times_s))
    for rate in (*named[:2], Fraction(mean).limit_denominator(1001)):
        # The first time may be rounded one way and another time the other way.
        allowed_s = min(max(1.01 * times.tick_s, 1e-6), 0.25 / float(rate))
        if np.abs(times_s - numbers / float(rate)).max() <= allowed_s:
            return rate
    return None


class VideoClock:
    """Seconds from times as people write them; reads each video once, and only where it has to. Its child process ends with the context."""

    def __init__(self) -> None:
        self._sandbox = _sandbox()
        self._sources: dict[Path, Source] = {}
        self._last_s: dict[str, float | DecodeError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.close()

    def last_s(self, video: str | Path) -> float | None:
        """When the last frame of a video is shown; None for a video elsewhere. DecodeError for one that cannot be read."""
        if "://" in str(video):
            return None
        if str(video) not in self._last_s:
            try:
                source = _read_source(self._sandbox, local_path(str(video)))
                self._last_s[str(video)] = float(source.times.times_s[-1])
            except DecodeError as error:
                self._last_s[str(video)] = error
        known = self._last_s[str(video)]
        if isinstance(known, DecodeError):
            raise known
        return known

    def seconds(self, text: str, video: str | Path) -> float:
        """As parse_seconds, and HH:MM:SS:FF or HH:MM:SS;FF (drop-frame): when the frame of that label is shown.

        Labels count from the video's own first timecode, as editing programs show them, or from 00:00:00:00 where it has none.
        ValueError for a label that the video cannot have, DecodeError for a video that cannot be read.
        """
        if re.fullmatch(TIMECODE_PATTERN, text.strip()) is None:
            return parse_seconds(text)
        source = self._source(local_path(str(video)))
        if source.rate is None:
            raise ValueError(
                f"timecode {text!r} needs a constant frame rate, which {source.path.name} does not have; give seconds"
            )
        first, _ = frame_of(source.times.timecode or "00:00:00:00", source.rate)
        frame, _ = frame_of(text, source.rate)
        if frame < first:
            raise ValueError(
                f"timecode {text!r} comes before {source.times.timecode}, the first one of {source.path.name}"
            )
        return float((frame - first) / source.rate)

    def _source(self, path: Path) -> Source:
        if path not in self._sources:
            self._sources[path] = _read_source(self._sandbox, path)
        return self._sources[path]
