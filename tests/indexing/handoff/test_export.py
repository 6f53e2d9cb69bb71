"""Exported spans, read back by other programs' parsers and decoded by the numbers that they hold."""

import json
import random
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import opentimelineio as otio
import pycmx
import pytest
import webvtt

from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from indexing.handoff.cuts import Pick, make_cuts
from indexing.handoff.export import FORMATS, export_picks
from indexing.handoff.source import SourceTimes, constant_rate
from indexing.handoff.timelines import write_fcpxml
from tests.indexing.handoff.numbered_video import number_of, write_numbered_video

NTSC_30, NTSC_60 = Fraction(30000, 1001), Fraction(60000, 1001)
NUM_FRAMES = 120
KINDS = {
    "24": (Fraction(24), ".mp4", ""),
    "25-tc": (Fraction(25), ".mov", "10:00:00:00"),
    "2997-df": (NTSC_30, ".mov", "01:00:59;20"),
    "2997-ndf": (NTSC_30, ".mov", "01:00:59:20"),
    "2997": (NTSC_30, ".mkv", ""),
    "30": (Fraction(30), ".mkv", ""),
    "50": (Fraction(50), ".mp4", ""),
    "5994-df": (NTSC_60, ".mov", "23:59:58;00"),
}


@pytest.fixture(scope="module", params=KINDS)
def video(request, tmp_path_factory) -> tuple[Path, Fraction, str]:
    rate, suffix, timecode = KINDS[request.param]
    path = tmp_path_factory.mktemp("sources") / f"Über & <{request.param}> 100%{suffix}"
    write_numbered_video(path, rate, NUM_FRAMES, timecode=timecode)
    return path, rate, timecode


def picks_of(path: Path, rate: Fraction, count: int = 12) -> tuple[list[Pick], list[range]]:
    """Spans as users give them, at milliseconds around the frames that they mean."""
    rng = random.Random(1)
    wanted = [range(a, rng.randint(a + 1, NUM_FRAMES)) for a in rng.sample(range(100), count)]
    step_s = 1 / float(rate)
    picks = [
        Pick(
            path=path,
            span=Span(
                start_s=max(round((frames.start - 0.3) * step_s, 3), 0.0),
                end_s=None if frames.stop == NUM_FRAMES else round((frames.stop - 0.4) * step_s, 3),
            ),
            name=f"{i:03} 5253B\n -> <pike> & 2½",
            label="5253B",
        )
        for i, frames in enumerate(wanted)
    ]
    return picks, wanted


def shown_numbers(path: Path, frames: list[int]) -> list[int]:
    """What the pictures themselves say, of frames in display order."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    return [number_of(pictures[frame]) for frame in frames]


def read_back(path: Path, rate: Fraction, first_frame: int) -> list[range]:
    """Frames of the source, from 0, as each format's own reader tells them."""
    suffix = path.suffix
    text = path.read_text()
    if suffix == ".edl":
        events = list(pycmx.parse_cmx3600(path.open()).events)
        codes = [(event.edits[0].source_in, event.edits[0].source_out) for event in events]
        times = [tuple(otio.opentime.from_timecode(str(c), float(rate)) for c in pair) for pair in codes]  # fmt: skip
        return [range(int(a.value) - first_frame, int(b.value) - first_frame) for a, b in times]
    if suffix == ".otio":
        ranges = [
            clip.source_range for clip in otio.adapters.read_from_file(str(path)).find_clips()
        ]
        starts = [int(one.start_time.value) - first_frame for one in ranges]
        return [range(a, a + int(r.duration.value)) for a, r in zip(starts, ranges, strict=True)]
    root = ElementTree.fromstring(text)
    if suffix == ".xml":
        return [range(int(item.findtext("in")), int(item.findtext("out"))) for item in root.iter("clipitem")]  # fmt: skip
    found = []
    for clip in root.iter("asset-clip"):
        start, duration = (Fraction(clip.get(name).rstrip("s")) * rate for name in ("start", "duration"))  # fmt: skip
        assert start.denominator == duration.denominator == 1
        found.append(range(int(start) - first_frame, int(start) - first_frame + int(duration)))
    return found


def test_every_format_names_the_frames_that_were_meant(video, tmp_path) -> None:
    path, rate, timecode = video
    picks, wanted = picks_of(path, rate)
    first = otio.opentime.from_timecode(timecode, float(rate)) if timecode else None
    first_frame = int(first.value) if first else 0
    files = [tmp_path / f"reel{suffix}" for suffix in FORMATS]
    cuts = export_picks(picks, files)
    assert [cut.frames for cut in cuts] == wanted
    for file in files:
        if file.suffix in (".vtt", ".llc"):
            continue
        frames = read_back(file, rate, first_frame)
        assert frames == wanted, file.suffix
    ends = [number for frames in wanted for number in (frames.start, frames.stop - 1)]
    assert shown_numbers(path, ends) == ends
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    shown_s = np.array(times) - times[0]
    segments = json.loads((tmp_path / "reel.llc").read_text())["cutSegments"]
    cues = list(webvtt.read(str(tmp_path / "reel.vtt")))
    assert len(segments) == len(cues) == len(wanted)
    for frames, segment, cue in zip(wanted, segments, cues, strict=True):
        cue_s = [clock_s(cue.start), clock_s(cue.end)]
        for start_s, end_s in ((segment["start"], segment["end"]), cue_s):
            inside = np.flatnonzero((shown_s >= start_s - 1e-6) & (shown_s < end_s - 1e-6))
            assert range(inside[0], inside[-1] + 1) == frames
    assert json.loads((tmp_path / "reel.llc").read_text())["mediaFileName"] == path.name


def clock_s(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


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
    export_picks(picks, [tmp_path / "reel.vtt", tmp_path / "reel.llc"])
    assert len(list(webvtt.read(str(tmp_path / "reel.vtt")))) == 1


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
    picks, _ = picks_of(tmp_path / "a.mov", NTSC_30, count=3)
    cuts = make_cuts([Pick(path=one.path, span=Span(start_s=0.1, end_s=1.0), name="x") for one in picks])  # fmt: skip
    for clip in ElementTree.fromstring(write_fcpxml(cuts, "t")).iter("asset-clip"):
        for name in ("start", "offset", "duration"):
            assert clip.get(name) == "0s" or clip.get(name).endswith("/30000s")
