"""The frame index of a video: presentation times to frame numbers, and where decoding must start for each.

A frame number counts shown frames in display order from 0; a position counts packets in decoding order. Letters: F shown frames,
P packets, T frames per clip.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import BinaryIO, NamedTuple

import numpy as np

from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.sampling import sample_positions

# pts, dts, is keyframe, is shown
PacketRow = tuple[int, int, bool, bool]
# Packets; fewer are decoded in the time of a seek, which empties the decoder too.
_MIN_FRAMES_TO_SEEK = 16
# Seconds, and usual steps from frame to frame, by which a cut-off file's times may not jump: behind it they are no times.
_JUMP_S, _JUMP_STEPS = 10.0, 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """[start, end) in seconds after the presentation time of the video's first frame; None = to the end."""

    start_s: float
    end_s: float | None

    def __post_init__(self) -> None:
        if not self.start_s >= 0 or not (self.end_s is None or self.end_s > self.start_s):
            raise ValueError(
                f"span is [{self.start_s}, {self.end_s}); it must start at 0 or later and end after its start"
            )


@dataclass(frozen=True, kw_only=True)
class FrameIndex:
    """All packets of the video stream, read without decoding."""

    pts_P: np.ndarray
    dts_P: np.ndarray
    is_keyframe_P: np.ndarray
    is_shown_P: np.ndarray
    """False for packets that only prepare others: before an edit list's start, or hidden by the codec."""
    time_base: Fraction
    codec: str
    width: int
    height: int
    is_truncated: bool

    @cached_property
    def shown_positions(self) -> np.ndarray:
        """Position of each shown frame, in display order."""
        shown = np.flatnonzero(self.is_shown_P)
        return shown[np.argsort(self.pts_P[shown], kind="stable")]

    @cached_property
    def shown_pts(self) -> np.ndarray:
        return self.pts_P[self.shown_positions]

    @cached_property
    def number_of_pts(self) -> dict[int | None, int]:  # a frame without a time has no number
        return {int(pts): number for number, pts in enumerate(self.shown_pts)}

    @cached_property
    def position_of_pts(self) -> dict[int, int]:
        return {int(pts): position for position, pts in reversed(list(enumerate(self.pts_P)))}

    @cached_property
    def _keyframe_positions(self) -> np.ndarray:
        return np.flatnonzero(self.is_keyframe_P)

    @cached_property
    def shown_times_s(self) -> np.ndarray:
        """Seconds after the first shown frame."""
        # As floats: the difference of hostile 64-bit times may not fit into 64 bits.
        pts = self.shown_pts.astype(np.float64)
        return (pts - pts[0]) * float(self.time_base)

    @cached_property
    def sound_end(self) -> tuple[float, float]:
        """Of a cut-off file: when the last frame is shown before the times jump, and the mean step to it, in seconds.

        A last packet that was cut may name any time, and would make spans seem whole whose frames are gone.
        """
        times_s = self.shown_times_s
        steps_s = np.diff(times_s)
        if not len(steps_s):
            return 0.0, 0.0
        jumps = np.flatnonzero(steps_s > max(_JUMP_S, _JUMP_STEPS * float(np.median(steps_s))))
        last = int(jumps[0]) if len(jumps) else len(steps_s)
        return float(times_s[last]), float(times_s[last]) / max(last, 1)

    @property
    def num_packets(self) -> int:
        return len(self.pts_P)

    @property
    def num_frames(self) -> int:
        return len(self.shown_positions)

    @cached_property
    def _start_positions(self) -> list[int]:
        """By frame number."""
        keys = self._keyframe_positions
        if not len(keys):
            return [0] * self.num_frames
        # How many keyframes lie before each frame in the file; 0 counts as the first one below.
        last = np.searchsorted(keys, self.shown_positions, side="right") - 1
        late = np.flatnonzero(last >= 0)
        while len(late := late[self.pts_P[keys[last[late]]] > self.shown_pts[late]]):
            last[late] -= 1
            late = late[last[late] >= 0]
        return np.where(last >= 0, keys[last], 0).tolist()

    @cached_property
    def _next_keyframes(self) -> list[int]:
        """The first keyframe after each position; `num_packets` = none. The last entry is that of position -1."""
        keys = np.append(self._keyframe_positions, self.num_packets)
        positions = np.append(np.arange(self.num_packets), -1)
        return keys[np.searchsorted(keys[:-1], positions, side="right")].tolist()

    def start_position(self, number: int) -> int:
        """Where decoding must start for this frame: the last keyframe both before it in the file and not shown after it.

        A frame shown before the keyframe that precedes it in the file (open GOP) needs the keyframe before that one.
        """
        return self._start_positions[number]

    def num_packets_for(self, numbers: Sequence[int]) -> int:
        """Packets between the wanted frames and where decoding must start for them."""
        ends: dict[int, int] = {}
        for number in numbers:
            start, end = self.start_position(number), int(self.shown_positions[number]) + 1
            ends[start] = max(ends.get(start, 0), end)
        return sum(end - start for start, end in ends.items())

    def should_seek(self, position: int, start: int) -> bool:
        """Whether seeking to `start` saves work: a keyframe before it, or the long rest of a group of pictures."""
        if position >= self.num_packets:
            return False
        keyframe = self._next_keyframes[position]
        return keyframe < start or (keyframe == start and start - position > _MIN_FRAMES_TO_SEEK)


