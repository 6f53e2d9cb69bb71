"""Clips of a build: those of the table of labels, and windows of the videos that nobody labelled."""

from collections.abc import Callable, Sequence, Set
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.demo.build_encoder import Paths
from cluster.progress import progress_bar
from cluster.storage import write_list
from encoders.clips import Clip, read_clips, write_clips
from encoders.decoding.source import VideoClock
from encoders.media.errors import DecodeError
from indexing.clipping.cut_video import CutSettings
from indexing.clipping.split_videos import SplitConfig, split_videos
from training.annotations.labels.pairs import attributes_by_label, label_pairs
from training.annotations.readers.import_clips import import_annotations
from training.annotations.readers.label_file import ImportLabelFile

if TYPE_CHECKING:
    from benchmarks.commands.build import Config

_MAX_CHANGES = 2
_MOST_NAMED = 20
_WHOLE_WINDOWS = 4
"""Beside labels of whole videos, an unlabelled video of up to so many windows is one clip, too."""
Say = Callable[[str], object]


def write_build_clips(config: "Config", paths: Paths, say: Say) -> tuple[list[str], int]:
    """Write clips.parquet, and with labels labelled.parquet; what was understood, line by line, and how many rows and videos were left out.

    ValueError for all that training would fail on.
    """
    notes: list[str] = []

    def note(line: str) -> None:
        say(line)
        notes.append(line)

    labelled, named, num_bad_rows = [], set[str](), 0
    if config.labels is not None:
        labelled, named, num_bad_rows = _read_labels(config, paths, note)
    unlabelled, num_problems = _cut_others(config, paths, named, note)
    if labelled and all(not clip.start_s and clip.end_s is None for clip in labelled):
        unlabelled = whole_videos(unlabelled)
    write_clips(paths.clips, [*labelled, *unlabelled])
    return notes, num_bad_rows + num_problems


def _read_labels(config: "Config", paths: Paths, note: Say) -> tuple[list[Clip], set[str], int]:
    """The clips, the videos that rows name, and how many rows were left out."""
    assert config.labels is not None
    report = import_annotations(
        ImportLabelFile(
            labels=config.labels,
            videos=config.videos,
            columns=config.columns,
            shares=config.shares,
            skip_bad=config.skip_bad,
            out=paths.labelled,
        )
    )
    note(f"{config.labels}: {report.num_clips} clips of {report.num_labels} labels")
    for line in report.notes:
        note(f"  {line}")
    if report.num_bad_rows:
        problems = paths.labelled.with_suffix(".problems.txt")
        _note_left_out(problems.read_text().splitlines(), problems, note)
    clips = read_clips(paths.labelled)
    readable = _of_readable_videos(clips, paths.labelled.with_suffix(".unreadable.txt"), note)
    if len(readable) < len(clips):
        write_clips(paths.labelled, readable)
    require_edits(readable)
    named = {clip.video_uri for clip in clips}
    return readable, named, report.num_bad_rows + len(clips) - len(readable)


def _of_readable_videos(clips: Sequence[Clip], listed: Path, note: Say) -> list[Clip]:
    """The clips whose video can be read, or is elsewhere; training and the index would leave the others out one by one."""
    kept, problems, console = [], dict[str, DecodeError](), Console(stderr=True)
    with (
        VideoClock() as clock,
        progress_bar("reading videos", len(clips), console=console) as update,
    ):
        for number, clip in enumerate(clips, start=1):
            try:
                clock.last_s(clip.video_uri)
                kept.append(clip)
            except DecodeError as error:
                problems[clip.video_uri] = error
            update(number)
    lines = [f"{uri}: {error}" for uri, error in problems.items()]
    write_list(listed, lines)
    _note_left_out(lines, listed, note)
    if not kept:
        raise ValueError(f"not one of the {len(problems)} videos that the labels name can be read")
    return kept


def require_edits(clips: Sequence[Clip]) -> None:
    """ValueError where no edit leads from one label to another."""
    attributes = attributes_by_label(clips)
    if not label_pairs(attributes, max_changes=_MAX_CHANGES):
        shown = "; ".join(
            f"{label}: {dict(values)}" for label, values in list(attributes.items())[:3]
        )
        raise ValueError(
            f"no two of the {len(attributes)} labels have the same attributes and differ in one or two of them ({shown}): "
            "no edit can be learnt. Add a column per attribute whose value follows from the label, such as position or apparatus"
        )


def _cut_others(
    config: "Config", paths: Paths, named: Set[str], note: Say
) -> tuple[list[Clip], int]:
    """Clips without labels, of the videos that no row names; and how many videos cannot be cut."""
    out = paths.clips if config.labels is None else paths.unlabelled
    summary = split_videos(
        SplitConfig(
            videos=config.videos,
            out=out,
            cut=CutSettings(length_s=config.window_s),
            limits=config.limits,
        ),
        console=Console(stderr=True),
        leave_out=named,
    )
    clips = read_clips(out)
    if summary.num_videos:
        what = (
            ""
            if config.labels is None
            else ", which no row names: found by clips and words, not trained on"
        )
        note(
            f"{config.videos}: {len(clips)} clips of {summary.num_videos - len(summary.problems)} videos{what}"
        )
    lines = [f"{name}: {problem}" for name, problem in summary.problems.items()]
    _note_left_out(lines, out.with_suffix(".problems.txt"), note)
    return clips, len(summary.problems)


def _note_left_out(lines: Sequence[str], listed: Path, note: Say) -> None:
    """A line each, of the first; `listed` has all."""
    for line in lines[:_MOST_NAMED]:
        note(f"  left out: {line}")
    if len(lines) > _MOST_NAMED:
        note(f"  and {len(lines) - _MOST_NAMED} more are left out: {listed}")


def whole_videos(clips: Sequence[Clip]) -> list[Clip]:
    """The windows of each short video as one clip, those of a longer one as they are; `clips` are in the order of their videos."""
    merged: list[Clip] = []
    for uri, group in groupby(clips, key=lambda clip: clip.video_uri):
        windows = list(group)
        if len(windows) > _WHOLE_WINDOWS:
            merged += windows
            continue
        name = windows[0].clip_id.rpartition("@")[0]
        merged.append(Clip(clip_id=name, video_uri=uri))
    return merged
