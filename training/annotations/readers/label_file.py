"""Reader of any CSV that names videos and labels: which column means what is guessed, stated, and can be given.

A cell of the column of files names a video below the videos' folder, by its path, its file name or its name without ending.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from encoders.clips import Clip
from encoders.decoding.source import VideoClock
from encoders.media.container import VIDEO_SUFFIXES
from encoders.media.errors import DecodeError
from training.annotations.labels.names import label_attributes
from training.annotations.labels.splits import SplitShares, assign_splits
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import (
    SPLITS,
    MadeUpIds,
    Problems,
    Row,
    read_csv_rows,
    split_name,
)
from training.annotations.readers.video_folder import VideoNames

_EMPTY = frozenset(("", "nan", "n/a", "#n/a", "null", "<na>"))
_MOST_ASKED = 100
"""Rows whose cells tell which column names the videos."""
# Role -> the names that columns with it have, the likelier first; compared in lower case, without what is neither letter nor digit.
_NAMES: dict[str, tuple[str, ...]] = {
    "file": (
        "file", "filename", "video", "videouri", "videofile", "videopath", "videoname", "filepath",
        "path", "uri", "url", "videoid", "vidname", "media", "clipfile", "clipname",
    ),
    "start": ("start", "starts", "starttime", "startsec", "begin", "from", "in", "onset"),
    "end": ("end", "ends", "endtime", "endsec", "stop", "to", "out", "offset"),
    "duration": ("duration", "durations", "durationsec", "dur", "length", "lengthsec"),
    "label": (
        "label", "class", "classname", "action", "actionname", "dive", "divename", "divenumber", "diveno",
        "element", "category", "annotation", "event", "name", "title", "tag",
    ),
    "split": ("split", "subset", "partition", "fold"),
    "id": ("clipid", "id"),
}  # fmt: skip
WHOLE_LABEL = "action"
"""Attribute of labels of whose names nothing can be read: the label itself, so that an edit can name another one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportLabelFile(ImportOptions):
    """A CSV whatever its columns, with splits drawn where it has none."""

    labels: Path
    """The CSV, with a header; one row per clip."""
    videos: str
    """The folder of the videos, or the URI that the files' names go behind."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What columns mean, where the guess is wrong: file, start, end, duration, label, split or id, and the column, such as label "Dive No."."""
    shares: SplitShares = field(default_factory=SplitShares)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(_NAMES))
        if unknown:
            raise ValueError(f"columns names {unknown[0]!r}; choose from {', '.join(_NAMES)}")


def guess_columns(
    path: Path,
    header: Sequence[str],
    given: Mapping[str, str],
    *,
    names_video: Callable[[str], bool] = lambda _column: False,
) -> dict[str, str]:
    """Role -> column: what is given, then the column whose first cell names a video, then by name.

    Where nothing is left but one column, it holds the labels. ValueError where no column names the files or the labels.
    """
    missing = [name for name in given.values() if name not in header]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {', '.join(header)}")
    by_plain_name = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(header)}
    by_plain_name |= {plain.removesuffix("s"): name for plain, name in by_plain_name.items()}
    columns = dict(given)
    if twice := [name for name, count in Counter(given.values()).items() if count > 1]:
        roles = [role for role, name in given.items() if name == twice[0]]
        raise ValueError(f"columns gives {twice[0]!r} to {' and '.join(roles)}; it has one meaning")
    of_videos = [name for name in header if names_video(name)]
    if "file" not in columns and len(of_videos) == 1:
        columns["file"] = of_videos[0]
    for role, names in _NAMES.items():
        free = [by_plain_name[n] for n in names if n in by_plain_name]
        free = [name for name in free if name not in columns.values()]
        if role not in columns and free:
            columns[role] = free[0]
    rest = [name for name in header if name not in columns.values()]
    if "label" not in columns and len(rest) == 1:
        columns["label"] = rest[0]
    for role, what in (("file", "names the videos"), ("label", "holds the labels")):
        if role not in columns:
            raise ValueError(
                f"{path}: no column is known that {what}; it has {', '.join(header)}; "
                f"say which: --columns {role} COLUMN"
            )
    return columns


