"""The packets of a file are read once while it stays as it is; that its frames are the same then is held by test_decode."""

import os
import shutil

import pytest

from encoders.decode import DecodeError, Span, decode_clips
from encoders.decode_pyav import PyavVideo
from encoders.last_index import forget_index
from encoders.media import MediaLimits
from encoders.sampling import SamplingConfig

SAMPLING = SamplingConfig(num_frames=7, frame_size=None)


@pytest.fixture
def reads(monkeypatch):
    """Paths whose packets were read."""
    paths = []
    real = PyavVideo._read_index
    monkeypatch.setattr(
        PyavVideo, "_read_index", lambda video: (paths.append(video.path), real(video))[1]
    )
    forget_index()
    yield paths
    forget_index()


def test_another_file_a_changed_one_and_other_limits_are_read(make_video, reads, tmp_path):
    path = tmp_path / "mine.mp4"
    shutil.copy(make_video("a.mp4", num_frames=60), path)
    span = [Span(start_s=0, end_s=2)]
    decode_clips(path, span, SAMPLING)
    other = make_video("b.mp4", num_frames=50)
    decode_clips(other, span, SAMPLING)
    decode_clips(path, span, SAMPLING)
    assert reads == [path, other, path]
    decode_clips(path, span, SAMPLING)
    assert len(reads) == 3
    os.utime(path, ns=(0, 0))
    decode_clips(path, span, SAMPLING)
    assert len(reads) == 4
    with pytest.raises(DecodeError, match="max_frames is 30"):
        decode_clips(path, span, SAMPLING, limits=MediaLimits(max_frames=30))
    shutil.copy(other, path)
    assert decode_clips(path, [Span(start_s=0, end_s=None)], SAMPLING).frame_indices_NT.max() < 50


def test_an_index_that_ended_early_is_read_again(make_video, reads, tmp_path):
    """A read error of a network drive may have passed by then."""
    path = tmp_path / "cut.mkv"
    data = make_video("a.mkv", num_frames=60).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    for _ in range(2):
        decode_clips(path, [Span(start_s=0, end_s=0.2)], SAMPLING)
    assert reads == [path, path]
