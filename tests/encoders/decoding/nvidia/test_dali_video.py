"""DALI's CPU decoder against PyAV: the same frame numbers, the same bits; and what it cannot decode goes to PyAV, visibly."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from encoders.decoding.decode import decode_clips
from encoders.decoding.isolated import IsolatedDecoder
from encoders.decoding.request import DecodeRequest
from encoders.media.container import MediaLimits
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")

VP9 = {"codec": "libvpx-vp9", "options": {"g": "20", "cpu-used": "8"}}
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20", "cpu-used": "8"}
VFR = tuple(np.cumsum(np.random.default_rng(0).integers(1, 5, 50)).tolist())
SPANS = [Span(start_s=1, end_s=None), Span(start_s=0.2, end_s=1.4), Span(start_s=0, end_s=0.12)]


@pytest.fixture
def fresh_trust(monkeypatch):
    from encoders.decoding.nvidia.dali_video import DaliVideo
    from encoders.decoding.nvidia.trust import TrustedKinds

    monkeypatch.setattr(DaliVideo, "trusted", TrustedKinds())


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


def test_a_failure_inside_dali_costs_neither_this_video_nor_the_next(
    make_video, monkeypatch, fresh_trust
):
    from encoders.decoding.nvidia import dali_video

    path = make_video("vp9.webm", **VP9)
    sampling = SamplingConfig(num_frames=5, frame_size=16)
    # The list says that DALI can; DALI itself says no.
    monkeypatch.setattr(dali_video, "CPU_CODECS", dali_video.CPU_CODECS | {"h264"})
    dali, pyav = both(make_video("h264.mp4"), sampling)
    assert dali.backend_used == "pyav"
    assert "dali failed" in (dali.fallback_reason or "")
    np.testing.assert_array_equal(dali.frames_NTHWC, pyav.frames_NTHWC)
    assert decode_clips(path, SPANS, sampling, backend="dali").backend_used == "dali"


def test_a_kind_that_fails_is_remembered_and_nothing_is_built_again(
    make_video, monkeypatch, fresh_trust
):
    from encoders.decoding.nvidia import dali_video

    built = []
    build = dali_video._new_pipeline
    monkeypatch.setattr(
        dali_video, "_new_pipeline", lambda device: built.append(1) or build(device)
    )
    monkeypatch.setattr(dali_video, "CPU_CODECS", dali_video.CPU_CODECS | {"h264"})
    dali_video._pipelines.cache_clear()
    sampling = SamplingConfig(num_frames=5, frame_size=16)
    for number in range(5):
        name = f"{number}.mp4"
        dali = decode_clips(make_video(name), SPANS, sampling, backend="dali")
        assert "dali failed" in (dali.fallback_reason or "")
    assert len(built) == 3
    # Another kind of stream is not to blame for it.
    vp9 = make_video("vp9.webm", **VP9)
    assert decode_clips(vp9, SPANS, sampling, backend="dali").backend_used == "dali"


def test_frames_that_are_not_those_of_the_cpu_are_refused(make_video, monkeypatch, fresh_trust):
    from encoders.decoding.nvidia.dali_video import DaliVideo

    read_run = DaliVideo._read_run
    numbers = []

    def one_late(self, wanted):
        numbers.append(wanted)
        return read_run(self, [number - 1 for number in wanted])

    monkeypatch.setattr(DaliVideo, "_read_run", one_late)
    sampling = SamplingConfig(num_frames=5, frame_size=None)
    for name in ("late_1.webm", "late_2.webm"):
        path = make_video(name, **VP9)
        dali = decode_clips(path, SPANS[:1], sampling, backend="dali")
        assert dali.backend_used == "pyav"
        assert "vp9 Profile 0 yuv420p" in (dali.fallback_reason or "")
        pyav = decode_clips(path, SPANS[:1], sampling)
        np.testing.assert_array_equal(dali.frames_NTHWC, pyav.frames_NTHWC)
    assert len(numbers) == 1  # the second video of the kind is not tried


def test_a_file_of_2_gib_goes_to_pyav(make_video, tmp_path):
    path = tmp_path / "long.webm"
    path.write_bytes(make_video("vp9.webm", **VP9).read_bytes())
    with path.open("r+b") as file:
        file.truncate(2**31)  # a hole; what counts is the length
    sampling = SamplingConfig(num_frames=5, frame_size=16)
    dali = decode_clips(path, SPANS, sampling, backend="dali")
    assert dali.backend_used == "pyav"
    assert "2 GiB" in (dali.fallback_reason or "")


def test_many_frames_come_in_several_runs(make_video, monkeypatch):
    from encoders.decoding.nvidia import hardware_video

    monkeypatch.setattr(hardware_video, "_HOST_RUN_BYTES", 64 * 48 * 3 * 4)
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
    monkeypatch.delitem(sys.modules, "encoders.decoding.nvidia.dali_video", raising=False)
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
