"""On every file that decodes: the frames of one pass are FFmpeg's in number, time and picture, and those that are sought are the same."""

from contextlib import closing

import numpy as np
import pytest

from encoders.decoding.pyav_video import PyavVideo
from encoders.media import packets
from encoders.media.container import MediaLimits
from encoders.media.frame_index import forget_index
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
    *("h263.avi", "no_stss.mp4", "palette.avi", "appended.mkv", "full_clock.flv", "cut_plain.mp4", "lost_key.mkv", "no_times.mkv"),
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


@pytest.fixture
def num_read(monkeypatch) -> list[int]:
    """Packets that demuxers gave, of files none of whose packets are kept."""
    count = [0]
    demux = packets.PacketReader._stream_packets

    def counted(self):
        for packet in demux(self):
            count[0] += 1
            yield packet

    monkeypatch.setattr(packets.PacketReader, "_stream_packets", counted)
    monkeypatch.setattr(packets, "_KEPT_BYTES", 0)
    return count


@pytest.mark.parametrize(
    "name",
    [
        *("open.mp4", "open.mkv", "open.ts", "closed.m2ts", "spliced.ts", "lost.ts", "wrapped.ts"),
        *("two_programs.ts", "h264.avi", "closed.mxf", "closed.flv"),
    ],
)
def test_a_frame_of_a_large_file_costs_its_group_of_pictures(zoo, num_read, name) -> None:
    forget_index()
    with closing(PyavVideo(zoo.make(name), MediaLimits())) as video:
        for number in (video.index.num_frames - 1, video.index.num_frames // 2):
            num_read[0] = 0
            assert dict(video.read_frames([number]))[number] is not None
            assert num_read[0] <= video.index.num_packets_for([number]) + 8


@pytest.mark.parametrize("name", ["wmv2.wmv", "mpeg2.mpg"])
def test_a_container_in_which_seeks_lead_nowhere_is_read_on(zoo, num_read, name) -> None:
    """Not from its start for each of the frames."""
    forget_index()
    with closing(PyavVideo(zoo.make(name), MediaLimits())) as video:
        expected = dict(video.read_frames(range(video.index.num_frames)))
        num_read[0] = 0
        for number in range(0, video.index.num_frames, 12):
            np.testing.assert_array_equal(
                dict(video.read_frames([number]))[number], expected[number]
            )
        assert num_read[0] <= 3 * video.index.num_packets
