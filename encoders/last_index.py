"""The frame index of the video that this process read last: the shards of a long video come one after the other.

Only the last one is kept: the packets of two hours of video take 50 MB.
"""

import os
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from encoders.frame_plan import FrameIndex
from encoders.media import MediaLimits


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
