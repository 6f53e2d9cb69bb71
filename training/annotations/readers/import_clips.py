"""Imports label files of any registered format to clips.parquet, and to triplets.parquet where they contain triplets.

Beside clips.parquet: clips.json (config and counts of the run), clips.missing.txt (missing videos) and,
with --skip-bad, clips.problems.txt (rows that were left out, with the reason).
"""

import json
import operator
import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Annotated, Any

from cluster.storage import write_atomic, write_list
from encoders.clips import Clip, write_clips
from encoders.decoding.source import VideoClock
from encoders.media.errors import DecodeError
from training.annotations.readers import (
    clip_table,
    finediving,
    finegym,
    label_file,
    label_studio,
    osl,
    tfcovr,
)
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import SPLITS, Problems
from training.annotations.triplets.table import write_triplets

_ROUNDED_S = 0.0005
"""Times of frames are rounded to so much in tables."""
_FAR_S = 1.0
READERS: dict[str, LabelReader] = {
    "finegym": finegym.READER,
    "finediving": finediving.READER,
    "tfcovr": tfcovr.READER,
    "table": clip_table.READER,
    "any-table": label_file.READER,
    "label-studio": label_studio.READER,
    "osl": osl.READER,
}
"""Label formats by the name of their subcommand; config union, subcommands and examples derive from it."""


def import_choices() -> Any:
    """The union of all configs, each annotated as its tyro subcommand."""
    import tyro

    annotated = (
        Annotated[reader.config, tyro.conf.subcommand(name)] for name, reader in READERS.items()
    )
    return reduce(operator.or_, annotated)


def import_examples() -> str:
    """One example command per label format."""
    return "\n".join(
        f"  tfcovr import-annotations {name} {reader.example}" for name, reader in READERS.items()
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """Counts of what an import wrote and left out."""

    num_clips: int
    num_by_split: Mapping[str, int]
    num_labels: int
    num_clips_without_label: int
    labels_without_attributes: tuple[str, ...]
    """Labels without a known name or whose name has no attributes: no edit leads from or to them."""
    num_triplets: int
    num_missing_videos: int
    num_clips_of_missing_videos: int
    num_clips_left_out: int
    num_videos_in_several_splits: int
    num_bad_rows: int
    num_packed: int = 0
    """Number of frame folders that this run packed into videos."""
    notes: tuple[str, ...] = ()
    """What was passed over and is no error, such as columns that are not ours."""


def import_annotations(config: ImportOptions) -> ImportReport:
    """Read, check, write. ValueError names file, line and column of the first bad row."""
    problems, out = Problems(skip_bad=config.skip_bad), config.out
    bad_rows = out.with_suffix(".problems.txt")
    try:
        read = _reader_of(config).read(config, problems)
        absent = {clip_id for clip_ids in read.missing.values() for clip_id in clip_ids}
        clips = _clips_to_write(read, absent if config.only_present else set())
        clips = _within_videos(clips, problems)
    except ValueError as error:
        if not problems.messages:
            raise
        write_list(bad_rows, problems.messages)
        raise ValueError(
            f"{error}; {len(problems.messages)} rows are bad, see {bad_rows}"
        ) from error
    if other := sorted({clip.split for clip in clips if clip.split} - set(SPLITS)):
        problems.note(f"splits {', '.join(map(repr, other))} are none of {', '.join(SPLITS)}, which training and evaluation read")  # fmt: skip
    _note_torn_labels(clips, problems)
    write_clips(out, clips)
    if read.triplets:
        write_triplets(out.with_name("triplets.parquet"), read.triplets)
    write_list(out.with_suffix(".missing.txt"), sorted(read.missing))
    write_list(bad_rows, problems.messages)
    labels = {clip.label: clip.attributes for clip in clips if clip.label is not None}
    report = ImportReport(
        num_clips=len(clips),
        num_by_split=dict(sorted(Counter(clip.split or "" for clip in clips).items())),
        num_labels=len(labels),
        num_clips_without_label=sum(clip.label is None for clip in clips),
        labels_without_attributes=tuple(
            sorted(label for label, attributes in labels.items() if not attributes)
        ),
        num_triplets=len(read.triplets),
        num_missing_videos=len(read.missing),
        num_clips_of_missing_videos=len(absent),
        num_clips_left_out=len(read.clips) - len(clips),
        num_videos_in_several_splits=read.num_in_several_splits,
        num_bad_rows=len(problems.messages),
        num_packed=read.num_packed,
        notes=tuple(problems.notes),
    )
    record = {"config": asdict(config), "report": asdict(report)}
    write_atomic(out.with_suffix(".json"), json.dumps(record, indent=1, default=os.fspath))
    return report


def _clips_to_write(read: ReadLabels, left_out: Set[str]) -> list[Clip]:
    """ValueError where none is left."""
    clips = [clip for clip in read.clips if clip.clip_id not in left_out]
    if clips:
        return clips
    if read.clips:
        raise ValueError(
            f"the videos of all {len(read.clips)} clips are missing: {sorted(left_out)[:3]} ..."
        )
    raise ValueError("the label files hold no clips")


def _note_torn_labels(clips: Sequence[Clip], problems: Problems) -> None:
    """Composed queries need attributes that follow from the label."""
    first: dict[str, Clip] = {}
    for clip in clips:
        known = first.setdefault(clip.label or "", clip)
        if clip.label and dict(known.attributes) != dict(clip.attributes):
            problems.note(
                f"clips of one label differ in their attributes, which `tfcovr triplets` refuses: {known.clip_id!r} and {clip.clip_id!r} of "
                f"{clip.label!r} have {dict(known.attributes)} and {dict(clip.attributes)}; fill in the cells of every row, or of none",
                of="torn label",
            )


def _within_videos(clips: Sequence[Clip], problems: Problems) -> list[Clip]:
    """The clips that begin within their video, where it can be read here; those that end far behind it are told."""
    kept, beyond = [], []
    with VideoClock() as clock:
        for clip in clips:
            last_s = None
            if clip.start_s or clip.end_s is not None:
                with suppress(DecodeError):  # decoding names it, with its reason
                    last_s = clock.last_s(clip.video_uri)
            with problems.of_row():
                if last_s is not None and clip.start_s > last_s + _ROUNDED_S:
                    raise ValueError(
                        f"clip {clip.clip_id!r} begins at {clip.start_s:g} s, and the last frame of {clip.video_uri} is at {last_s:.3f} s"
                    )
                kept.append(clip)
                if last_s is not None and (clip.end_s or 0.0) > last_s + _FAR_S:
                    beyond.append(f"{clip.clip_id!r} at {clip.end_s:g} s, {last_s:.3f} s")
    if beyond:
        problems.note(f"{len(beyond)} clips end with their video, before the end that is given, first: {beyond[0]}")  # fmt: skip
    if not kept:
        raise ValueError("no clip begins within its video")
    return kept


def _reader_of(config: ImportOptions) -> LabelReader:
    for reader in READERS.values():
        if type(config) is reader.config:
            return reader
    raise ValueError(
        f"a {type(config).__name__} has no label reader; it must be a config of one of {', '.join(READERS)}"
    )
