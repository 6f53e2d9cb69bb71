"""Labels of frames as times of a video: the frame that is shown at that time is the one of the label."""

from fractions import Fraction

import pytest

from encoders.decoding.decode import decode_clips
from encoders.decoding.source import VideoClock
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig
from indexing.search.types import parse_file
from tests.support.zoo.files import Zoo, encoded, remuxed
from training.annotations.readers.clip_table import read_clip_table
from training.annotations.readers.rows import Problems

X264 = "-c:v libx264 -preset ultrafast -g 30 -vf scale=32:32"
NTSC = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Zoo:
    zoo = Zoo(tmp_path_factory.mktemp("clock"))
    encoded(X264, num_frames=1830, rate="30000/1001")(zoo, zoo.folder / "ntsc.mp4")
    encoded(X264 + " -timecode 01:00:00;00", num_frames=60, rate="30000/1001")(zoo, zoo.folder / "tape.mov")  # fmt: skip
    encoded(X264, num_frames=75)(zoo, zoo.folder / "pal.mkv")
    remuxed("vfr.mkv")(zoo, zoo.folder / "variable.mkv")
    return zoo


@pytest.mark.parametrize(
    ("name", "label", "frame", "rate"),
    [
        ("pal.mkv", "00:00:02:12", 62, Fraction(25)),
        ("pal.mkv", "0:00:01;24", 49, Fraction(25)),  # no drop-frame at 25
        ("ntsc.mp4", "00:00:59;29", 1799, NTSC),
        ("ntsc.mp4", "00:01:00;02", 1800, NTSC),  # ;00 and ;01 are left out
        ("ntsc.mp4", "00;01;00;20", 1818, NTSC),
        ("ntsc.mp4", "00:01:00:02", 1802, NTSC),  # every label counted
        ("tape.mov", "01:00:01;15", 45, NTSC),
    ],
)
def test_a_label_is_the_time_of_its_frame(zoo, name, label, frame, rate) -> None:
    with VideoClock() as clock:
        start_s = clock.seconds(label, zoo.folder / name)
    assert start_s == pytest.approx(float(frame / rate), abs=1e-9)
    if frame + 2 < 1830:
        span = Span(start_s=start_s, end_s=None)
        clips = decode_clips(
            zoo.folder / name, [span], SamplingConfig(num_frames=2000, frame_size=8)
        )
        assert clips.frame_indices_NT[0, 0] == frame


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("pal.mkv", "00:00:00:25", "does not exist at 25"),
        ("ntsc.mp4", "00:01:00;01", "drop-frame leaves out"),
        ("tape.mov", "00:00:01;00", "before 01:00:00;00, the first one of tape.mov"),
        ("variable.mkv", "00:00:01:00", "constant frame rate"),
    ],
)
def test_labels_that_a_video_does_not_have_are_named(zoo, name, label, message) -> None:
    with pytest.raises(ValueError, match=message), VideoClock() as clock:
        clock.seconds(label, zoo.folder / name)


def test_spans_of_files_and_rows_of_tables_take_labels(zoo, tmp_path) -> None:
    place = parse_file(f"{zoo.folder / 'pal.mkv'}@00:00:01:05-00:00:02:00")
    assert place is not None
    assert (place.start_s, place.end_s) == (1.2, 2.0)
    place = parse_file(f"{zoo.folder / 'ntsc.mp4'}@00:01:00;02-")
    assert place is not None
    assert (place.start_s, place.end_s) == (pytest.approx(60.06), None)
    table = tmp_path / "clips.csv"
    table.write_text(
        "video_uri,start_s,end_s\n"
        f"{zoo.folder / 'pal.mkv'},00:00:00:05,0:01\n"
        f"{zoo.folder / 'pal.mkv'},00:00:00:25,2\n"
        f"{tmp_path / 'none.mp4'},00:00:00:05,2\n"
    )
    problems = Problems(skip_bad=True)
    (clip,) = read_clip_table(table, problems)
    assert (clip.start_s, clip.end_s) == (0.2, 1.0)
    assert [text.split(": ")[1] for text in problems.messages] == ["line 3", "line 4"]


def test_a_video_is_read_only_for_labels(tmp_path) -> None:
    clock = VideoClock()
    assert clock.seconds("1:02", tmp_path / "none.mp4") == 62
    with pytest.raises(DecodeError, match=r"none\.mp4"):
        clock.seconds("00:00:01:02", tmp_path / "none.mp4")
