"""A decode backend that is registered from outside decodes, is chosen, checked and reported without any other change."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.doctor.codecs import find_codecs
from encoders.decoding.backends import (
    DECODE_BACKENDS,
    DecodeBackend,
    choose_decode_backend,
    decode_backend,
)
from encoders.decoding.decode import decode_clips
from encoders.decoding.device import iter_device_spans
from encoders.decoding.request import DecodeRequest
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig
from encoders.stages.base import clip_rows_of
from encoders.stages.decode_stage import DecodeStage
from indexing.pipeline.workers import WorkerOptions
from training.recipes import demo_actions
from training.vectors.compute import VectorsConfig

SPANS = [Span(start_s=0, end_s=0.5), Span(start_s=0.4, end_s=None)]
SAMPLING = SamplingConfig(num_frames=4, frame_size=16)


class NegativeVideo:
    """Frames in negative, so that a test sees who decoded them."""

    backend_used = "negative"
    fallback_reason = None

    def __init__(self, video) -> None:
        self._video = video
        self.index = video.index
        self.last_error = ""

    @property
    def num_frames_decoded(self) -> int:
        return self._video.num_frames_decoded

    def read_frames(self, numbers, out_buffer_for=None) -> Iterator[tuple[int, np.ndarray]]:
        for number, frame_HWC in self._video.read_frames(numbers):
            yield number, 255 - frame_HWC


@pytest.fixture
def negative(monkeypatch) -> DecodeBackend:
    backend = DecodeBackend(
        label="Negative",
        device_kinds=("cpu", "cuda"),
        open_source=lambda video, _device, _keeps_on_device: NegativeVideo(video),
        list_codecs=lambda kind: ["h264"] if kind == "cpu" else ["h264", "vp9"],
        module="json.decoder",
    )
    monkeypatch.setitem(DECODE_BACKENDS, "negative", backend)
    return backend


@pytest.mark.usefixtures("negative")
def test_a_registered_backend_decodes_on_the_host_and_on_a_device(make_video):
    video = make_video("a.mp4", num_frames=25)
    usual, toy = (decode_clips(video, SPANS, SAMPLING, backend=name) for name in ("pyav", "negative"))  # fmt: skip
    assert (usual.backend_used, toy.backend_used) == ("pyav", "negative")
    # Antialiased edges may round the other way.
    difference = toy.frames_NTHWC.astype(int) - (255 - usual.frames_NTHWC.astype(int))
    assert abs(difference).max() <= 1
    np.testing.assert_array_equal(toy.frame_indices_NT, usual.frame_indices_NT)
    request = DecodeRequest(
        video=str(video), spans=tuple(SPANS), sampling=SAMPLING, backend="negative"
    )
    with closing(iter_device_spans(request)) as spans:
        for span in spans:
            assert span.device_frames_THWC is not None
            frames = span.device_frames_THWC.numpy()
            np.testing.assert_array_equal(frames, toy.frames_NTHWC[span.number])


@pytest.mark.usefixtures("negative")
def test_the_decode_stage_takes_it(make_video):
    stage = DecodeStage(sampling=SAMPLING, backend="negative", isolate=False)
    row = {
        "video_uri": str(make_video("a.mp4", num_frames=25)),
        "clip_ids": ["a"],
        "spans": [{"start_s": 0.0, "end_s": None}],
    }
    (clip,) = stage.clips(row["video_uri"], clip_rows_of(row))
    assert (clip["decode_backend"], clip["error"]["reason"]) == ("negative", "")


def test_every_config_takes_registered_names_and_no_others(negative, tmp_path):
    paths = dict.fromkeys(("clips", "bundle", "out"), tmp_path)
    makers = {
        "workers": lambda name: WorkerOptions(decode=name).decode,
        "stage 1": lambda name: replace(demo_actions(), decode_backend=name).decode_backend,
        "vectors": lambda name: VectorsConfig(decode_backend=name, **paths).decode_backend,
        "request": lambda name: (
            DecodeRequest(video="a.mp4", spans=(), sampling=SAMPLING, backend=name).backend
        ),
    }
    for make in makers.values():
        assert make("negative") == "negative"
        allowed = "must be one of pyav, dali, pynv, negative$"
        with pytest.raises(ValueError, match=f"decode backend is 'positive'; it {allowed}"):
            make("positive")


def test_the_choice_follows_the_device_and_what_is_installed(negative, monkeypatch):
    # Not `delitem`: what it puts back stands at the end, and the order says which is advised.
    kept = {name: one for name, one in DECODE_BACKENDS.items() if name != "dali"}
    monkeypatch.setattr("encoders.decoding.backends.DECODE_BACKENDS", kept)
    assert choose_decode_backend("auto", "cuda:1") == "negative"
    assert choose_decode_backend("auto", "cpu") == "pyav"
    assert choose_decode_backend("pyav", "cuda") == "pyav"
    assert decode_backend("negative").device_kind_for("cuda:1") == "cuda"
    assert decode_backend("pyav").device_kind_for("cuda") == "cpu"
    missing = DecodeBackend(
        label="Missing",
        device_kinds=("cuda",),
        open_source=negative.open_source,
        list_codecs=negative.list_codecs,
        module="no_such_package.decoder",
        extra="missing",
    )
    monkeypatch.setitem(kept, "negative", missing)
    assert choose_decode_backend("auto", "cuda") == "pyav"
    reason = "Missing needs the module 'no_such_package.decoder': pip install -e '.[missing]'"
    assert missing.import_error() == reason


@pytest.mark.usefixtures("negative")
def test_doctor_reports_it():
    rows = {row["name"]: row for row in find_codecs(has_gpu=False)}
    assert rows["Negative on the CPU"]["detail"] == "h264; all else goes to PyAV"
    assert rows["Negative on a GPU"]["detail"] == "needs a GPU, then: h264, vp9"
    assert not rows["Negative on a GPU"]["is_ok"]
