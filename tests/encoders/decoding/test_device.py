"""Frames that stay on a device are those of the host, whoever decodes them. The CPU is a device too: DALI decodes VP9 there."""

import numpy as np
import pytest
import torch

from encoders.decoding.decode import iter_spans
from encoders.decoding.device import iter_device_spans
from encoders.decoding.frames.bicubic import resize_bicubic
from encoders.decoding.nvidia.resize import resize_tensor
from encoders.decoding.pyav_video import FrameConverter
from encoders.decoding.request import DecodeRequest
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

VP9 = {"codec": "libvpx-vp9", "options": {"g": "20", "cpu-used": "8"}}
SPANS = (Span(start_s=1, end_s=None), Span(start_s=0.2, end_s=1.4), Span(start_s=30, end_s=40))


@pytest.mark.parametrize(
    ("name", "spec", "backend"),
    [
        ("vp9.webm", VP9, "dali"),
        ("turned.mp4", VP9 | {"rotation": 90, "hflip": True}, "dali"),
        ("mirrored.mp4", VP9 | {"rotation": 180}, "dali"),
        ("odd.webm", VP9 | {"width": 63, "height": 47}, "dali"),
        ("h264.mp4", {}, "dali"),
        ("h264.mp4", {}, "pyav"),
    ],
)
@pytest.mark.parametrize("frame_size", [40, None])
def test_the_frames_are_those_of_the_host(make_video, name, spec, backend, frame_size):
    if backend == "dali":
        pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    path = make_video(name, picture="gradient", **spec)
    sampling = SamplingConfig(num_frames=7, frame_size=frame_size)
    request = DecodeRequest(video=str(path), spans=SPANS, sampling=sampling, backend=backend)
    host, device = list(iter_spans(request)), list(iter_device_spans(request))
    assert [span.number for span in host] == [span.number for span in device]
    for one, other in zip(host, device, strict=True):
        assert (one.backend_used, one.fallback_reason) == (
            other.backend_used,
            other.fallback_reason,
        )
        assert (one.backend_used == "dali") == (backend == "dali" and "h264" not in name)
        assert other.frames_THWC is None
        if one.error is not None:
            assert (other.error.reason, other.device_frames_THWC) == (one.error.reason, None)
            continue
        assert isinstance(other.device_frames_THWC, torch.Tensor)
        np.testing.assert_array_equal(other.device_frames_THWC.numpy(), one.frames_THWC)


def test_area_averages_are_within_a_level(make_video):
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    path = make_video("vp9.webm", picture="gradient", width=320, height=240, **VP9)
    sampling = SamplingConfig(num_frames=4, frame_size=40, resize="swscale_area")
    request = DecodeRequest(video=str(path), spans=SPANS[:1], sampling=sampling, backend="dali")
    (host,), (device,) = iter_spans(request), iter_device_spans(request)
    assert device.backend_used == "dali"
    difference = np.abs(device.device_frames_THWC.numpy().astype(int) - host.frames_THWC)
    assert difference.max() <= 2


@pytest.mark.parametrize("largest", [6, 40, 300])
def test_bicubic_has_the_bits_of_the_host(largest):
    rng = np.random.default_rng(largest)
    for number in range(60):
        height, width, size = (int(n) for n in rng.integers(1, largest, 3))
        width = size if number % 7 == 0 else width
        frame = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        if number % 2:
            frame = np.where(frame > 127, np.uint8(255), np.uint8(0))
        np.testing.assert_array_equal(
            resize_tensor(torch.from_numpy(frame), size, "pillow_bicubic").numpy(),
            resize_bicubic(frame, size, size),
            err_msg=f"{height}x{width} to {size}x{size}",
        )


@pytest.mark.parametrize(("height", "width"), [(240, 320), (200, 333), (57, 80)])
def test_area_is_within_a_level_of_what_the_host_makes(height, width):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    sampling = SamplingConfig(num_frames=2, frame_size=40, resize="swscale_area")
    expected = FrameConverter(sampling).resized(frame).astype(int)
    found = resize_tensor(torch.from_numpy(frame), 40, "swscale_area").numpy()
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.6


def test_a_frame_of_the_size_is_left_alone():
    frame = torch.zeros((8, 8, 3), dtype=torch.uint8)
    assert resize_tensor(frame, 8, "pillow_bicubic") is frame
