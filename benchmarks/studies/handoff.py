"""Exports spans of many kinds of videos, reads them back with other programs' parsers, and decodes the frames that they name.

The same spans go through a basket and into a reel, whose frames are decoded too.
"""

import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from benchmarks.studies.numbered_video import read_numbered_video, write_numbered_video
from cluster.progress import progress_bar
from cluster.storage import write_atomic
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from indexing.handoff.basket import Basket
from indexing.handoff.cuts import Pick, make_cuts
from indexing.handoff.export import FORMATS
from indexing.search.types import ClipPlace

IN_FRAMES = (".otio", ".edl", ".fcpxml", ".xml")
NTSC_24, NTSC_30, NTSC_60 = (Fraction(rate * 1000, 1001) for rate in (24, 30, 60))


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of video."""

    name: str
    """Also its file's name: with spaces, quotes and other scripts, as users have."""
    rate: Fraction
    suffix: str = ".mp4"
    timecode: str = ""
    is_variable: bool = False


KINDS = (
    Kind(name="23.976 film", rate=NTSC_24, suffix=".mov", timecode="00:59:50:00"),
    Kind(name="24", rate=Fraction(24)),
    Kind(name="25 of the tenth hour", rate=Fraction(25), suffix=".mov", timecode="10:00:00:00"),
    Kind(name="29.97 drop frame", rate=NTSC_30, suffix=".mov", timecode="01:00:59;20"),
    Kind(name="29.97 'non-drop'", rate=NTSC_30, suffix=".mov", timecode="01:00:59:20"),
    Kind(name="29.97 & <no> timecode", rate=NTSC_30, suffix=".mkv"),
    Kind(name="30 #1 100%", rate=Fraction(30), suffix=".mkv"),
    Kind(name="50 Größe", rate=Fraction(50)),
    Kind(name="59.94 at midnight", rate=NTSC_60, suffix=".mov", timecode="23:59:58;00"),
    Kind(name="60 跳水", rate=Fraction(60), suffix=".webm.mkv"),
    Kind(name="variable", rate=Fraction(30), is_variable=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Export spans for editing programs, read them back and decode what they name."""

    num_spans: int = 500
    """Spans over all kinds of videos."""
    num_frames: int = 240
    """Frames of each video, at most 1000."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 20 <= self.num_frames <= 1000:
            raise ValueError(f"num_frames is {self.num_frames}; it must be between 20 and 1000")
        if self.num_spans < len(KINDS):
            raise ValueError(f"num_spans is {self.num_spans}; it must be at least {len(KINDS)}")
        missing = [n for n in ("pycmx", "webvtt", "opentimelineio") if find_spec(n) is None]
        if missing:
            raise ValueError(f"packages are missing: {', '.join(missing)}; pip install -e '.[dev]'")


def measure(config: Config) -> dict[str, object]:
    """How many spans are off by a frame in any format, and how many a parser rejected."""
    rng = random.Random(config.seed)
    names = ("spans", "spans_read_back", "spans_in_reel", "off_by_a_frame", "rejected", "refused_variable")  # fmt: skip
    counts: dict[str, int] = dict.fromkeys(names, 0)
    shown: list[tuple[Pick, list[int]]] = []
    per_kind = -(-config.num_spans // len(KINDS))
    with (
        tempfile.TemporaryDirectory() as name,
        progress_bar("handing off", len(KINDS)) as update,
    ):
        for done, kind in enumerate(KINDS, start=1):
            count = min(per_kind, config.num_spans - counts["spans"])
            path = Path(name) / f"{kind.name}{kind.suffix}"
            gaps = {30 * i + 7: i for i in range(1, 6)} if kind.is_variable else None
            write_numbered_video(
                path, kind.rate, config.num_frames, timecode=kind.timecode, gaps=gaps
            )
            shown += _check_kind(kind, path, count, rng, counts)
            counts["spans"] += count
            update(done)
        _check_reel(Path(name), shown, counts)
    return {**counts, "formats": len(FORMATS), "kinds": len(KINDS)}


def _check_kind(
    kind: Kind, path: Path, count: int, rng: random.Random, counts: dict[str, int]
) -> list[tuple[Pick, list[int]]]:
    """The spans, and the numbers that their frames show."""
    numbers, times_s = read_numbered_video(path)
    wanted = [
        range(first, rng.randint(first + 1, len(numbers)))
        for first in (rng.randrange(len(numbers) - 1) for _ in range(count))
    ]
    picks = [_pick(path, frames, times_s, rng) for frames in wanted]
    cuts = make_cuts(picks)
    for suffix, write in FORMATS.items():
        file = path.with_name(f"reel{suffix}")
        try:
            write_atomic(file, write(cuts, file.stem))
        except ValueError:
            is_expected = kind.is_variable and suffix in IN_FRAMES
            counts["refused_variable" if is_expected else "rejected"] += count
            continue
        try:
            frames = read_back(file, kind, times_s)
        except Exception:  # noqa: BLE001  whatever a parser raises is a rejection
            counts["rejected"] += count
            continue
        counts["spans_read_back"] += len(frames)
        in_file = sorted(wanted, key=lambda span: span.start) if suffix == ".json" else wanted
        if len(frames) != count:
            counts["rejected"] += abs(count - len(frames))
        for read, meant in zip(frames, in_file, strict=False):
            shown = range(numbers[read.start], numbers[read.stop - 1] + 1) if read else range(0)
            counts["off_by_a_frame"] += shown != meant
    return [(p, [numbers[n] for n in span]) for p, span in zip(picks, wanted, strict=True)]


def _check_reel(
    folder: Path, shown: Sequence[tuple[Pick, list[int]]], counts: dict[str, int]
) -> None:
    """All kinds of videos through one basket into one reel, and every frame of it by the number that it shows."""
    basket, meant = Basket(folder / "all.basket"), []
    for pick, numbers in shown:
        span = pick.span
        place = ClipPlace(clip_id=pick.name, video_uri=str(pick.path), start_s=span.start_s, end_s=span.end_s)  # fmt: skip
        if basket.save([place]):  # it keeps a span once
            meant.append(numbers)
    counts["spans_in_reel"] = len(meant)
    try:
        Basket(basket.path).render(folder / "reel.mp4")
        found, _ = read_numbered_video(folder / "reel.mp4")
    except (ValueError, OSError, DecodeError):
        counts["rejected"] += len(meant)
        return
    for numbers in meant:
        counts["off_by_a_frame"] += found[: len(numbers)] != numbers
        found = found[len(numbers) :]
    counts["off_by_a_frame"] += bool(found)


def _pick(path: Path, frames: range, times_s: np.ndarray, rng: random.Random) -> Pick:
    """A span as a person gives it, in milliseconds, somewhere between the frames that it parts."""

    def between(frame: int) -> float:
        before = float(times_s[frame - 1]) if frame else 0.0
        step_s = float(times_s[frame]) - before
        return round(max(before + step_s * rng.uniform(0.15, 0.85), 0.0), 3)

    end_s = None if frames.stop == len(times_s) else between(frames.stop)
    return Pick(
        path=path,
        span=Span(start_s=between(frames.start) if frames.start else 0.0, end_s=end_s),
        name=f'5253B <pike> & "2½ twists"\n--> {frames.start}',
        label="5253B",
    )


def read_back(file: Path, kind: Kind, times_s: np.ndarray) -> list[range]:
    """Frames of the source, counted from 0, as the format's own parser tells them."""
    if file.suffix == ".llc":
        segments = json.loads(file.read_text())["cutSegments"]
        return [_frames_between(s["start"], s["end"], times_s) for s in segments]
    if file.suffix == ".json":
        (video,) = json.loads(file.read_text())["videos"]
        spans_ms = [(a["position"], a["metadata"]["end_position"]) for a in video["annotations"]]
        return [_frames_between(a / 1000, b / 1000, times_s) for a, b in spans_ms]
    if file.suffix == ".vtt":
        import webvtt

        return [
            _frames_between(_seconds(cue.start), _seconds(cue.end), times_s)
            for cue in webvtt.read(str(file)).captions
        ]
    import opentimelineio as otio

    rate = float(kind.rate)
    first = 0
    if kind.timecode:
        first = int(otio.opentime.from_timecode(kind.timecode, rate).value)
    if file.suffix == ".otio":
        ranges = [c.source_range for c in otio.adapters.read_from_file(str(file)).find_clips()]
        spans = [(int(r.start_time.value), int(r.end_time_exclusive().value)) for r in ranges]
    elif file.suffix == ".edl":
        spans = _edl_spans(file, rate)
    elif file.suffix == ".xml":
        items = ElementTree.parse(file).getroot().iter("clipitem")
        spans = [(_whole(i.findtext("in")) + first, _whole(i.findtext("out")) + first) for i in items]  # fmt: skip
    else:
        spans = []
        for clip in ElementTree.parse(file).getroot().iter("asset-clip"):
            start, duration = (
                Fraction(clip.get(n, "").removesuffix("s")) * kind.rate for n in ("start", "duration")
            )  # fmt: skip
            if start.denominator != 1 or duration.denominator != 1:
                raise ValueError(f"{start} and {duration} are not whole frames")
            spans.append((int(start), int(start + duration)))
    return [range(start - first, stop - first) for start, stop in spans]


def _edl_spans(file: Path, rate: float) -> list[tuple[int, int]]:
    import opentimelineio as otio
    import pycmx

    per_day = round(rate) * 86_400
    spans = []
    with file.open() as lines:
        for event in pycmx.parse_cmx3600(lines).events:
            (edit,) = event.edits
            start, stop = (
                int(otio.opentime.from_timecode(str(code), rate).value)
                for code in (edit.source_in, edit.source_out)
            )
            spans.append((start, stop))
    # A recording that runs past midnight begins anew at 00:00:00:00.
    wrapped = max((stop for _, stop in spans), default=0) - min((a for a, _ in spans), default=0)
    if wrapped > per_day // 2:
        half, day = per_day // 2, _frames_of_a_day(rate)
        spans = [(a + day * (a < half), b + day * (b < half)) for a, b in spans]
    return spans


def _frames_of_a_day(rate: float) -> int:
    """Drop-frame labels of 24 hours, where there is drop-frame."""
    dropped = {30: 2, 60: 4}.get(round(rate), 0) if rate != round(rate) else 0
    return round(rate) * 86_400 - dropped * 24 * 54


def _whole(text: str | None) -> int:
    if text is None:
        raise ValueError("a clip has no in or out")
    return int(text)


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _frames_between(start_s: float, end_s: float, times_s: np.ndarray) -> range:
    """Frames shown from start to before end."""
    inside: Sequence[int] = np.flatnonzero(
        (times_s >= start_s - 1e-6) & (times_s < end_s - 1e-6)
    ).tolist()
    return range(inside[0], inside[-1] + 1) if inside else range(0)
