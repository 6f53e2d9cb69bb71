"""How far a file says that it goes: the top-level boxes of an MP4 (ISO/IEC 14496-12) and the samples of its last fragment, the
chunks of an AVI."""

import os
import stat
import struct
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

_MEDIA_BOXES = {b"moov", b"moof", b"mdat"}
_MAX_BOXES = 1_000_000
_MAX_OFFSET = 2**63 - 1
"""That a file can be sought to; a box may say to be longer."""
_MAX_FRAGMENT_BYTES = 64 << 20
_AVI_HEAD_BYTES = 1 << 16
# Flags of `tfhd` and `trun`, and the bytes of what each says is there.
_BASE_OFFSET, _DEFAULT_SIZE, _BASE_IS_MOOF = 0x1, 0x10, 0x20000
_BEFORE_DEFAULT_SIZE = {_BASE_OFFSET: 8, 0x2: 4, 0x8: 4}
_DATA_OFFSET, _FIRST_FLAGS, _SAMPLE_SIZE = 0x1, 0x4, 0x200
_SAMPLE_FIELDS = (0x100, _SAMPLE_SIZE, 0x400, 0x800)


def boxes_end(file: BinaryIO, num_bytes: int) -> int:
    """Where the last top-level box, or the last sample of the last fragment, says that it ends.

    What is no media (padding, rubbish at the end) may be cut, and a box of samples may say to be longer than its fragment needs.
    """
    offset = 0
    fragment: tuple[int, int] | None = None
    for _ in range(_MAX_BOXES):
        size, kind = _box(file, offset)
        if size < 8:  # 0 = to the end of the file; 1..7 = garbage, which the demuxer judges
            break
        if kind == b"moof":
            fragment = offset, size
        if offset + size >= num_bytes:
            samples_end = 0 if fragment is None else _samples_end(file, *fragment)
            is_whole = kind not in _MEDIA_BOXES or (kind == b"mdat" and samples_end > 0)
            if kind == b"moov" and offset + size > num_bytes:
                is_whole = _has_whole_tracks(file, offset + 8, num_bytes)
            return max(num_bytes if is_whole else offset + size, samples_end)
        offset += size
    return num_bytes if fragment is None else max(num_bytes, _samples_end(file, *fragment))


def ends_amid_frames(file: BinaryIO, num_bytes: int) -> bool:
    """Whether an AVI that is shorter than it says lacks frames, and not only some of the index behind them."""
    file.seek(0)
    head = file.read(_AVI_HEAD_BYTES)
    movi = head.find(b"movi", 12)
    if movi < 0 or int.from_bytes(head[4:8], "little") + 8 <= num_bytes:
        return movi < 0
    end = movi + int.from_bytes(head[movi - 4 : movi], "little")
    offset = movi + 4
    for _ in range(_MAX_BOXES):
        file.seek(offset)
        kind, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if kind == b"idx1" or offset >= end:
            return False
        if kind == b"LIST":  # of the chunks of one frame
            offset += 12
        elif kind[:2].isdigit() or kind[:2] == b"ix" or kind == b"JUNK":
            offset += 8 + size + size % 2
        else:
            break
    # Damaged on the way, which the demuxer steps over: the index behind the frames tells that they end.
    file.seek(max(offset, end - _AVI_HEAD_BYTES))
    return b"idx1" not in file.read(2 * _AVI_HEAD_BYTES)


def has_fragments(file: BinaryIO) -> bool:
    """Whether samples lie in fragments too, which the index in front does not count."""
    offset = 0
    for _ in range(_MAX_BOXES):
        size, kind = _box(file, offset)
        if size < 8 or kind == b"moof":
            return size >= 8
        offset += size
    return True


def _has_whole_tracks(file: BinaryIO, offset: int, num_bytes: int) -> bool:
    """Whether only what follows the tracks of a cut index is missing, such as its tags."""
    num_tracks = 0
    while offset < num_bytes:
        size, kind = _box(file, offset)
        offset += size
        if size < 8 or offset > num_bytes:
            return num_tracks > 0 and kind not in (b"trak", b"mvex")
        num_tracks += kind == b"trak"
    return num_tracks > 0


def _box(file: BinaryIO, offset: int) -> tuple[int, bytes]:
    """(size, kind) of the MP4 box at an offset; size 0 where the file ends before its header does."""
    if offset > _MAX_OFFSET:
        return 0, b""
    file.seek(offset)
    header = file.read(16)
    size = int.from_bytes(header[:4], "big")
    if size == 1 and len(header) == 16:
        size = int.from_bytes(header[8:], "big")
    return (size if len(header) >= 8 else 0), header[4:8]


def _samples_end(file: BinaryIO, offset: int, size: int) -> int:
    """Where the last sample of a fragment ends, as its `moof` has it, however long the box of its samples says to be; 0 = not told."""
    if size > _MAX_FRAGMENT_BYTES:
        return 0
    file.seek(offset)
    moof = file.read(size)
    last, end = 0, offset
    try:
        for traf in _children(moof, b"traf"):
            (header,) = _children(traf, b"tfhd")
            base, default_size = _track_defaults(header, moof_offset=offset, previous_end=end)
            end = base
            for run in _children(traf, b"trun"):
                end = _run_end(run, default_size, base=base, previous_end=end)
                last = max(last, end)
    except (ValueError, struct.error):  # a box is missing, or shorter than it has to be
        return 0
    return last


def _children(box: bytes, kind: bytes) -> Iterator[bytes]:
    """The bodies, with their headers, of the boxes of a kind in a box."""
    offset = 8
    while offset + 8 <= len(box):
        size, box_kind = _box(BytesIO(box), offset)
        if size < 8:
            raise ValueError(f"a box of {size} bytes")
        if box_kind == kind:
            yield box[offset : offset + size]
        offset += size


def _track_defaults(header: bytes, *, moof_offset: int, previous_end: int) -> tuple[int, int]:
    """(what data offsets count from, bytes of a sample that does not say) of a track in a fragment."""
    (flags,) = struct.unpack_from(">I", header, 8)
    if flags & _BASE_OFFSET:
        (base,) = struct.unpack_from(">Q", header, 16)
    else:
        base = moof_offset if flags & _BASE_IS_MOOF else previous_end
    if not flags & _DEFAULT_SIZE:
        return base, 0
    place = 16 + sum(size for flag, size in _BEFORE_DEFAULT_SIZE.items() if flags & flag)
    return base, struct.unpack_from(">I", header, place)[0]


def _run_end(run: bytes, default_size: int, *, base: int, previous_end: int) -> int:
    """Where the samples of a `trun` end. ValueError where their sizes are nowhere, or fewer than it says."""
    flags, num_samples = struct.unpack_from(">II", run, 8)
    place, start = 16, previous_end
    if flags & _DATA_OFFSET:
        start = base + struct.unpack_from(">i", run, place)[0]
        place += 4
    if not num_samples:
        return start
    place += 4 if flags & _FIRST_FLAGS else 0
    fields = [field for field in _SAMPLE_FIELDS if flags & field]
    if _SAMPLE_SIZE in fields:
        count = num_samples * len(fields)
        table = np.frombuffer(run, ">u4", count=count, offset=place).reshape(num_samples, -1)
        return start + int(table[:, fields.index(_SAMPLE_SIZE)].sum(dtype=np.int64))
    if not default_size:
        raise ValueError("the sizes of the samples are not in the fragment")
    return start + num_samples * default_size


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
