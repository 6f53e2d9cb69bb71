"""NVDEC through DALI against PyAV on H.264: the same frames, and the same pictures within what two decoders may differ by."""

import numpy as np
import pytest

from encoders.decoding.decode import decode_clips
from encoders.decoding.isolated import IsolatedDecoder
from encoders.decoding.request import DecodeRequest
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

# It writes with av, which a machine with a GPU may not have.
videos = pytest.importorskip(
    "tests.support.videos", reason="the package 'av' is not installed", exc_type=ImportError
)
pytestmark = pytest.mark.needs_gpu

SPANS = [Span(start_s=1, end_s=None), Span(start_s=0.2, end_s=1.4), Span(start_s=0, end_s=0.12)]
X264 = {"bf": "3", "preset": "veryfast"}
SIZE = {"width": 320, "height": 256, "num_frames": 100}
# H.264 decodes to the same YUV everywhere; what differs is how chroma is interpolated and rounded on the way to RGB.
MAX_MEAN_DIFFERENCE = 2.0
MAX_P999_DIFFERENCE = 24


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("gop_12.mp4", {"options": X264 | {"g": "12"}}),
        ("gop_250.mp4", {"options": X264 | {"g": "250"}}),
        ("gop_2.mp4", {"options": X264 | {"g": "2"}}),
        ("open_gop.mkv", {"options": X264 | {"g": "12", "x264-params": "open-gop=1"}}),
        ("start.mp4", {"options": X264, "pts": tuple(range(100, 200))}),
        ("turned.mp4", {"options": X264, "rotation": 90}),
        ("bt709.mp4", {"options": X264, "colorspace": 1, "color_range": 1}),
    ],
)
def test_nvdec_equals_pyav_on_h264(tmp_path, name, spec):
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    sampling = SamplingConfig(num_frames=7, frame_size=None)
    for picture in ("number", "gradient"):
        path = videos.write_video(
            tmp_path / f"{picture}_{name}", videos.VideoSpec(picture=picture, **SIZE, **spec)
        )
        dali = decode_clips(path, SPANS, sampling, backend="dali", device="cuda")
        pyav = decode_clips(path, SPANS, sampling)
        assert (dali.backend_used, dali.fallback_reason) == ("dali", None)
        assert dali.errors == (None,) * len(SPANS)
        np.testing.assert_array_equal(dali.frame_indices_NT, pyav.frame_indices_NT)
        difference = np.abs(dali.frames_NTHWC.astype(int) - pyav.frames_NTHWC)
        assert difference.mean() <= MAX_MEAN_DIFFERENCE
        assert np.percentile(difference, 99.9) <= MAX_P999_DIFFERENCE or picture == "number"
        if picture == "number" and "rotation" not in spec:
            for clip, indices in zip(dali.frames_NTHWC, dali.frame_indices_NT, strict=True):
                assert videos.read_numbers(clip) == indices.tolist()


def test_a_file_of_keyframes_goes_to_the_cpu_and_spoils_no_other(tmp_path):
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    used = {}
    for group in ("1", "12"):
        spec = videos.VideoSpec(options=X264 | {"g": group}, **SIZE)
        path = videos.write_video(tmp_path / f"{group}.mp4", spec)
        sampling = SamplingConfig(num_frames=7, frame_size=None)
        used[group] = decode_clips(
            path, SPANS, sampling, backend="dali", device="cuda"
        ).backend_used
    assert used == {"1": "pyav", "12": "dali"}


def test_nvdec_shows_the_colours_of_the_file(tmp_path):
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    spec = videos.VideoSpec(options=X264, picture="gradient", colorspace=1, color_range=1, **SIZE)
    path = videos.write_video(tmp_path / "bt709.mp4", spec)
    sampling = SamplingConfig(num_frames=7, frame_size=None, color="file")
    dali = decode_clips(path, SPANS, sampling, backend="dali", device="cuda")
    pyav = decode_clips(path, SPANS, sampling)
    assert dali.backend_used == "dali"
    difference = np.abs(dali.frames_NTHWC.astype(int) - pyav.frames_NTHWC)
    assert difference.mean() <= MAX_MEAN_DIFFERENCE
    assert np.percentile(difference, 99.9) <= MAX_P999_DIFFERENCE


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7])
def test_damage_ends_as_on_the_cpu(tmp_path, at):
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    path = videos.write_video(
        tmp_path / "sound.mp4", videos.VideoSpec(options=X264, picture="gradient", **SIZE)
    )
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + 600] = bytes(600)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    sampling = SamplingConfig(num_frames=7, frame_size=None)
    dali = decode_clips(damaged, SPANS, sampling, backend="dali", device="cuda")
    pyav = decode_clips(damaged, SPANS, sampling)
    assert list(map(str, dali.errors)) == list(map(str, pyav.errors))


def test_nvdec_in_the_child(tmp_path):
    pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")
    path = videos.write_video(tmp_path / "a.mp4", videos.VideoSpec(options=X264, **SIZE))
    request = DecodeRequest(
        video=str(path),
        spans=tuple(SPANS),
        sampling=SamplingConfig(num_frames=5, frame_size=64),
        backend="dali",
        device="cuda",
    )
    with IsolatedDecoder(deadline_s=120, memory_limit_bytes=None) as decoder:
        spans = list(decoder.iter_spans(request))
    assert {(span.backend_used, span.error) for span in spans} == {("dali", None)}
