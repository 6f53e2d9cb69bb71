"""Every frame of a video in order, with the time at which it is shown."""

import numpy as np
import pytest

from encoders.decode import DecodeRequest, Span
from encoders.isolate import IsolatedDecoder
from encoders.media import DecodeError, MediaLimits
from encoders.sampling import SamplingConfig
from encoders.timeline import TIMELINE, iter_timeline


def request(path, *, frames: bool = True, block: int = 16, **limits) -> DecodeRequest:
    return DecodeRequest(
        video=str(path),
        spans=(Span(start_s=0, end_s=None),) if frames else (),
        sampling=SamplingConfig(num_frames=block, frame_size=None),
        limits=MediaLimits(**limits),
    )


def test_every_frame_comes_once_in_order_in_a_child_as_here(make_video, numbers_in) -> None:
    path = make_video("all.mp4", num_frames=50, options={"bf": "2", "g": "12"})
    here = list(iter_timeline(request(path)))
    with IsolatedDecoder(deadline_s=60, decode_function=TIMELINE) as decoder:
        there = list(decoder.iter_spans(request(path)))
    assert [len(block.frame_indices_T) for block in there] == [0, 16, 16, 16, 2]
    assert there[0].frames_THWC is None
    assert there[0].times_s.tolist() == pytest.approx([0, 2.0])
    assert np.concatenate([b.frame_indices_T for b in there]).tolist() == list(range(50))
    assert [n for block in there[1:] for n in numbers_in(block.frames_THWC)] == list(range(50))
    assert there[1].times_s.tolist() == pytest.approx([n / 25 for n in range(17)])
    assert there[-1].times_s.tolist() == pytest.approx([48 / 25, 49 / 25, 2.0])
    for one, other in zip(here, there, strict=True):
        assert one.times_s.tolist() == other.times_s.tolist()


def test_times_are_those_of_a_variable_rate(make_video) -> None:
    path = make_video("vfr.mp4", num_frames=5, pts=(10, 11, 15, 16, 17))
    first, block = iter_timeline(request(path))
    assert block.times_s.tolist() == pytest.approx([0, 0.04, 0.2, 0.24, 0.28, 0.32])
    assert first.times_s.tolist() == pytest.approx([0, 0.32])


def test_without_spans_only_the_end_is_told(make_video) -> None:
    (only,) = iter_timeline(request(make_video("short.mp4", num_frames=10), frames=False))
    assert only.times_s.tolist() == pytest.approx([0, 0.4])


def test_limits_and_damage_are_those_of_decoding(make_video, tmp_path) -> None:
    with pytest.raises(DecodeError, match="limit_exceeded"):
        list(iter_timeline(request(make_video("long.mp4", num_frames=50), max_duration_s=1)))
    (tmp_path / "no.mp4").write_text("#EXTM3U\nhttp://127.0.0.1/x.ts\n")
    with pytest.raises(DecodeError, match="container_not_allowed"):
        list(iter_timeline(request(tmp_path / "no.mp4")))
