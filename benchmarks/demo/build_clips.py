"""Clips of a build: those of the table of labels, and windows of the videos that nobody labelled."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.demo.build_encoder import Paths
from encoders.clips import Clip, read_clips, write_clips
from indexing.clipping.cut_video import CutSettings
from indexing.clipping.split_videos import SplitConfig, split_videos
from training.annotations.labels.pairs import attributes_by_label, label_pairs
from training.annotations.readers.import_clips import import_annotations
from training.annotations.readers.label_file import ImportLabelFile

if TYPE_CHECKING:
    from benchmarks.commands.build import Config

_MAX_CHANGES = 2
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

    labelled, num_bad_rows = [], 0
    if config.labels is not None:
        labelled, num_bad_rows = _read_labels(config, paths, note)
    unlabelled, num_problems = _cut_others(config, paths, labelled, note)
    write_clips(paths.clips, [*labelled, *unlabelled])
    return notes, num_bad_rows + num_problems


def _read_labels(config: "Config", paths: Paths, note: Say) -> tuple[list[Clip], int]:
    """The clips, and how many rows were left out."""
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
        note(f"  {report.num_bad_rows} bad rows left out: {problems}")
    clips = read_clips(paths.labelled)
    require_edits(clips)
    return clips, report.num_bad_rows


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
    config: "Config", paths: Paths, labelled: Sequence[Clip], note: Say
) -> tuple[list[Clip], int]:
    """Clips without labels, of the videos that no labelled clip is of; and how many videos cannot be cut."""
    out = paths.clips if config.labels is None else paths.unlabelled
    summary = split_videos(
        SplitConfig(
            videos=config.videos,
            out=out,
            cut=CutSettings(length_s=config.window_s),
            limits=config.limits,
        ),
        console=Console(stderr=True),
        leave_out={clip.video_uri for clip in labelled},
    )
    clips = read_clips(out)
    if labelled and all(not clip.start_s and clip.end_s is None for clip in labelled):
        clips = whole_videos(clips)
    if summary.num_videos:
        what = (
            ""
            if config.labels is None
            else ", which no row names: found by clips and words, not trained on"
        )
        note(
            f"{config.videos}: {len(clips)} clips of {summary.num_videos - len(summary.problems)} videos{what}"
        )
    problems = list(summary.problems.items())
    for name, problem in problems[:3]:
        note(f"  left out: {name}: {problem}")
    if len(problems) > 3:
        note(f"  and {len(problems) - 3} more: {out.with_suffix('.problems.txt')}")
    return clips, len(problems)


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
