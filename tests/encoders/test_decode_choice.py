"""When the CPU decodes although there is NVDEC: what NVDEC cannot take, and files of which next to nothing is wanted."""

from dataclasses import replace
from fractions import Fraction

import pytest

from encoders.decode_choice import why_not_nvdec
from encoders.frame_plan import FrameIndex, index_of_packets


def index(codec: str = "h264", size: tuple[int, int] = (1280, 720), num: int = 1000) -> FrameIndex:
    """A keyframe every ten packets."""
    return index_of_packets(
        [(n, n, n % 10 == 0, True) for n in range(num)],
        time_base=Fraction(1, 25),
        codec=codec,
        size=size,
        is_truncated=False,
    )


@pytest.mark.parametrize(
    ("codec", "size", "pixel_format", "reason"),
    [
        ("h264", (1280, 720), "yuv420p", None),
        ("h264", (8192, 4320), "yuv420p", "NVDEC takes 48 x 16 to 4096 x 4096"),
        ("hevc", (8192, 4320), "yuv420p", None),
        ("hevc", (128, 128), "yuv420p", "144 x 144"),
        ("vp9", (120, 128), "yuv420p", "128 x 128"),
        ("h264", (1280, 720), "yuv444p", "pixel format yuv444p"),
        ("hevc", (1280, 720), "yuv420p10le", "pixel format yuv420p10le"),
        ("h264", (1280, 720), "", "pixel format unknown"),
        ("mjpeg", (32, 32), "yuvj422p", None),
    ],
)
def test_codec_size_and_pixel_format(codec, size, pixel_format, reason):
    found = why_not_nvdec(index(codec, size), pixel_format, range(1000))
    assert found is None if reason is None else reason in (found or "")


def test_few_frames_of_a_long_file_are_left_to_the_cpu():
    assert why_not_nvdec(index(), "yuv420p", [509]) == (
        "sparse: under 2% of the packets are needed, and dali reads them all"
    )
    assert why_not_nvdec(index(), "yuv420p", [105, 509, 905]) is None
    assert why_not_nvdec(index(num=20), "yuv420p", [5]) is None


def test_packets_are_counted_once_from_the_keyframe_on():
    assert index().num_packets_for([103, 105, 104]) == 6
    assert index().num_packets_for([103, 119]) == 14
    no_keyframes = replace(index(), is_keyframe_P=index().is_keyframe_P & False)
    assert no_keyframes.num_packets_for([7]) == 8
