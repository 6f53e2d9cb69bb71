"""Packs a folder of JPEG frames into one video file, without decoding or re-encoding a frame.

The decoders do not read image sequences, which would open many files by a pattern. So the
frames become the samples of a QuickTime file (Motion JPEG): the same bytes behind an index, at a
constant rate. Layout: Apple's QuickTime File Format, the same boxes as MP4's ISO/IEC 14496-12.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

from cluster.storage import atomic_path
from training.annotations.readers.rows import Problems

_MAX_FRAMES = 100_000
_MAX_FRAME_BYTES = 64 << 20
_TIME_SCALE = 90_000
_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
# JPEG's start-of-frame markers; C4, C8 and CC are tables and extensions.
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def pack_missing_videos(
    frames: Path, videos: Path, *, frames_per_s: float, problems: Problems
) -> int:
    """Pack FRAMES/<name>/<number>/*.jpg into VIDEOS/<name>_<number>.mov if that file is missing; returns how many."""
    if not frames.is_dir():
        raise ValueError(f"{frames}: the folder of frames does not exist")
    num_packed = 0
    for folder in sorted(path for path in frames.glob("*/*") if path.is_dir()):
        out = videos / f"{folder.parent.name}_{folder.name}.mov"
        if out.exists() or out.with_suffix(".mp4").exists():
            continue
        with problems.of_row():
            pack_frames(
                sorted(filter(_is_frame, folder.iterdir()), key=_frame_number),
                out,
                frames_per_s=frames_per_s,
            )
            num_packed += 1
    return num_packed


def pack_frames(frames: Sequence[Path], out: Path, *, frames_per_s: float) -> None:
    """Write the whole file or nothing; ValueError names a frame that is not a JPEG or differs in size from the first."""
    if not 1 <= len(frames) <= _MAX_FRAMES:
        raise ValueError(f"{out.name}: {len(frames)} frames; it must be 1 to {_MAX_FRAMES}")
    if not 1 <= frames_per_s <= 1000:
        raise ValueError(f"frames_per_s is {frames_per_s}; it must be 1 to 1000")
    size: tuple[int, int] | None = None
    sizes: list[int] = []
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        file.write(_box(b"ftyp", b"qt  ", struct.pack(">I", 0x20050300), b"qt  "))
        start = file.tell()
        # Placeholder: the length is written at the end.
        file.write(struct.pack(">I4sQ", 1, b"mdat", 0))
        for frame in frames:
            if frame.stat().st_size > _MAX_FRAME_BYTES:
                raise ValueError(
                    f"{frame}: {frame.stat().st_size} bytes; at most {_MAX_FRAME_BYTES}"
                )
            content = frame.read_bytes()
            frame_size = jpeg_size(content, source=str(frame))
            size = size or frame_size
            if frame_size != size:
                raise ValueError(f"{frame}: it is {frame_size} pixels; the first frame is {size}")
            sizes.append(len(content))
            file.write(content)
        end = file.tell()
        assert size is not None
        step = round(_TIME_SCALE / frames_per_s)
        file.write(_movie(size, sizes, first_byte=start + 16, step=step))
        file.seek(start + 8)
        file.write(struct.pack(">Q", end - start))


def jpeg_size(content: bytes, *, source: str) -> tuple[int, int]:
    """(width, height) from the header."""
    place = 2
    if content[:2] == b"\xff\xd8":
        while place + 9 <= len(content) and content[place] == 0xFF:
            marker = content[place + 1]
            if marker in _SIZE_MARKERS:
                height, width = struct.unpack_from(">HH", content, place + 5)
                if width and height:
                    return width, height
                break
            # Fill bytes have no length; every other marker before the image data has one.
            place += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", content, place + 2)[0]
    raise ValueError(f"{source}: not a JPEG; it begins with {content[:4]!r}")


def _is_frame(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg")


def _frame_number(path: Path) -> tuple[int, str]:
    """Sort key in numeric order: 00489.jpg, 00490.jpg, 1000.jpg."""
    stem = path.stem
    return (int(stem) if stem.isascii() and stem.isdigit() else 0, path.name)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _movie(size: tuple[int, int], sizes: Sequence[int], *, first_byte: int, step: int) -> bytes:
    """The moov box: one video track of one chunk, whose frames are all key frames of `step` ticks."""
    width, height = size
    duration = step * len(sizes)
    versioned = struct.pack(">I", 0)
    sample_entry = _box(
        b"jpeg",
        struct.pack(">6xH", 1),
        struct.pack(">HH4sII", 0, 0, b"none", 0, 512),
        struct.pack(">HHIIIH", width, height, 72 << 16, 72 << 16, 0, 1),
        bytes(32),
        struct.pack(">Hh", 24, -1),
    )
    sample_table = _box(
        b"stbl",
        _box(b"stsd", versioned, struct.pack(">I", 1), sample_entry),
        _box(b"stts", versioned, struct.pack(">III", 1, len(sizes), step)),
        _box(b"stsc", versioned, struct.pack(">IIII", 1, 1, len(sizes), 1)),
        _box(b"stsz", versioned, struct.pack(f">II{len(sizes)}I", 0, len(sizes), *sizes)),
        _box(b"co64", versioned, struct.pack(">IQ", 1, first_byte)),
    )
    handler = struct.pack(">4s4s12x", b"mhlr", b"vide") + b"\0"
    data_handler = struct.pack(">4s4s12x", b"dhlr", b"url ") + b"\0"
    media = _box(
        b"mdia",
        _box(b"mdhd", versioned, struct.pack(">IIIIHH", 0, 0, _TIME_SCALE, duration, 0, 0)),
        _box(b"hdlr", versioned, handler),
        _box(
            b"minf",
            _box(b"vmhd", struct.pack(">IHHHH", 1, 0, 0, 0, 0)),
            _box(b"hdlr", versioned, data_handler),
            _box(
                b"dinf",
                _box(b"dref", versioned, struct.pack(">I", 1), _box(b"url ", struct.pack(">I", 1))),
            ),
            sample_table,
        ),
    )
    track_header = _box(
        b"tkhd",
        struct.pack(">IIIIII", 0xF, 0, 0, 1, 0, duration),
        struct.pack(">8xHHHH", 0, 0, 0, 0),
        _MATRIX,
        struct.pack(">II", width << 16, height << 16),
    )
    movie_header = _box(
        b"mvhd",
        versioned,
        struct.pack(">IIIIIH10x", 0, 0, _TIME_SCALE, duration, 0x10000, 0x100),
        _MATRIX,
        bytes(24),
        struct.pack(">I", 2),
    )
    return _box(b"moov", movie_header, _box(b"trak", track_header, media))
