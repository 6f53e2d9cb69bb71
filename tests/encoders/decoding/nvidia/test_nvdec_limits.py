"""Which videos go to NVDEC, by codec, GPU, size, pixel format and scan."""

from dataclasses import replace
from fractions import Fraction

import pytest

from encoders.decoding.nvidia.nvdec_limits import (
    MORE_CODECS_VARIABLE,
    allowed_codecs,
    decodes_av1,
    nvdec_unsupported_reason,
    size_class,
    sparse_reason,
)
from encoders.media.frame_index import FrameIndex, index_of_packets
from encoders.media.packet_table import PacketRow, PacketTable

HOPPER, ADA = (9, 0), (8, 9)


def index(codec: str = "h264", size: tuple[int, int] = (1280, 720), num: int = 1000) -> FrameIndex:
    """A keyframe every ten packets."""
    return index_of_packets(
        PacketTable([PacketRow(n, n, 1, n % 10 == 0, True, n, n, 1) for n in range(num)]),
        time_base=Fraction(1, 25),
        codec=codec,
        size=size,
    )


@pytest.mark.parametrize(
    ("codec", "size", "pixel_format", "reason"),
    [
        ("h264", (1280, 720), "yuv420p", None),
        ("h264", (8192, 4320), "yuv420p", "NVDEC takes 48 x 16 to 4096 x 4096"),
        ("hevc", (8192, 4320), "yuv420p", None),
        ("hevc", (128, 128), "yuv420p", "144 x 144"),
        ("h264", (1280, 720), "yuv444p", "pixel format yuv444p"),
        ("hevc", (1280, 720), "yuv420p10le", "pixel format yuv420p10le"),
        ("h264", (1280, 720), "", "pixel format unknown"),
        ("h264", (1279, 720), "yuv420p", "odd width"),
        ("h264", (1280, 719), "yuv420p", "odd width or height"),
        ("mjpeg", (640, 480), "yuvj422p", "not known to be those of the CPU"),
        ("vp9", (1280, 720), "yuv420p", "not known to be those of the CPU"),
        ("mpeg4", (1280, 720), "yuv420p", "not known to be those of the CPU"),
    ],
)
def test_codec_size_and_pixel_format(codec, size, pixel_format, reason):
    found = nvdec_unsupported_reason(index(codec, size), pixel_format, capability=HOPPER)
    assert found is None if reason is None else reason in (found or "")


@pytest.mark.parametrize(
    ("field_order", "is_taken"), [(0, True), (1, True), (2, False), (5, False)]
)
def test_interlaced_video_stays_on_the_cpu(field_order, is_taken):
    reason = nvdec_unsupported_reason(index(), "yuv420p", field_order=field_order)
    assert (reason is None) == is_taken
    assert is_taken or "interlaced" in (reason or "")


def test_more_codecs_are_a_choice_and_av1_needs_a_gpu_that_decodes_it(monkeypatch):
    assert allowed_codecs(ADA) == {"h264", "hevc"}
    monkeypatch.setenv(MORE_CODECS_VARIABLE, "av1,vp9")
    assert allowed_codecs(ADA) == {"h264", "hevc", "vp9", "av1"}
    assert allowed_codecs(HOPPER) == {"h264", "hevc", "vp9"}
    found = nvdec_unsupported_reason(index("av1"), "yuv420p", capability=HOPPER)
    assert found == "av1: a GPU of compute capability 9.0 does not decode it"
    assert nvdec_unsupported_reason(index("av1"), "yuv420p", capability=ADA) is None
    monkeypatch.setenv(MORE_CODECS_VARIABLE, "mjpeg")
    with pytest.raises(ValueError, match="names mjpeg; it may name av1"):
        allowed_codecs(ADA)


def test_av1_by_compute_capability():
    with_av1 = [(8, 6), (8, 7), (8, 9), (10, 0), (12, 0)]
    without = [(6, 1), (7, 0), (7, 5), (8, 0), (9, 0)]
    assert all(decodes_av1(capability) for capability in with_av1)
    assert not any(decodes_av1(capability) for capability in without)


def test_1080p_is_not_of_the_class_of_frames_without_padding():
    assert size_class(1920, 1080) == "up to 1088 lines, padded"
    assert size_class(1280, 720) == "up to 1088 lines"
    assert size_class(1080, 1920) == size_class(1920, 1080)


def test_few_frames_of_a_long_file_are_left_to_the_cpu():
    assert sparse_reason(index(), [509]) == (
        "sparse: under 2% of the packets are needed, and the decoder reads them all"
    )
    assert sparse_reason(index(), [105, 509, 905]) is None
    assert sparse_reason(index(num=20), [5]) is None


def test_packets_are_counted_once_from_the_keyframe_on():
    assert index().num_packets_for([103, 105, 104]) == 6
    assert index().num_packets_for([103, 119]) == 14
    no_keyframes = replace(index(), is_keyframe_P=index().is_keyframe_P & False)
    assert no_keyframes.num_packets_for([7]) == 8
