"""A trimmed span holds just the frames that the span stands for, read back by their pictures."""

import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from encoders.decoding import trim
from encoders.decoding.trim import trim_video
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span


def read_back(path: Path) -> tuple[np.ndarray, list[float]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), [
        round(float(frame.time), 4) for frame in frames
    ]


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv"])
def test_the_frames_are_those_of_the_span(make_video, numbers_in, tmp_path, name):
    video = make_video(name, options={"g": "12"})
    trim._write_span(video, Span(start_s=0.6, end_s=1.0), tmp_path / "out.mp4")
    frames, times_s = read_back(tmp_path / "out.mp4")
    assert numbers_in(frames) == list(range(15, 25))
    assert times_s == [round(n / 25, 4) for n in range(10)]


def test_spans_count_from_the_first_frame_and_keep_their_pace(make_video, numbers_in, tmp_path):
    pts = tuple(100 + n + (n > 12) * 10 for n in range(20))  # late, with a pause of 0.4 s
    video = make_video("late.mkv", num_frames=20, pts=pts)
    trim._write_span(video, Span(start_s=0.4, end_s=None), tmp_path / "out.mp4")
    frames, times_s = read_back(tmp_path / "out.mp4")
    assert numbers_in(frames) == list(range(10, 20))
    assert times_s == [round((pts[n] - pts[10]) / 25, 4) for n in range(10, 20)]


def test_a_turned_video_is_shown_as_it_asks(make_video, numbers_in, tmp_path):
    video = make_video("turned.mp4", num_frames=4, rotation=90)
    trim._write_span(video, Span(start_s=0, end_s=None), tmp_path / "out.mp4")
    frames, _ = read_back(tmp_path / "out.mp4")
    assert frames.shape[1:3] == (64, 48)
    assert numbers_in(np.rot90(frames, -1, axes=(1, 2))) == list(range(4))


def test_an_open_span_may_not_be_longer_than_a_closed_one(make_video, tmp_path, monkeypatch):
    monkeypatch.setattr(trim, "MAX_SPAN_S", 1.0)
    video = make_video("video.mp4")
    for end_s in (1.5, -1.0, float("nan")):
        with pytest.raises(DecodeError, match="limit_exceeded"):
            trim_video(video, start_s=0, end_s=end_s, out=tmp_path / "out.mp4")
    with pytest.raises(DecodeError, match="limit_exceeded"):
        trim._write_span(video, Span(start_s=0, end_s=None), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_trim_that_is_not_wanted_any_more_ends_at_once(make_video, tmp_path):
    video = make_video("video.mp4")
    before = set(psutil.Process().children())
    start_s = time.monotonic()
    with pytest.raises(DecodeError, match="was cancelled"):
        trim_video(video, start_s=0, end_s=1, out=tmp_path / "out.mp4", is_cancelled=lambda: True)
    assert time.monotonic() - start_s < 10  # its deadline is longer
    assert set(psutil.Process().children()) <= before


def test_what_is_no_video_is_refused_with_its_reason(make_video, numbers_in, tmp_path):
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    with pytest.raises(DecodeError, match="container_not_allowed: its first bytes"):
        trim_video(playlist, start_s=0, end_s=1, out=tmp_path / "out.mp4")
    video = make_video("video.mp4")
    with pytest.raises(DecodeError, match="span_outside_video"):
        trim._write_span(video, Span(start_s=9, end_s=10), tmp_path / "out.mp4")
    trim_video(video, start_s=1.8, end_s=None, out=tmp_path / "out.mp4")
    assert numbers_in(read_back(tmp_path / "out.mp4")[0]) == [45, 46, 47, 48, 49]
