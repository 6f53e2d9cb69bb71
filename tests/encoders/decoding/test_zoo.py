"""On every file that decodes: the frames of one pass are FFmpeg's in number, time and picture, and those that are sought are the same."""

import pytest

from tests.support.zoo.compare import compare
from tests.support.zoo.files import KINDS, Zoo

# Those that have each kind of oddity; `make test-long` takes every file.
SAMPLE = (
    *("open.mp4", "open.mkv", "closed.m2ts", "closed.flv", "closed.mxf", "pyramid.mp4", "mbaff.ts", "hevc.mp4"),
    *("cut_open.mkv", "cut_hevc.ts", "h264.avi", "genpts.mp4", "negative.mkv", "decode_order.mkv", "doubled.mkv"),
    *("hevc_decode_order.mp4", "vfr.mkv", "edit.mp4", "begun_h264.ts", "begun_mpeg2.ts", "ended.ts", "lost.ts"),
    *("spliced.ts", "two_programs.ts", "mpeg2.mpg", "mpeg2.mxf", "vp9_split.webm", "av1_split.mkv", "exif.mov"),
    *("asp.avi", "xvid_packed.avi", "h263.3gp", "wmv2.wmv", "prores.mov", "ffv1.avi", "qtrle.mov"),
    *("laced.mkv", "no_tfdt.mp4", "begun.mpg", "flipped_time.ts", "lost_packets_h264.ts", "edit_rate.mp4", "cra.mkv"),
)  # fmt: skip
NAMES = [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.long) for name in KINDS]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_ffmpegs_in_number_time_and_picture(zoo, tmp_path, name) -> None:
    compared = compare(zoo.make(name), tmp_path)
    assert compared.wrong == ()
    assert compared.num_frames > 1
