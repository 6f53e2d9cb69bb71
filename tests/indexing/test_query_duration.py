from pathlib import Path

import pytest

from benchmarks.dives.video import write_video
from indexing.query_duration import clip_duration_s


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def movie_header(version: int, timescale: int, duration: int) -> bytes:
    wide = 8 if version else 4
    times = (
        bytes(4) + bytes(2 * wide) + timescale.to_bytes(4, "big") + duration.to_bytes(wide, "big")
    )
    return box(b"mvhd", bytes([version]) + times[1:] + bytes(80))  # fmt: skip


@pytest.mark.parametrize("version", [0, 1])
def test_the_length_is_read_from_either_header(tmp_path: Path, version: int) -> None:
    path = tmp_path / f"{version}.mp4"
    header = movie_header(version, 600, 4500)
    path.write_bytes(box(b"ftyp", bytes(8)) + box(b"mdat", bytes(50)) + box(b"moov", header))
    assert clip_duration_s(str(path), 2.5, None) == 5.0
    assert clip_duration_s(f"file://{path}", 9.0, None) == 0.0
    assert clip_duration_s("/nowhere.mp4", 1.0, 4.0) == 3.0


def test_a_written_video_lasts_as_long_as_its_frames(tmp_path: Path) -> None:
    import numpy as np

    write_video(tmp_path / "a.mp4", [np.zeros((50, 64, 64, 3), np.uint8)], codec="h264")
    assert clip_duration_s(str(tmp_path / "a.mp4"), 0.0, None) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\0\1moov", box(b"moov", box(b"mvhd", b"")), b"\0\0\0\7moov", movie_header(0, 0, 9)])  # fmt: skip
def test_a_file_that_does_not_say_has_no_length(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert clip_duration_s(str(path), 0.0, None) is None
    assert clip_duration_s(str(tmp_path), 0.0, None) is None
    assert clip_duration_s("s3://bucket/a.mp4", 0.0, None) is None
