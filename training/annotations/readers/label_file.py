"""Reader of any CSV that names videos and labels: which column means what is guessed, stated, and can be given.

A cell of the column of files names a video below the videos' folder, by its path, its file name or its name without ending.
"""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from encoders.clips import Clip
from encoders.decoding.source import VideoClock
from encoders.media.container import VIDEO_SUFFIXES
from encoders.media.errors import DecodeError
from encoders.media.video_files import videos_below
from training.annotations.labels.names import label_attributes
from training.annotations.labels.splits import SplitShares, assign_splits
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import Problems, Row, read_csv_rows

# Role -> the names that columns with it have, the likelier first; compared in lower case, without what is neither letter nor digit.
_MOST_ASKED = 100
"""Rows whose cells tell which column names the videos."""
_NAMES: dict[str, tuple[str, ...]] = {
    "file": (
        "file", "filename", "video", "videouri", "videofile", "videopath", "videoname", "filepath",
        "path", "uri", "url", "videoid", "vidname", "media", "clipfile", "clipname",
    ),
    "start": ("start", "starts", "starttime", "startsec", "begin", "from", "in", "onset"),
    "end": ("end", "ends", "endtime", "endsec", "stop", "to", "out", "offset"),
    "label": (
        "label", "class", "classname", "action", "actionname", "dive", "divename", "divenumber", "diveno",
        "element", "category", "annotation", "event", "name", "title", "tag",
    ),
    "split": ("split", "subset", "partition", "fold"),
    "id": ("clipid", "id"),
}  # fmt: skip
_SPLITS = {
    "training": "train",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "testing": "test",
}
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
    """What columns mean, where the guess is wrong: file, start, end, label, split or id, and the column, such as label "Dive No."."""
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


class VideoNames:
    """The videos below a folder, by path, file name and name without ending."""

    def __init__(self, videos: str) -> None:
        self._root = videos
        self._is_remote = "://" in videos
        self._by_name: dict[str, set[str]] = defaultdict(set)
        if self._is_remote:
            return
        folder = Path(videos)
        if not folder.is_dir():
            raise ValueError(f"videos is {videos!r}; it must be a folder or a URI")
        self.paths = sorted(path for path in videos_below(folder) if path.is_file())
        for path in self.paths:
            inner = path.relative_to(folder)
            for name in (inner.as_posix(), inner.with_suffix("").as_posix(), path.name, path.stem):
                self._by_name[name].add(str(path.resolve()))
        if not self.paths:
            raise ValueError(
                f"videos is {videos!r}, which has no video files ({', '.join(sorted(VIDEO_SUFFIXES))})"
            )

    def has(self, name: str) -> bool:
        """Whether a cell names a video of the folder; of a remote one nothing is known."""
        plain = PurePosixPath(name.replace("\\", "/"))
        return bool(name) and bool(self._by_name.keys() & {str(plain), plain.name, plain.stem})

    def uri(self, name: str) -> str:
        """The video that a cell names; ValueError where it is none or several."""
        if "://" in name:
            return name
        if self._is_remote:
            return f"{self._root.rstrip('/')}/{name.lstrip('/')}"
        if Path(name).is_absolute() and Path(name).is_file():
            return name
        plain = PurePosixPath(name.replace("\\", "/"))
        for candidate in (str(plain), plain.name, plain.stem):
            found = self._by_name.get(candidate, set())
            if len(found) == 1:
                return next(iter(found))
            if found:
                raise ValueError(
                    f"{name!r} names {len(found)} videos below {self._root}: {', '.join(sorted(found)[:3])}"
                )
        near = difflib.get_close_matches(plain.stem, self._by_name, n=1)
        hint = f"; the nearest name is {near[0]!r}" if near else ""
        raise ValueError(
            f"{name!r} is not among the {len(self.paths)} videos of {self._root}{hint}"
        )


def read_label_file(config: ImportLabelFile, problems: Problems) -> list[Clip]:
    """Clips with labels, attributes and splits; what was guessed and drawn goes into `problems.notes`."""
    path, videos = config.labels, VideoNames(config.videos)
    read = list(read_csv_rows(path, (), problems, delimiters=",;\t"))
    columns: dict[str, str] = {}
    if read:
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
    clock = VideoClock()
    for row in read:
        with problems.of_row():
            clip = _clip(row, columns, videos, clock)
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
    by_column, passed_over = _column_attributes(labelled, others)
    with_attributes, note = _with_attributes(clips, by_column)
    result, drawn = assign_splits(with_attributes, config.shares)
    meaning = ", ".join(f"{role} = {name!r}" for role, name in columns.items())
    problems.notes += [f"columns: {meaning} (change with --columns ROLE COLUMN)", note, drawn]
    if passed_over:
        problems.notes.append(
            f"columns passed over, because clips of one label differ in them: {', '.join(passed_over)}"
        )
    _require_trainable(path, result, columns["label"])
    return result


def _clip(row: Row, columns: Mapping[str, str], videos: VideoNames, clock: VideoClock) -> Clip:
    def cell(role: str) -> str:
        return row.cells.get(columns.get(role, ""), "").strip()

    def seconds(text: str) -> float:
        try:
            return clock.seconds(text, uri)
        except DecodeError as error:  # a timecode needs the frame rate
            raise ValueError(str(error)) from error

    name = row.text(columns["file"])
    try:
        uri = videos.uri(name)
    except ValueError as error:
        raise ValueError(f"{row.where}: {error}") from error
    times: list[float | None] = [
        row.parsed(columns[role], seconds, "seconds, MM:SS, HH:MM:SS or a timecode")
        if cell(role)
        else None
        for role in ("start", "end")
    ]
    split = cell("split").lower() or None
    split = _SPLITS.get(split or "", split)
    if split not in (None, "train", "val", "test"):
        raise row.error(columns["split"], "train, val, test or empty")
    try:
        return Clip(
            clip_id=cell("id") or f"{PurePosixPath(name).stem}-{row.line}",
            video_uri=uri,
            start_s=times[0] or 0.0,
            end_s=times[1],
            label=cell("label") or None,
            split=split,
        )
    except ValueError as error:
        raise ValueError(f"{row.where}: {error}") from error


def _column_attributes(
    labelled: Sequence[tuple[Clip, Row]], names: Iterable[str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Label -> attributes of the columns that follow from the label, and the names of the other columns."""
    attributes: dict[str, dict[str, str]] = defaultdict(dict)
    passed_over = []
    for name in names:
        values: dict[str, set[str]] = defaultdict(set)
        for clip, row in labelled:
            values[str(clip.label)].add(row.cells[name].strip())
        distinct = {value for seen in values.values() for value in seen}
        if any(len(seen) > 1 for seen in values.values()):
            passed_over.append(name)
        elif len(distinct) > 1 and "" not in distinct:
            plain = name.removeprefix("attribute.")
            for label, seen in values.items():
                attributes[label][plain] = next(iter(seen))
    return attributes, passed_over


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


def _require_trainable(path: Path, clips: Sequence[Clip], column: str) -> None:
    """ValueError with what to do, before anything heavy starts."""
    counts = Counter(clip.label for clip in clips if clip.label is not None)
    if len(counts) < 2:
        found = f"only {next(iter(counts))!r}" if counts else "no label"
        raise ValueError(
            f"{path}: column {column!r} holds {found}; training needs two labels or more. Name another column with "
            "--columns label COLUMN, or leave --labels out to search by clips alone"
        )
    splits = Counter(clip.split for clip in clips if clip.label is not None)
    for split in ("train", "val", "test"):
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