def index_of_packets(
    rows: Sequence[PacketRow],
    *,
    time_base: Fraction,
    codec: str,
    size: tuple[int, int],
    is_truncated: bool,
) -> FrameIndex:
    """The index of packets in decoding order; size is (width, height)."""
    pts, dts, is_keyframe, is_shown = zip(*rows, strict=True) if rows else ((),) * 4
    return FrameIndex(
        pts_P=np.array(pts, np.int64),
        dts_P=np.array(dts, np.int64),
        is_keyframe_P=np.array(is_keyframe, bool),
        is_shown_P=np.array(is_shown, bool),
        time_base=time_base,
        codec=codec,
        width=size[0],
        height=size[1],
        is_truncated=is_truncated,
    )


def frames_in_span(index: FrameIndex, span: Span) -> range:
    """Numbers of the frames in the span.

    Containers round presentation times to their time base (Matroska: 1 ms), so both bounds are read half a tick early, at most
    half a millisecond: frame i of a 30 fps WebM belongs to a span that starts at i / 30.
    """
    slack_s = min(float(index.time_base) / 2, 0.0005)
    first = int(np.searchsorted(index.shown_times_s, span.start_s - slack_s, side="left"))
    if span.end_s is None:
        return range(first, index.num_frames)
    return range(
        first, int(np.searchsorted(index.shown_times_s, span.end_s - slack_s, side="left"))
    )


def plan_span(
    index: FrameIndex,
    span: Span,
    num_frames: int,
    limits: MediaLimits,
    rng: np.random.Generator | None,
) -> np.ndarray:
    """Frame numbers [T] of one span; DecodeError if the video does not have them."""
    frames = frames_in_span(index, span)
    if index.is_truncated:
        last_s, frame_s = index.sound_end
        if span.end_s is None or span.end_s > last_s + 1.5 * frame_s:
            raise DecodeError(
                "corrupt_container",
                f"the file is cut off after {last_s + frame_s:.3f} s, the span ends at {span.end_s}",
            )
    if not frames:
        last_s = float(index.shown_times_s[-1])
        frame_s = last_s / max(index.num_frames - 1, 1)
        raise DecodeError(
            "span_outside_video",
            f"no frame in [{span.start_s}, {span.end_s}); {index.num_frames} frames end at {last_s + frame_s:.3f} s",
        )
    limits.check(max_duration_s=index.shown_times_s[frames[-1]])
    if len(frames) < limits.min_frames_per_clip:
        raise DecodeError(
            "too_short",
            f"{len(frames)} frame(s) in the span; a clip needs at least {limits.min_frames_per_clip}",
        )
    return frames.start + sample_positions(len(frames), num_frames, rng=rng)


def plan_spans(
    index: FrameIndex,
    spans: Sequence[Span],
    num_frames: int,
    limits: MediaLimits,
    rng: np.random.Generator | None,
) -> list[np.ndarray | DecodeError]:
    """For each span its frame numbers [T], or why it has none."""
    plans: list[np.ndarray | DecodeError] = []
    for span in spans:
        try:
            plans.append(plan_span(index, span, num_frames, limits, rng))
        except DecodeError as error:
            plans.append(error)
    return plans


class VideoIndex(NamedTuple):
    """What reading all packets of a video tells."""

    frames: FrameIndex
    has_false_keyframes: bool
    """See `keyframes.is_clean_start`."""


class _Read(NamedTuple):
    """A file as long as it does not change, and the limits that its index was held against."""

    device: int
    inode: int
    num_bytes: int
    mtime_ns: int
    limits: MediaLimits


_last: dict[_Read, VideoIndex] = {}


def index_of_file(
    file: BinaryIO, limits: MediaLimits, read: Callable[[], VideoIndex]
) -> VideoIndex:
    """The index of an open file, by `read` unless it was the last one and has not changed.

    One that ended early is not kept: a read error may pass.
    """
    status = os.fstat(file.fileno())
    key = _Read(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, limits)
    found = _last.get(key)
    if found is None:
        found = read()
        _last.clear()
        if not found.frames.is_truncated:
            _last[key] = found
    return found


def forget_index() -> None:
    """Read it again next time, as for another video."""
    _last.clear()