def read_label_file(config: ImportLabelFile, problems: Problems) -> list[Clip]:
    """Clips with labels, attributes and splits; what was guessed and drawn goes into `problems.notes`."""
    path, videos = config.labels, VideoNames(config.videos)
    read = list(read_csv_rows(path, (), problems, delimiters=",;\t|"))
    columns: dict[str, str] = {}
    if read:
        for name in read[0].cells:
            if videos.has(name) and PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES:
                raise ValueError(
                    f"{path}: line 1 names the video {name!r}; it must be a header, such as file,label"
                )
        columns = guess_columns(
            path,
            list(read[0].cells),
            config.columns,
            names_video=lambda column: any(
                videos.has(row.cells[column].strip()) for row in read[:_MOST_ASKED]
            ),
        )
    rows: list[Row] = []
    clips: list[Clip] = []
    line_by_id: dict[str, int] = {}
    ids = MadeUpIds()
    with VideoClock() as clock:
        for row in read:
            with problems.of_row():
                clip = _clip(row, columns, videos, clock, ids)
                line = line_by_id.setdefault(clip.clip_id, row.line)
                if line != row.line:
                    raise ValueError(
                        f"{row.where}: clip id is {clip.clip_id!r}, as in line {line}; it must be unique"
                    )
                clips.append(clip)
                rows.append(row)
    if not clips:
        raise ValueError(f"{path} has no rows that can be used")
    labelled = [(c, r) for c, r in zip(clips, rows, strict=True) if c.label is not None]
    others = [name for name in rows[0].cells if name not in columns.values()]
    by_column, passed_over, gappy = _column_attributes(labelled, others)
    given = Counter(clip.split or "" for clip in clips if clip.split)
    with_attributes, note = _with_attributes(clips, by_column)
    result, drawn = assign_splits(with_attributes, config.shares)
    meaning = ", ".join(f"{role} = {name!r}" for role, name in columns.items())
    problems.notes += [f"columns: {meaning} (change with --columns ROLE COLUMN)", note, drawn]
    if passed_over:
        problems.notes.append(
            f"columns passed over, because clips of one label differ in them: {', '.join(passed_over)}"
        )
    if gappy:
        problems.notes.append(
            f"columns passed over, because cells of them are empty: {', '.join(gappy)} (fill them in: attributes are compared)"
        )
    problems.notes += _oddities(result)
    _require_trainable(path, result, columns, given)
    return result


def _clip(
    row: Row, columns: Mapping[str, str], videos: VideoNames, clock: VideoClock, ids: MadeUpIds
) -> Clip:
    def cell(role: str) -> str:
        return row.cells.get(columns.get(role, ""), "").strip()

    def seconds(text: str) -> float:
        try:
            return clock.seconds(text, uri)
        except DecodeError as error:  # a timecode needs the frame rate
            raise ValueError(str(error)) from error

    try:
        uri = videos.uri(row.text(columns["file"]))
    except ValueError as error:
        raise ValueError(f"{row.where}: {error}") from error
    times: list[float | None] = [
        row.parsed(columns[role], seconds, "seconds, MM:SS, HH:MM:SS or a timecode")
        if cell(role)
        else None
        for role in ("start", "end", "duration")
    ]
    start_s, end_s = times[0] or 0.0, times[1]
    if end_s is None and times[2] is not None:
        end_s = start_s + times[2]
    if end_s is not None and end_s <= start_s:
        raise row.error(
            columns["end" if cell("end") else "duration"], f"after the start, {start_s:g} s"
        )
    split = split_name(cell("split"))
    if split not in (None, *SPLITS):
        raise row.error(columns["split"], "train, val, test or empty")
    try:
        return Clip(
            clip_id=cell("id") or ids.make(videos.name(uri), start_s, end_s),
            video_uri=uri,
            start_s=start_s,
            end_s=end_s,
            label=_label(cell("label")),
            split=split,
        )
    except ValueError as error:
        raise ValueError(f"{row.where}: {error}") from error


def _label(text: str) -> str | None:
    """None for an empty cell, and for what other programs write in its place."""
    return None if text.lower() in _EMPTY else text


def _column_attributes(
    labelled: Sequence[tuple[Clip, Row]], names: Iterable[str]
) -> tuple[dict[str, dict[str, str]], list[str], list[str]]:
    """Label -> attributes of the columns that follow from the label; names of columns that do not, and of those that some labels lack."""
    attributes: dict[str, dict[str, str]] = defaultdict(dict)
    passed_over, gappy = [], []
    for name in names:
        values: dict[str, set[str]] = defaultdict(set)
        for clip, row in labelled:
            values[str(clip.label)].add(row.cells[name].strip())
        distinct = {value for seen in values.values() for value in seen}
        if any(len(seen - {""}) > 1 for seen in values.values()):
            passed_over.append(name)
        elif "" in distinct and len(distinct) > 1:
            gappy.append(name)
        elif len(distinct) > 1:
            plain = name.removeprefix("attribute.")
            for label, seen in values.items():
                attributes[label][plain] = next(iter(seen))
    return attributes, passed_over, gappy


