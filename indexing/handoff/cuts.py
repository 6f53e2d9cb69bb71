"""Picks of a user as cuts: whole frames of videos with a rate, or the reason why a video has none."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from encoders.decoding.source import Source, read_sources
from encoders.media.container import path_of
from encoders.media.frame_index import Span, frames_between
from encoders.media.timecode import can_drop_frames, frame_of
from indexing.search.types import ClipPlace, SearchResult
from indexing.sources.uris import is_remote


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """A span of a video that somebody wants to keep."""

    path: Path
    span: Span
    name: str
    label: str = ""
    note: str = ""
    """Such as the score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A pick as frames of its source."""

    pick: Pick
    source: Source
    frames: range
    """Numbers of the source's frames, counted from 0."""
    name: str
    """One line without control characters."""

    @property
    def start_s(self) -> float:
        """When the first frame is shown, in seconds after that of the video."""
        return float(self.source.times.times_s[self.frames.start])

    @property
    def end_s(self) -> float:
        """When the frame after the last one is shown."""
        times_s = self.source.times.times_s
        if self.frames.stop < len(times_s):
            return float(times_s[self.frames.stop])
        step_s = float(times_s[-1]) / (len(times_s) - 1) if len(times_s) > 1 else 0.04
        return float(times_s[-1]) + step_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How frames of a source are counted in an editing program."""

    rate: Fraction
    first_frame: int
    """Timecode of the source's first frame, as frames from 00:00:00:00; 0 where the file has no timecode."""
    is_drop_frame: bool | None
    """None = the file has no timecode."""


def picks_of_result(result: SearchResult) -> list[Pick]:
    """All answers of a search, best first. ValueError where a video is not on this machine."""
    return [
        pick_of_place(
            hit, name=f"{rank:03} {hit.label or hit.clip_id}", note=f"score {hit.score:.4f}"
        )
        for rank, hit in enumerate(result.hits, start=1)
    ]


def pick_of_place(place: ClipPlace, *, name: str, note: str = "") -> Pick:
    """A clip of an archive as a pick. ValueError where its video is not on this machine."""
    if is_remote(place.video_uri):
        raise ValueError(
            f"video_uri is {place.video_uri!r}; an editing program opens files, so download the video and give its path"
        )
    return Pick(
        path=path_of(place.video_uri).resolve(),
        span=Span(start_s=place.start_s, end_s=place.end_s),
        name=name,
        label=place.label or "",
        note=f"{place.clip_id} {note}".strip(),
    )


def make_cuts(picks: Sequence[Pick]) -> list[Cut]:
    """The frames of each pick. ValueError for a span without frames, DecodeError for a video that cannot be read."""
    if not picks:
        raise ValueError("there are no spans to export")
    sources = read_sources([pick.path for pick in picks])
    return [_cut(pick, sources[pick.path]) for pick in picks]


def without_folders(cuts: Sequence[Cut]) -> list[Cut]:
    """The cuts with videos named by their file names alone, numbered where two share one: for people who must not learn the folders.

    An editing program asks once where such files lie ("relink").
    """
    names: dict[Path, Path] = {}
    for source in sources_of(cuts):
        path = Path("/") / source.path.name
        number = 2
        while path in names.values():
            path = Path("/") / f"{source.path.stem} ({number}){source.path.suffix}"
            number += 1
        names[source.path] = path
    renamed = []
    for cut in cuts:
        path = names[cut.source.path]
        pick, source = replace(cut.pick, path=path), replace(cut.source, path=path)
        renamed.append(replace(cut, pick=pick, source=source))
    return renamed


def timing_of(source: Source) -> Timing:
    """ValueError where the frame rate is variable or the header's timecode does not exist."""
    if source.rate is None:
        raise ValueError(
            f"{source.path} has a variable frame rate, which a list of cuts in frames cannot say; export .vtt or .llc (seconds), or "
            "index a copy with a constant rate: ffmpeg -i FILE -fps_mode cfr -r 30 -c:a copy COPY.mp4"
        )
    if not source.times.timecode:
        return Timing(rate=source.rate, first_frame=0, is_drop_frame=None)
    try:
        frame, is_drop_frame = frame_of(source.times.timecode, source.rate)
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from None
    return Timing(rate=source.rate, first_frame=frame, is_drop_frame=is_drop_frame)


def common_timing(cuts: Sequence[Cut]) -> tuple[Fraction, bool]:
    """Rate and drop-frame of a timeline of these cuts. ValueError where they cannot share one.

    Sources without timecode are counted as the others are.
    """
    by_rate: dict[Fraction, Path] = {}
    by_drop: dict[bool, Path] = {}
    for cut in cuts:
        timing = timing_of(cut.source)
        by_rate.setdefault(timing.rate, cut.pick.path)
        if timing.is_drop_frame is not None and can_drop_frames(timing.rate):
            by_drop.setdefault(timing.is_drop_frame, cut.pick.path)
    if len(by_rate) > 1:
        rates = ", ".join(f"{float(rate):.3f} ({path})" for rate, path in by_rate.items())
        raise ValueError(
            f"the videos have {len(by_rate)} frame rates: {rates}; such a file has one, so export them one rate at a time, or to .otio"
        )
    if len(by_drop) > 1:
        raise ValueError(
            f"{by_drop[True]} has drop-frame timecode and {by_drop[False]} has not; export them one at a time, or to .otio"
        )
    (rate,) = by_rate
    return rate, next(iter(by_drop), False)


def timecode_timing(cuts: Sequence[Cut], *, max_rate: int = 1000) -> tuple[Fraction, bool]:
    """The same for a format whose times are timecodes: a whole number of frames a second, or as many less one in 1001."""
    rate, is_drop_frame = common_timing(cuts)
    if round(rate) > max_rate or rate not in (round(rate), Fraction(round(rate) * 1000, 1001)):
        raise ValueError(
            f"{cuts[0].pick.path} has {float(rate):.3f} frames per second, of which the timecodes of such a file cannot tell; export "
            ".otio, .fcpxml, .vtt or .llc"
        )
    return rate, is_drop_frame


def sources_of(cuts: Iterable[Cut]) -> list[Source]:
    """Each source once, in the order of its first cut."""
    return list({cut.source.path: cut.source for cut in cuts}.values())


def _cut(pick: Pick, source: Source) -> Cut:
    times_s = source.times.times_s
    frames = frames_between(times_s, source.times.tick_s, pick.span)
    if not frames:
        end = "the end" if pick.span.end_s is None else f"{pick.span.end_s:g}"
        raise ValueError(
            f"{pick.path} has no frame in [{pick.span.start_s:g}, {end}); its last one is at {times_s[-1]:.3f} s"
        )
    return Cut(pick=pick, source=source, frames=frames, name=one_line(pick.name) or "clip")


def one_line(text: str) -> str:
    """Control characters and runs of space as single spaces."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
