"""Packets written by hand, and real files whose keyframes are none."""

from contextlib import closing

import pytest

from encoders.decode_pyav import PyavVideo
from encoders.keyframes import is_clean_start, is_shown_vp8
from encoders.media import MediaLimits

AVCC = bytes.fromhex("01 64 00 0a ff")  # lengths of 4 bytes
AVCC_SHORT = bytes.fromhex("01 64 00 0a fd")  # of 2 bytes


def packet(*units: str, length_size: int = 4) -> memoryview:
    chunks = [bytes.fromhex(unit) for unit in units]
    return memoryview(b"".join(len(c).to_bytes(length_size, "big") + c for c in chunks))


@pytest.mark.parametrize(
    ("units", "is_clean"),
    [
        (["65 88 84"], True),  # IDR
        (["06 06 01 c4 80", "41 9a 00"], True),  # recovery_frame_cnt 0: bit 1 first
        (["06 06 01 24 80", "41 9a 00"], False),  # recovery_frame_cnt 3
        (["06 05 02 aa bb 06 01 24 80", "41 9a 00"], False),  # after another message
        (["06 05 ff 01" + "aa" * 256 + "06 01 24 80", "41 9a 00"], False),  # after a long one
        (["09 10", "06 06 01 24 80", "65 88"], False),
        (["41 9a 00"], True),  # nothing said: the container's word holds
        ([], True),
    ],
)
@pytest.mark.parametrize(("extradata", "length_size"), [(AVCC, 4), (AVCC_SHORT, 2)])
def test_recovery_points(units, is_clean, extradata, length_size):
    data = packet(*units, length_size=length_size)
    assert is_clean_start(data, "h264", extradata) is is_clean
    assert is_clean_start(data, "hevc", extradata)


def test_lengths_that_lie_end_the_search():
    assert is_clean_start(memoryview(bytes.fromhex("ffffffff 41 9a")), "h264", AVCC)
    assert is_clean_start(memoryview(bytes.fromhex("00000003 06 06 ff")), "h264", AVCC)
    assert is_clean_start(memoryview(bytes.fromhex("00000000 00000000 00")), "h264", AVCC)


def test_vp8_hidden_frames():
    assert is_shown_vp8(memoryview(b"\x10"))
    assert not is_shown_vp8(memoryview(b"\x01"))


@pytest.mark.parametrize(
    ("params", "has_false", "num_starts"),
    [("intra-refresh=1", True, 1), ("open-gop=1", False, 5), ("scenecut=0", False, 5)],
)
def test_real_files(make_video, params, has_false, num_starts):
    options = {"g": "12", "bf": "2", "preset": "veryfast", "x264-params": params}
    path = make_video("keys.mp4", num_frames=60, options=options)
    with closing(PyavVideo(path, MediaLimits())) as video:
        assert video.has_false_keyframes is has_false
        assert int(video.index.is_keyframe_P.sum()) == num_starts
