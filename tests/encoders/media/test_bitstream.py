"""Fragmented MP4 files that are cut, or whose boxes lie: what came of them is known, and nothing else is lost."""

import io
import struct
from contextlib import closing
from pathlib import Path

import av
import pytest

from benchmarks.dives.video import write_video
from encoders.decoding.decode import decode_clips
from encoders.decoding.pyav_video import PyavVideo
from encoders.media.bitstream import (
    boxes_end,
    clip_duration_s,
    ends_amid_frames,
    has_fragments,
)
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

SAMPLING = SamplingConfig(num_frames=4, frame_size=16)
TO_THE_END = [Span(start_s=0, end_s=None)]


@pytest.fixture(
    params=[
        "frag_keyframe",  # its index in front counts the samples of the first part
        "frag_keyframe+empty_moov",
        "frag_keyframe+empty_moov+default_base_moof",
    ]
)
def fragmented(request, make_video) -> bytes:
    options = {"movflags": request.param}
    name = f"{request.param.count('+')}.mp4"
    spec = {"num_frames": 60, "options": {"g": "20", "preset": "ultrafast"}}
    return make_video(name, container_options=options, **spec).read_bytes()


def sample_ends(data: bytes) -> list[int]:
    with av.open(io.BytesIO(data), "r") as container:
        packets = list(container.demux(container.streams.video[0]))
    return [
        packet.pos + packet.size for packet in packets if packet.pos is not None and packet.size
    ]


def test_a_cut_is_known_wherever_a_sample_is_missing(fragmented, tmp_path) -> None:
    """Also right behind a sample, where FFmpeg says nothing; but not right behind a fragment, which could be the last one."""
    starts = [offset for offset, kind in boxes(fragmented) if kind == b"moof"]
    assert len(starts) >= 2
    path = tmp_path / "cut.mp4"
    num_read = 0
    for cut in sorted({*sample_ends(fragmented)[:-1], *range(starts[0] + 8, len(fragmented), 97)}):
        path.write_bytes(fragmented[:cut])
        if any(start <= cut < start + 8 for start in starts):
            continue
        try:
            index = PyavVideo(path, MediaLimits()).index
        except DecodeError:
            continue
        assert index.is_truncated or index.num_packets == 60, cut
        num_read += 1
    assert num_read > 30


def test_a_box_that_says_to_be_longer_than_its_samples_costs_none(fragmented, tmp_path) -> None:
    (*_, offset) = (offset for offset, kind in boxes(fragmented) if kind == b"mdat")
    lying = bytearray(fragmented)
    lying[offset : offset + 4] = struct.pack(">I", 10 * len(fragmented))
    assert boxes_end(io.BytesIO(lying), len(lying)) == len(lying)
    path = tmp_path / "lying.mp4"
    path.write_bytes(lying)
    assert decode_clips(path, TO_THE_END, SAMPLING).errors == (None,)
    path.write_bytes(lying[: sample_ends(fragmented)[-2]])
    (error,) = decode_clips(path, TO_THE_END, SAMPLING).errors
    assert error is not None
    assert "cut off" in str(error)


def test_an_avi_without_its_index_is_whole_and_one_without_a_frame_is_not(make_video, tmp_path):
    data = make_video("whole.avi", codec="mpeg4").read_bytes()
    movi, index = data.index(b"movi"), data.rindex(b"idx1")
    last = data.rindex(b"00dc", 0, index)
    cases = {
        "no index": (data[: index + 20], True),
        "amid the last frame": (data[: last + 12], False),
        "before the last frame": (data[:last], False),
        "a hole before the frames": (data[: movi - 100] + data[movi - 90 :], True),
        "a hole amid the frames": (data[: movi + 900] + data[movi + 901 :], True),
    }
    for name, (damaged, is_whole) in cases.items():
        path = tmp_path / f"{name}.avi"
        path.write_bytes(damaged)
        with closing(PyavVideo(path, MediaLimits())) as video:
            assert (name, video.index.is_truncated) == (name, not is_whole)
            assert video.index.num_frames >= 49


def test_samples_beyond_where_any_file_ends_are_damage_and_no_crash(make_video, tmp_path) -> None:
    """The system refuses to seek there, which is no error of FFmpeg's."""
    spec = {"num_frames": 60, "options": {"g": "20", "preset": "ultrafast"}}
    options = {"movflags": "frag_keyframe+empty_moov"}
    broken = bytearray(make_video("0.mp4", container_options=options, **spec).read_bytes())
    base_offset = broken.rindex(b"tfhd") + 12
    broken[base_offset] = 0x40
    path = tmp_path / "beyond.mp4"
    path.write_bytes(broken)
    frames = decode_clips(path, [Span(start_s=0, end_s=0.4), *TO_THE_END], SAMPLING)
    assert [error and error.reason for error in frames.errors] == [None, "corrupt_container"]


def boxes(data: bytes) -> list[tuple[int, bytes]]:
    found, offset = [], 0
    while offset < len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        found.append((offset, kind))
        offset += size
    return found


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


def test_a_box_that_ends_beyond_what_can_be_sought_is_the_last_one() -> None:
    """Found by `make fuzz`."""
    data = b"\0\0\0\x0cftypisom\0\0\0\1free" + b"\xff" * 8 + b"\0\0\0\x08moof"
    assert not has_fragments(io.BytesIO(data))
    assert boxes_end(io.BytesIO(data), len(data)) == len(data)
    assert ends_amid_frames(io.BytesIO(data), len(data))
