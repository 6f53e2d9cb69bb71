"""DALI's CPU decoder against PyAV: the same frame numbers, the same bits; and what it cannot decode goes to PyAV, visibly."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from encoders.decoding.dali_video import nvdec_unsupported_reason
from encoders.decoding.decode import decode_clips
from encoders.decoding.isolated import IsolatedDecoder
from encoders.decoding.request import DecodeRequest
from encoders.media.container import MediaLimits
from encoders.media.frame_index import FrameIndex, Span, index_of_packets
from encoders.media.packet_table import PacketRow, PacketTable
from encoders.media.sampling import SamplingConfig

pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")

VP9 = {"codec": "libvpx-vp9", "options": {"g": "20", "cpu-used": "8"}}
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20", "cpu-used": "8"}
VFR = tuple(np.cumsum(np.random.default_rng(0).integers(1, 5, 50)).tolist())
SPANS = [Span(start_s=1, end_s=None), Span(start_s=0.2, end_s=1.4), Span(start_s=0, end_s=0.12)]


def both(path, sampling, **kwargs):
    return [
        decode_clips(path, SPANS, sampling, backend=name, **kwargs) for name in ("dali", "pyav")
    ]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("vp9.webm", VP9),
        ("vp9_hidden.webm", VP9 | {"options": HIDDEN}),
        ("vp9.mp4", VP9),
        ("vp9_start.webm", VP9 | {"pts": tuple(range(100, 150))}),
        ("vp9_vfr.mkv", VP9 | {"pts": VFR}),
        ("vp9_odd.webm", VP9 | {"width": 63, "height": 47}),
        ("vp9_turned.mp4", VP9 | {"rotation": 90, "hflip": True}),
        ("vp9_bt709.webm", VP9 | {"colorspace": 1, "color_range": 1}),
        ("vp9_full_range.webm", VP9 | {"colorspace": 5, "color_range": 2}),
        ("mjpeg.mov", MJPEG),
        ("mjpeg_turned.mov", MJPEG | {"rotation": 270}),
        ("vp8.webm", VP9 | {"codec": "libvpx"}),
    ],
)
def test_dali_equals_pyav_to_the_bit(make_video, numbers_in, name, spec):
    numbered = make_video(name, **spec)
    dali, pyav = both(numbered, SamplingConfig(num_frames=7, frame_size=None))
    assert (dali.backend_used, dali.fallback_reason) == ("dali", None)
    np.testing.assert_array_equal(dali.frame_indices_NT, pyav.frame_indices_NT)
    np.testing.assert_array_equal(dali.frames_NTHWC, pyav.frames_NTHWC)
    if "turned" not in name:
        assert [numbers_in(clip) for clip in dali.frames_NTHWC] == dali.frame_indices_NT.tolist()
    colours = make_video(name, picture="gradient", **spec)
    dali, pyav = both(colours, SamplingConfig(num_frames=7, frame_size=40))
    np.testing.assert_array_equal(dali.frames_NTHWC, pyav.frames_NTHWC)


@pytest.mark.parametrize("colorspace", [1, 9])
def test_colours_of_the_file_come_near_on_the_host_and_as_tensors(make_video, colorspace):
    from encoders.decoding.device import iter_device_spans

    path = make_video(
        "hd.webm", picture="gradient", **VP9 | {"colorspace": colorspace, "color_range": 1}
    )
    sampling = SamplingConfig(num_frames=7, frame_size=40, color="file")
    dali, pyav = both(path, sampling)
    assumed = decode_clips(path, SPANS, replace(sampling, color="bt601"))
    request = DecodeRequest(video=str(path), spans=tuple(SPANS), sampling=sampling, backend="dali")
    tensors = {span.number: span.device_frames_THWC for span in iter_device_spans(request)}
    for number, frames_THWC in enumerate(pyav.frames_NTHWC.astype(int)):
        assert np.abs(assumed.frames_NTHWC[number] - frames_THWC).max() > 4
        for near in (dali.frames_NTHWC[number], tensors[number].numpy()):
            difference = np.abs(near - frames_THWC)
            assert (difference.max() <= 2, difference.mean() < 1) == (True, True)
    assert dali.backend_used == "dali"


@pytest.mark.parametrize(
    ("name", "spec", "reason"),
    [
        ("h264.mp4", {}, "dali does not decode h264 on a CPU"),
        ("edit.mp4", VP9 | {"pts": tuple(range(-10, 40))}, "not shown"),
    ],
)
def test_what_dali_cannot_decode_goes_to_pyav_and_says_so(make_video, name, spec, reason):
    dali, pyav = both(make_video(name, **spec), SamplingConfig(num_frames=5, frame_size=16))
    assert dali.backend_used == "pyav"
    assert reason in (dali.fallback_reason or "")
    np.testing.assert_array_equal(dali.frames_NTHWC, pyav.frames_NTHWC)
    np.testing.assert_array_equal(dali.frame_indices_NT, pyav.frame_indices_NT)


def test_a_failure_inside_dali_costs_neither_this_video_nor_the_next(make_video, monkeypatch):
    from encoders.decoding import dali_video

    path = make_video("vp9.webm", **VP9)
    sampling = SamplingConfig(num_frames=5, frame_size=16)
    # The list says that DALI can; DALI itself says no.
    monkeypatch.setattr(dali_video, "CPU_CODECS", dali_video.CPU_CODECS | {"h264"})
    dali, pyav = both(make_video("h264.mp4"), sampling)
    assert dali.backend_used == "pyav"
    assert "dali failed" in (dali.fallback_reason or "")
    np.testing.assert_array_equal(dali.frames_NTHWC, pyav.frames_NTHWC)
    assert decode_clips(path, SPANS, sampling, backend="dali").backend_used == "dali"


def test_many_frames_come_in_several_runs(make_video, monkeypatch):
    from encoders.decoding import dali_video

    monkeypatch.setattr(dali_video, "_RUN_BYTES", 64 * 48 * 3 * 4)
    path = make_video("vp9.webm", **VP9)
    dali, pyav = both(path, SamplingConfig(num_frames=20, frame_size=None))
    np.testing.assert_array_equal(dali.frames_NTHWC, pyav.frames_NTHWC)


def test_damaged_frames_are_no_silent_wrong_pictures(tmp_path, make_video):
    data = bytearray(make_video("mjpeg.mov", **MJPEG).read_bytes())
    middle = len(data) // 2
    data[middle - 3000 : middle + 3000] = bytes(6000)
    path = tmp_path / "damaged.mov"
    path.write_bytes(data)
    dali, pyav = both(path, SamplingConfig(num_frames=10, frame_size=None))
    for ours, theirs in zip(dali.errors, pyav.errors, strict=True):
        assert str(ours) == str(theirs)
    np.testing.assert_array_equal(dali.frames_NTHWC, pyav.frames_NTHWC)


def test_limits_hold_for_dali_too(make_video):
    from encoders.media.errors import DecodeError

    path = make_video("vp9.webm", **VP9)
    with pytest.raises(DecodeError, match="max_pixels"):
        both(path, SamplingConfig(num_frames=5, frame_size=16), limits=MediaLimits(max_pixels=99))


def test_bad_devices_are_named(make_video):
    path = make_video("vp9.webm", **VP9)
    for device in ("tpu", "cuda:x", "cpu:0"):
        with pytest.raises(ValueError, match=f"device is '{device}'"):
            both(path, SamplingConfig(num_frames=5, frame_size=16), device=device)


def test_dali_in_the_child(make_video):
    request = DecodeRequest(
        video=str(make_video("vp9.webm", **VP9)),
        spans=tuple(SPANS),
        sampling=SamplingConfig(num_frames=5, frame_size=16),
        backend="dali",
    )
    with IsolatedDecoder(deadline_s=60) as decoder:
        spans = list(decoder.iter_spans(request))
    assert {span.backend_used for span in spans} == {"dali"}
    direct = decode_clips(request.video, SPANS, request.sampling)
    for span in spans:
        np.testing.assert_array_equal(span.frames_THWC, direct.frames_NTHWC[span.number])


def test_a_missing_package_names_its_extra(make_video, monkeypatch):
    monkeypatch.delitem(sys.modules, "encoders.decoding.dali_video", raising=False)
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(ImportError, match=r"pip install .*\[dali\]"):
        both(make_video("vp9.webm", **VP9), SamplingConfig(num_frames=5, frame_size=16))


def test_threads_take_turns_and_get_their_own_frames(make_video):
    paths = [make_video(f"vp9_{n}.webm", **(VP9 | {"width": 64 + 16 * n})) for n in range(2)]
    sampling = SamplingConfig(num_frames=5, frame_size=32)
    alone = [decode_clips(path, SPANS, sampling, backend="dali").frames_NTHWC for path in paths]
    with ThreadPoolExecutor(4) as threads:
        found = list(
            threads.map(lambda path: decode_clips(path, SPANS, sampling, backend="dali"), paths * 4)
        )
    for number, decoded in enumerate(found):
        np.testing.assert_array_equal(decoded.frames_NTHWC, alone[number % 2])


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
        ("vp9", (120, 128), "yuv420p", "128 x 128"),
        ("h264", (1280, 720), "yuv444p", "pixel format yuv444p"),
        ("hevc", (1280, 720), "yuv420p10le", "pixel format yuv420p10le"),
        ("h264", (1280, 720), "", "pixel format unknown"),
        ("mjpeg", (32, 32), "yuvj422p", None),
    ],
)
def test_codec_size_and_pixel_format(codec, size, pixel_format, reason):
    found = nvdec_unsupported_reason(index(codec, size), pixel_format, range(1000))
    assert found is None if reason is None else reason in (found or "")


def test_few_frames_of_a_long_file_are_left_to_the_cpu():
    assert nvdec_unsupported_reason(index(), "yuv420p", [509]) == (
        "sparse: under 2% of the packets are needed, and dali reads them all"
    )
    assert nvdec_unsupported_reason(index(), "yuv420p", [105, 509, 905]) is None
    assert nvdec_unsupported_reason(index(num=20), "yuv420p", [5]) is None


def test_packets_are_counted_once_from_the_keyframe_on():
    assert index().num_packets_for([103, 105, 104]) == 6
    assert index().num_packets_for([103, 119]) == 14
    no_keyframes = replace(index(), is_keyframe_P=index().is_keyframe_P & False)
    assert no_keyframes.num_packets_for([7]) == 8
