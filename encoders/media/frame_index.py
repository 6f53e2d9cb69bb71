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
from encoders.media.packet_table import NO_TIME, DecodedStart, PacketTable
from encoders.media.sampling import sample_positions

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
    decoded: DecodedStart | None = None
    """Frames of the first packets as the decoder gave them, where the packets do not tell."""
    has_gaps: bool = False
    """Parts of a broadcast are lost: the decoder makes up what they showed, from whatever it decoded before."""
    places_P2: np.ndarray | None = None
    """Offset and size of each packet in the file."""

    @cached_property
    def shown_positions(self) -> np.ndarray:
        """Position of each shown frame, in display order."""
        shown = np.flatnonzero(self.is_shown_P)
        if self.decoded is None:
            return shown[np.argsort(self.pts_P[shown], kind="stable")]
        shown = shown[shown >= self.decoded.num_packets]
        shown = shown[np.argsort(self.pts_P[shown], kind="stable")]
        return np.concatenate([self.decoded.positions, shown])

    @cached_property
    def shown_pts(self) -> np.ndarray:
        """Ascending."""
        if self.decoded is None:
            return self.pts_P[self.shown_positions]
        behind = self.pts_P[self.shown_positions[len(self.decoded.positions) :]]
        return np.maximum.accumulate(np.concatenate([self.decoded.pts, behind]))

    @cached_property
    def numbers_of_position(self) -> dict[int | None, list[int]]:
        """The frames that come of each packet that shows any; nearly always one."""
        numbers: dict[int | None, list[int]] = {}
        for number, position in enumerate(self.shown_positions.tolist()):
            numbers.setdefault(position, []).append(number)
        return numbers

    @cached_property
    def _ranks(self) -> np.ndarray:
        """How many frames are shown before the picture of each packet."""
        ranks = np.searchsorted(self.shown_pts, self.pts_P, side="left")
        if self.decoded is not None:  # no frame of theirs = no place to start
            ranks[: self.decoded.num_packets] = self.num_frames
        positions, numbers = self.shown_positions[::-1], np.arange(self.num_frames)[::-1]
        ranks[positions] = numbers
        return ranks

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
    def num_decoded(self) -> int:
        """Frames at the start that the decoder was asked for; it shows them, whatever it says of them."""
        return 0 if self.decoded is None else len(self.decoded.positions)

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
        while len(late := late[self._ranks[keys[last[late]]] > late]):
            last[late] -= 1
            late = late[last[late] >= 0]
        return np.where(last >= 0, keys[last], 0).tolist()

    @cached_property
    def _next_keyframes(self) -> list[int]:
        """The first keyframe after each position; `num_packets` = none. The last entry is that of position -1."""
        keys = np.append(self._keyframe_positions, self.num_packets)
        positions = np.append(np.arange(self.num_packets), -1)
        return keys[np.searchsorted(keys[:-1], positions, side="right")].tolist()

    def position_of_place(self, offset: int | None, size: int) -> int | None:
        """The packet with these bytes of the file; None where it is none, or one of several."""
        if self.places_P2 is None or offset is None:
            return None
        positions = np.flatnonzero((self.places_P2 == (offset, size)).all(1))
        return int(positions[0]) if len(positions) == 1 else None

    def is_at(self, position: int, offset: int | None, size: int) -> bool:
        """Whether the packet at this position has these bytes of the file."""
        place = (-1 if offset is None else offset, size)
        return self.places_P2 is not None and position < self.num_packets and tuple(self.places_P2[position]) == place  # fmt: skip

    def offset_before(self, position: int) -> int:
        """Where in the file the last packet up to this one begins whose place is known; 0 = none is."""
        if self.places_P2 is None:
            return 0
        offsets = self.places_P2[: position + 1, 0]
        known = np.flatnonzero(offsets >= 0)
        return int(offsets[known[-1]]) if len(known) else 0

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
    table: PacketTable,
    *,
    time_base: Fraction,
    codec: str,
    size: tuple[int, int],
    decoded: DecodedStart | None = None,
) -> FrameIndex:
    """The index of packets in decoding order; size is (width, height)."""
    pts, dts = table.pts, table.dts
    return FrameIndex(
        pts_P=np.where(pts == NO_TIME, dts, pts),
        dts_P=np.where(dts == NO_TIME, pts, dts),
        is_keyframe_P=table.is_keyframe,
        is_shown_P=table.is_shown,
        time_base=time_base,
        codec=codec,
        width=size[0],
        height=size[1],
        is_truncated=table.is_truncated,
        decoded=decoded,
        has_gaps=table.has_gaps,
        places_P2=table.places,
    )


def frames_in_span(index: FrameIndex, span: Span) -> range:
    """Numbers of the frames in the span; see `frames_between`."""
    return frames_between(index.shown_times_s, float(index.time_base), span)


def frames_between(times_s: np.ndarray, tick_s: float, span: Span) -> range:
    """Numbers of the frames in the span, given when each is shown (ascending [F]) and of what times are whole numbers.

    Containers round presentation times to their time base (Matroska: 1 ms), so both bounds are read half a tick early, at most
    half a millisecond: frame i of a 30 fps WebM belongs to a span that starts at i / 30.
    """
    slack_s = min(tick_s / 2, 0.0005)
    first = int(np.searchsorted(times_s, span.start_s - slack_s, side="left"))
    if span.end_s is None:
        return range(first, len(times_s))
    return range(first, int(np.searchsorted(times_s, span.end_s - slack_s, side="left")))


def plan_span(
    index: FrameIndex,
    span: Span,
    num_frames: int,
    limits: MediaLimits,
    rng: np.random.Generator | None,
    max_all_frames: int = 0,
) -> np.ndarray:
    """Frame numbers [T] of one span, or all of a span that has at most `max_all_frames`; DecodeError if the video does not have them."""
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
            f"{len(frames)} frame(s) in the span; min_frames_per_clip is {limits.min_frames_per_clip} (option min-frames-per-clip)",
        )
    if len(frames) <= max_all_frames:
        return np.arange(frames.start, frames.stop)
    return frames.start + sample_positions(len(frames), num_frames, rng=rng)


def plan_spans(
    index: FrameIndex,
    spans: Sequence[Span],
    num_frames: int,
    limits: MediaLimits,
    rng: np.random.Generator | None,
    max_all_frames: int = 0,
) -> list[np.ndarray | DecodeError]:
    """For each span its frame numbers [T], or why it has none; see `plan_span`."""
    plans: list[np.ndarray | DecodeError] = []
    for span in spans:
        try:
            plans.append(plan_span(index, span, num_frames, limits, rng, max_all_frames))
        except DecodeError as error:
            plans.append(error)
    return plans


class VideoIndex(NamedTuple):
    """What reading all packets of a video tells."""

    frames: FrameIndex
    has_false_keyframes: bool
    """See picture_headers.Picture."""


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
    video_index = _last.get(key)
    if video_index is None:
        video_index = read()
        _last.clear()
        if not video_index.frames.is_truncated:
            _last[key] = video_index
    return video_index


def forget_index() -> None:
    """Read it again next time, as for another video."""
    _last.clear()
