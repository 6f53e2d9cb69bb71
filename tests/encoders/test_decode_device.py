"""Frames that stay on a device are those of the host, whoever decodes them. The CPU is a device too: DALI decodes VP9 there."""

import numpy as np
import pytest
import torch

from encoders.decode import DecodeRequest, Span, iter_spans
from encoders.decode_device import iter_device_spans
from encoders.sampling import SamplingConfig

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
