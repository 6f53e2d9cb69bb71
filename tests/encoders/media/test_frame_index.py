"""Where decoding starts and which frames a span holds, on packet tables written by hand."""

import os
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from encoders.decoding.decode import decode_clips
from encoders.decoding.pyav_video import PyavVideo
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import FrameIndex, Span, forget_index, frames_in_span, plan_span
from encoders.media.sampling import SamplingConfig


def index_of(pts, keyframes, *, hidden=(), time_base=Fraction(1, 25)) -> FrameIndex:
    """Packets in decoding order with these pts; keyframes and hidden are positions."""
    positions = np.arange(len(pts))
    return FrameIndex(
        pts_P=np.array(pts),
        dts_P=positions,
        is_keyframe_P=np.isin(positions, list(keyframes)),
        is_shown_P=~np.isin(positions, list(hidden)),
        time_base=time_base,
        codec="h264",
        width=64,
        height=48,
        is_truncated=False,
    )


# Decoding order I0 P3 B1 B2 | I6 B4 B5 P7: in an open GOP, frames 4 and 5 come after keyframe 6 and need frame 3.
OPEN_GOP = index_of([0, 3, 1, 2, 6, 4, 5, 7], keyframes=[0, 4])


def test_display_order_and_open_gop():
    assert OPEN_GOP.shown_positions.tolist() == [0, 2, 3, 1, 5, 6, 4, 7]
    assert [OPEN_GOP.start_position(number) for number in range(8)] == [0, 0, 0, 0, 0, 0, 4, 4]


def test_hidden_packets_shift_the_numbers():
    index = index_of([-2, -1, 0, 1, 2], keyframes=[0], hidden=[0, 1])
    assert index.num_frames == 3
    assert index.shown_pts.tolist() == [0, 1, 2]
    assert index.start_position(0) == 0


@pytest.mark.parametrize(
    ("position", "start", "skips"),
    [(0, 0, False), (0, 3, False), (0, 6, True), (3, 6, False), (2, 9, True), (11, 9, False)],
)
def test_a_seek_over_few_packets_must_skip_a_keyframe(position, start, skips):
    index = index_of(range(12), keyframes=[0, 3, 6, 9])
    assert index.should_seek(position, start) is skips


def test_starts_are_the_last_keyframes_not_shown_later_whatever_the_times_say():
    rng = np.random.default_rng(0)
    for _ in range(50):
        pts = rng.permutation(40)
        keyframes = set(rng.choice(40, 12, replace=False).tolist())
        index = index_of(pts, keyframes)
        for number, position in enumerate(index.shown_positions.tolist()):
            wanted = [k for k in keyframes if k <= position and pts[k] <= pts[position]]
            assert index.start_position(number) == max(wanted, default=0)


def test_one_late_frame_costs_no_more_than_the_others():
    """A step back from keyframe to keyframe over all frames would take minutes here."""
    pts = np.arange(1, 400_001)
    pts[-1] = 0
    assert index_of(pts, range(0, 400_000, 2)).start_position(0) == 0


def cut_file(pts) -> FrameIndex:
    return replace(index_of(pts, keyframes=[0]), is_truncated=True)


@pytest.mark.parametrize("wrong", [[], [10**9], [25 * 3600, 25 * 7200]])
def test_a_wrong_time_at_a_cut_end_makes_no_lost_frame_seem_there(wrong):
    """25 frames of a second are left, whatever the last ones say."""
    limits, whole = MediaLimits(), Span(start_s=0.2, end_s=0.8)
    index = cut_file([*range(25), *wrong])
    assert plan_span(index, whole, 4, limits, None).max() < 20
    for span in (Span(start_s=0.5, end_s=1.5), Span(start_s=0, end_s=None)):
        with pytest.raises(DecodeError, match=r"cut off after 1\.000 s"):
            plan_span(index, span, 4, limits, None)
    slow = cut_file(range(0, 25 * 60, 25))  # a frame a second is no jump
    assert plan_span(slow, Span(start_s=10, end_s=50), 4, limits, None).tolist()


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
def test_spans_on_frame_times_survive_rounding_to_milliseconds(fps):
    """Matroska rounds 1/30 s to 33 ms; a span made of exact frame times still holds exactly its frames."""
    pts = [round(1000 * number / fps) for number in range(200)]
    index = index_of(pts, keyframes=[0], time_base=Fraction(1, 1000))
    for first in range(0, 150, 7):
        for num_frames in (1, 2, 13):
            span = Span(start_s=first / fps, end_s=(first + num_frames) / fps)
            assert frames_in_span(index, span) == range(first, first + num_frames)


def test_spans_are_half_open_and_clamped():
    index = index_of(range(100, 150), keyframes=[0])
    assert frames_in_span(index, Span(start_s=0, end_s=0.04)) == range(1)
    assert frames_in_span(index, Span(start_s=1.9 / 25, end_s=2.1 / 25)) == range(2, 3)
    assert frames_in_span(index, Span(start_s=1.9, end_s=99)) == range(48, 50)
    assert frames_in_span(index, Span(start_s=1.9, end_s=None)) == range(48, 50)
    assert not frames_in_span(index, Span(start_s=2.0, end_s=None))


def test_the_long_rest_of_a_group_of_pictures_is_skipped():
    index = index_of(range(500), keyframes={0, 250})
    assert index.should_seek(75, 250)
    assert not index.should_seek(240, 250)


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
