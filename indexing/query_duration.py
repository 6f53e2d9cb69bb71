"""How long is a clip that goes to the end of its video? Read from the header of the MP4 file, a few hundred bytes; nothing is decoded."""

import os
import stat
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

_MAX_HEADER_BOXES = 10_000


def clip_duration_s(video_uri: str, start_s: float, end_s: float | None) -> float | None:
    """None when the row has no end and the file does not say."""
    if end_s is not None:
        return end_s - start_s
    path = video_uri.removeprefix("file://")
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    whole_s = _mp4_duration_s(path, status.st_size, status.st_mtime_ns)
    return None if whole_s is None else max(whole_s - start_s, 0.0)


@lru_cache(maxsize=65_536)
def _mp4_duration_s(path: str, size: int, _mtime_ns: int) -> float | None:
    try:
        with Path(path).open("rb") as file:
            for name, start, end in _boxes(file, 0, size):
                if name != b"moov":
                    continue
                for inner, body, _ in _boxes(file, start, end):
                    if inner == b"mvhd":
                        file.seek(body)
                        return _movie_header_s(file.read(32))
    except (OSError, struct.error):
        return None
    return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of its body, its end) of the boxes between two offsets."""
    for _ in range(_MAX_HEADER_BOXES):
        if start + 8 > end:
            return
        file.seek(start, os.SEEK_SET)
        size, name = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            header = 16
        size = end - start if size == 0 else size
        if size < header:
            return
        yield name, start + header, min(start + size, end)
        start += size


def _movie_header_s(body: bytes) -> float | None:
    layout = ">QQIQ" if body[:1] == b"\1" else ">IIII"
    _created, _changed, timescale, duration = struct.unpack_from(layout, body, 4)
    return duration / timescale if timescale else None
