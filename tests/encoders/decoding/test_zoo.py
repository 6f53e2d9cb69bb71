"""On every file that decodes: the frames of one pass are FFmpeg's in number, time and picture, and those that are sought are the same."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from encoders.decoding.pyav_video import PyavVideo
from encoders.media import packets
from encoders.media.container import MediaLimits
from encoders.media.frame_index import forget_index
from tests.support.zoo import KINDS, Zoo, reference

# Those that have each kind of oddity; `make test-long` takes every file.
SAMPLE = (
    *("open.mp4", "open.mkv", "closed.m2ts", "closed.flv", "closed.mxf", "pyramid.mp4", "mbaff.ts", "hevc.mp4"),
    *("cut_open.mkv", "cut_hevc.ts", "h264.avi", "genpts.mp4", "negative.mkv", "decode_order.mkv", "doubled.mkv"),
    *("hevc_decode_order.mp4", "vfr.mkv", "edit.mp4", "begun_h264.ts", "begun_mpeg2.ts", "ended.ts", "lost.ts"),
    *("spliced.ts", "two_programs.ts", "mpeg2.mpg", "mpeg2.mxf", "vp9_split.webm", "av1_split.mkv", "exif.mov"),
    *("asp.avi", "xvid_packed.avi", "h263.3gp", "wmv2.wmv", "prores.mov", "ffv1.avi", "qtrle.mov"),
)  # fmt: skip
NAMES = [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.long) for name in KINDS]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


def check(path: Path, folder: Path, monkeypatch, seed: int = 0) -> int:
    """The number of frames compared."""
    expected = reference(path, folder)
    forget_index()
    with closing(PyavVideo(path, MediaLimits())) as video:
        index = video.index
        assert index.num_frames == len(expected.frames_FHWC)
        tick_s = max(float(index.time_base), 0.001)
        is_near = np.abs(index.shown_times_s - expected.times_s) <= 1.01 * tick_s
        if (
            np.diff(expected.times_s) <= 0
        ).any():  # FFmpeg's command gives made-up times on as they are
            is_near |= np.abs(index.shown_times_s - np.arange(index.num_frames) / 25) <= 0.041
        assert is_near.all(), (index.shown_times_s, expected.times_s)
        one_pass = dict(video.read_frames(range(index.num_frames)))
    for number, frame_HWC in one_pass.items():
        assert frame_HWC is not None, number
        difference = np.abs(frame_HWC.astype(int) - expected.frames_FHWC[number]).mean()
        assert difference < 4, (number, difference)
    rng = np.random.default_rng(seed)
    for kept_bytes in (32 << 20, 0):
        monkeypatch.setattr(packets, "_KEPT_BYTES", kept_bytes)
        forget_index()
        for count in (1, 2, 5):
            with closing(PyavVideo(path, MediaLimits())) as video:
                count = min(count, video.index.num_frames)
                numbers = sorted(rng.choice(video.index.num_frames, count, replace=False).tolist())
                frames = dict(video.read_frames(numbers))
            assert sorted(frames) == numbers
            for number, frame_HWC in frames.items():
                assert frame_HWC is not None, number
                np.testing.assert_array_equal(frame_HWC, one_pass[number], f"frame {number}")
    return len(one_pass)


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_ffmpegs_in_number_time_and_picture(zoo, tmp_path, monkeypatch, name) -> None:
    assert check(zoo.make(name), tmp_path, monkeypatch) > 1
