"""Matroska written element by element."""

from itertools import pairwise
from pathlib import Path

import av


def write_laced(source_path: Path, path: Path, *, size: tuple[int, int]) -> None:
    """JPEGs of another file, three in each SimpleBlock, by EBML lacing, written by hand: FFmpeg makes none."""
    with av.open(str(source_path)) as source:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size][:30]
    blocks = b""
    for first in range(0, len(packets), 3):
        block = _lace(packets[first : first + 3])
        blocks += _element(0xA3, b"\x81" + (first * 40).to_bytes(2, "big") + b"\x86" + block)
    video = _element(0xB0, bytes([size[0]])) + _element(0xBA, bytes([size[1]]))
    track = (
        _element(0xD7, b"\1")
        + _element(0x73C5, b"\1")
        + _element(0x83, b"\1")
        + _element(0x9C, b"\1")
    )
    track += (
        _element(0x86, b"V_MJPEG")
        + _element(0x23E383, (40_000_000).to_bytes(4, "big"))
        + _element(0xE0, video)
    )
    header = _element(0x4282, b"matroska") + _element(0x4287, b"\4") + _element(0x4285, b"\2")
    segment = _element(0x1549A966, _element(0x2AD7B1, (1_000_000).to_bytes(3, "big")))
    segment += _element(0x1654AE6B, _element(0xAE, track)) + _element(
        0x1F43B675, _element(0xE7, b"\0") + blocks
    )
    path.write_bytes(_element(0x1A45DFA3, header) + _element(0x18538067, segment))


def _element(identifier: int, data: bytes) -> bytes:
    return (
        identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
        + (1 << 56 | len(data)).to_bytes(8, "big")
        + data
    )


def _lace(frames: list[bytes]) -> bytes:
    """EBML lacing: the number of frames less one, the first size, the differences of the others but the last."""
    sizes = [len(frame) for frame in frames]
    differences = [after - before for before, after in pairwise(sizes[:-1])]
    coded = (0x4000 | sizes[0]).to_bytes(2, "big")
    coded += b"".join(
        (0x4000 | (difference + 0x1FFF)).to_bytes(2, "big") for difference in differences
    )
    return bytes([len(frames) - 1]) + coded + b"".join(frames)
