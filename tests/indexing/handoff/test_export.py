"""What exports hold and what they refuse; benchmarks/studies/handoff.py reads all kinds back and decodes them."""

import json
from fractions import Fraction
from xml.etree import ElementTree

import av
import numpy as np
import opentimelineio as otio
import pytest
import webvtt

from benchmarks.studies.numbered_video import write_numbered_video
from encoders.decoding.source import SourceTimes, constant_rate
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from indexing.handoff.cuts import Pick, make_cuts
from indexing.handoff.export import FORMATS, export_picks
from indexing.handoff.reel import render_reel
from indexing.handoff.timelines import write_fcpxml

NTSC_30 = Fraction(30000, 1001)


def test_paths_names_drop_frame_and_reels_arrive(tmp_path) -> None:
    path = tmp_path / "Größe #1 100%.mov"
    write_numbered_video(path, NTSC_30, 60, timecode="01:00:59;20")
    picks = [Pick(path=path, span=Span(start_s=0.5, end_s=1.5), name="a\0b\n<c> & d", label="l")]
    files = [tmp_path / f"out{suffix}" for suffix in FORMATS]
    export_picks(picks, files)
    edl = (tmp_path / "out.edl").read_text()
    assert "FCM: DROP FRAME" in edl
    assert "01:01:00;07 01:01:01;07 01:00:00;00 01:00:01;00" in edl
    assert "GRSSE110" in edl
    sequence = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert sequence.findtext(".//file/pathurl") == path.as_uri()
    assert sequence.findtext(".//file/timecode/string") == "01:00:59;20"
    assert sequence.findtext(".//file/timecode/displayformat") == "DF"
    assert sequence.findtext(".//clipitem/name") == "a b <c> & d"
    asset = ElementTree.parse(tmp_path / "out.fcpxml").getroot().find(".//media-rep")
    assert asset is not None
    assert asset.get("src") == path.as_uri()


def test_a_rate_without_timecode_is_refused_where_timecode_is_written(tmp_path) -> None:
    for rate, refusing in (
        (Fraction(25, 2), (".edl", ".xml")),
        (Fraction(120000, 1001), (".edl",)),  # frames would take three digits
    ):
        path = tmp_path / f"at {float(rate):.1f}.mp4"
        write_numbered_video(path, rate, 60)
        picks = [Pick(path=path, span=Span(start_s=0.1, end_s=0.4), name="a")]
        for suffix in refusing:
            with pytest.raises(ValueError, match="timecodes of such a file cannot tell"):
                export_picks(picks, [tmp_path / f"a{suffix}"])
        export_picks(picks, [tmp_path / f"a{suffix}" for suffix in (".otio", ".fcpxml", ".vtt")])


def test_texts_that_a_format_cannot_hold_do_not_break_it(tmp_path) -> None:
    path = tmp_path / "two\nlines.mp4"
    write_numbered_video(path, Fraction(25), 30)
    picks = [Pick(path=path, span=Span(start_s=0.1, end_s=0.5), name="a", note="b\x0bc\x01\ufffe")]
    files = [tmp_path / f"out{suffix}" for suffix in FORMATS]
    export_picks(picks, files)
    assert ElementTree.parse(tmp_path / "out.xml").getroot().findtext(".//lognote") == "b c  "
    note = ElementTree.parse(tmp_path / "out.fcpxml").getroot().findtext(".//note")
    assert note == "b c  "
    assert "* FROM CLIP NAME: two lines.mp4\n" in (tmp_path / "out.edl").read_text()
    assert len(list(webvtt.read(str(tmp_path / "out.vtt")))) == 1