def _with_attributes(
    clips: Sequence[Clip], by_column: Mapping[str, Mapping[str, str]]
) -> tuple[list[Clip], str]:
    """Attributes of the label's name and columns; where no label has any, the label is its own attribute."""
    labels = sorted({clip.label for clip in clips if clip.label is not None})
    named = {label: label_attributes(label) for label in labels}
    attributes = {label: {**named[label], **by_column.get(label, {})} for label in labels}
    num_named = sum(map(bool, named.values()))
    if not any(attributes.values()):
        attributes = {label: {WHOLE_LABEL: label} for label in labels}
        note = f"attributes: none in the names of the labels or in columns; an edit names another label ({WHOLE_LABEL})"
    else:
        names = sorted({name for values in attributes.values() for name in values})
        note = f"attributes: {', '.join(names)} ({num_named} of {len(labels)} labels by their name)"
    return [
        replace(clip, attributes=attributes[clip.label]) if clip.label is not None else clip
        for clip in clips
    ], note


def _oddities(clips: Sequence[Clip]) -> list[str]:
    """What is likely a mistake of the table, a line each."""
    labels_by_span: dict[tuple[str, float, float | None], list[str]] = defaultdict(list)
    splits_by_video: dict[str, set[str]] = defaultdict(set)
    spellings: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.label is not None:
            labels_by_span[clip.video_uri, clip.start_s, clip.end_s].append(clip.label)
            splits_by_video[clip.video_uri].add(str(clip.split))
            visible = "".join(c for c in clip.label if unicodedata.category(c) != "Cf")
            spellings["".join(visible.casefold().split())].add(clip.label)
    twice = {span: labels for span, labels in labels_by_span.items() if len(labels) > 1}
    torn = [(span, labels) for span, labels in twice.items() if len(set(labels)) > 1]
    shared = [video for video, splits in splits_by_video.items() if len(splits) > 1]
    alike = sorted(", ".join(map(repr, sorted(one))) for one in spellings.values() if len(one) > 1)
    lines = []
    if twice:
        lines.append(f"{len(twice)} spans are named more than once, first: {_shown(next(iter(twice)))}")  # fmt: skip
    if torn:
        lines.append(f"{len(torn)} spans have several labels, first: {_shown(torn[0][0])}: {', '.join(map(repr, torn[0][1]))}")  # fmt: skip
    if shared:
        lines.append(f"{len(shared)} videos are in several splits, so that scores are too good, first: {shared[0]}")  # fmt: skip
    if alike:
        lines.append(f"labels that differ in case, spaces or what is invisible only: {'; '.join(alike[:3])}")  # fmt: skip
    return lines


def _shown(span: tuple[str, float, float | None]) -> str:
    video, start_s, end_s = span
    return f"{video} {start_s:g}-{'end' if end_s is None else format(end_s, 'g')} s"


def _require_trainable(
    path: Path, clips: Sequence[Clip], columns: Mapping[str, str], given: Mapping[str, int]
) -> None:
    """ValueError with what to do, before anything heavy starts."""
    counts = Counter(clip.label for clip in clips if clip.label is not None)
    if len(counts) < 2:
        found = f"only {next(iter(counts))!r}" if counts else "no label"
        raise ValueError(
            f"{path}: column {columns['label']!r} holds {found}; training needs two labels or more. Name another column with "
            "--columns label COLUMN, or leave --labels out to search by clips alone"
        )
    splits = Counter(clip.split for clip in clips if clip.label is not None)
    for split in ("train", "val", "test"):
        if not splits[split] and given:
            counts_given = ", ".join(f"{count} {name}" for name, count in given.items())
            raise ValueError(
                f"{path}: no labelled clip that can be used is for {split!r}: column {columns['split']!r} gives {counts_given}; "
                f"give {split!r} to some, or leave the column empty and splits are drawn"
            )
        if not splits[split]:
            raise ValueError(
                f"{path}: no labelled clip is for {split!r}: the {len(counts)} labels have {max(counts.values())} clips at most; "
                "at least one label needs three, or give a column `split`"
            )


def _read(config: ImportLabelFile, problems: Problems) -> ReadLabels:
    return ReadLabels(clips=read_label_file(config, problems), missing={})


READER = LabelReader(
    config=ImportLabelFile,
    read=_read,
    example="--labels labels.csv --videos videos/ --out clips.parquet",
)