def test_a_reel_never_replaces_a_video_that_it_is_made_of(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    write_numbered_video(path, Fraction(25), 30)
    before = path.read_bytes()
    (tmp_path / "link.mp4").symlink_to(path)
    picks = [Pick(path=path, span=Span(start_s=0.1, end_s=0.5), name="a")]
    for name in ("a.mp4", "link.mp4"):
        with pytest.raises(ValueError, match="one of the videos that it is made of"):
            render_reel(picks, tmp_path / name)
    assert path.read_bytes() == before


def test_a_variable_rate_is_refused_where_frames_are_counted_and_not_where_seconds_are(
    tmp_path,
) -> None:
    path = tmp_path / "phone.mp4"
    write_numbered_video(path, Fraction(30), 60, gaps={20: 3, 41: 1})
    picks = [Pick(path=path, span=Span(start_s=0.2, end_s=1.6), name="a")]
    for suffix in (".otio", ".edl", ".fcpxml", ".xml"):
        with pytest.raises(ValueError, match=r"phone\.mp4 has a variable frame rate"):
            export_picks(picks, [tmp_path / "good.vtt", tmp_path / f"reel{suffix}"])
    assert not (tmp_path / "good.vtt").exists()  # all or none
    export_picks(picks, [tmp_path / f"reel{suffix}" for suffix in (".vtt", ".llc", ".json")])
    (video,) = json.loads((tmp_path / "reel.json").read_text())["videos"]
    assert video["path"] == str(path)
    assert [one["label"] for one in video["annotations"]] == ["a"]
    assert len(list(webvtt.read(str(tmp_path / "reel.vtt")))) == 1


def test_what_was_indexed_under_raised_limits_is_exported(tmp_path) -> None:
    path = tmp_path / "fast.mp4"
    write_numbered_video(path, Fraction(480), 300)
    picks = [Pick(path=path, span=Span(start_s=0.1, end_s=0.5), name="a")]
    # The frames of an EDL have two digits.
    export_picks(picks, [tmp_path / f"reel{suffix}" for suffix in FORMATS if suffix != ".edl"])
    render_reel(picks, tmp_path / "reel.mp4")
    with av.open(str(tmp_path / "reel.mp4")) as reel:
        assert sum(1 for _ in reel.decode(video=0)) == 192


def test_rates_that_share_no_timeline_are_named(tmp_path) -> None:
    picks = []
    for name, rate in (("a.mp4", Fraction(25)), ("b.mp4", Fraction(30))):
        write_numbered_video(tmp_path / name, rate, 50)
        picks.append(Pick(path=tmp_path / name, span=Span(start_s=0.0, end_s=1.0), name=name))
    for suffix in (".edl", ".fcpxml", ".xml"):
        with pytest.raises(ValueError, match=r"2 frame rates: 25\.000 \(.*a\.mp4\), 30\.000"):
            export_picks(picks, [tmp_path / f"reel{suffix}"])
    export_picks(picks, [tmp_path / "reel.otio", tmp_path / "reel.vtt"])
    clips = list(otio.adapters.read_from_file(str(tmp_path / "reel.otio")).find_clips())
    assert [clip.source_range.duration.rate for clip in clips] == [25.0, 30.0]
    cues = list(webvtt.read(str(tmp_path / "reel.vtt")))
    assert [(cue.start, cue.end) for cue in cues] == [
        ("00:00:00.000", "00:00:01.000"),
        ("00:00:01.000", "00:00:02.000"),
    ]
    with pytest.raises(ValueError, match="the spans are of 2 videos"):
        export_picks(picks, [tmp_path / "reel.llc"])


def test_bad_wishes_are_named(tmp_path) -> None:
    write_numbered_video(tmp_path / "a.mp4", Fraction(25), 50)
    pick = Pick(path=tmp_path / "a.mp4", span=Span(start_s=9.0, end_s=10.0), name="late")
    with pytest.raises(ValueError, match=r"no frame in \[9, 10\); its last one is at 1\.960 s"):
        export_picks([pick], [tmp_path / "a.edl"])
    with pytest.raises(ValueError, match=r"must end in one of \.otio"):
        export_picks([pick], [tmp_path / "a.avi"])
    with pytest.raises(ValueError, match="there is no folder"):
        export_picks([pick], [tmp_path / "nowhere" / "a.edl"])
    with pytest.raises(ValueError, match="no spans"):
        export_picks([], [tmp_path / "a.edl"])
    with pytest.raises(DecodeError, match=r"gone\.mp4"):
        make_cuts([Pick(path=tmp_path / "gone.mp4", span=pick.span, name="")])


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), NTSC_30, Fraction(60)])
@pytest.mark.parametrize("tick_s", [1 / 90_000, 1 / 1000, 1 / 12_800])
def test_the_rate_of_ten_hours_is_exact_whatever_the_container_rounds(rate, tick_s) -> None:
    numbers = np.arange(10 * 3600 * int(rate))
    times_s = np.round(numbers / float(rate) / tick_s) * tick_s
    times = SourceTimes(times_s=times_s, tick_s=tick_s, width=1, height=1, timecode="", reel="")
    assert constant_rate(times) == rate


def test_no_frame_of_fcpxml_is_rounded(tmp_path) -> None:
    write_numbered_video(tmp_path / "a.mov", NTSC_30, 90, timecode="23:00:00;00")
    picks = [
        Pick(path=tmp_path / "a.mov", span=Span(start_s=start_s, end_s=start_s + 1), name="x")
        for start_s in (0.0, 0.51, 1.27)
    ]
    cuts = make_cuts(picks)
    for clip in ElementTree.fromstring(write_fcpxml(cuts, "t")).iter("asset-clip"):
        for name in ("start", "offset", "duration"):
            assert clip.get(name) == "0s" or clip.get(name).endswith("/30000s")
