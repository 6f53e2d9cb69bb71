"""Reader of the released TF-CoVR files: train, val and test CSV to triplets and clips, the stage 1 CSV to clips.

Train rows hold query_video, target_video, label1, label2 and `modification`, the text of a dict
{label2: {"modification": sentence}}; val and test rows a plain sentence and `target_videos_ids`, the text
of a list. Both texts are parsed as literals, never evaluated. Sentences stay as they are written, white space and all, because
the released text splitting depends on it. These names occur in this module only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from encoders.clips import Clip
from encoders.media.container import VIDEO_SUFFIXES
from training.annotations.labels.names import label_attributes, released_labels
from training.annotations.readers.finegym import class_names
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import (
    Problems,
    Row,
    is_name,
    parse_literal,
    plain_number,
    read_csv_rows,
)
from training.annotations.readers.video_folder import VideoFolder
from training.annotations.triplets.table import Triplet

_TRAIN_COLUMNS = ("query_video", "target_video", "label1", "label2", "modification")
_EVAL_COLUMNS = ("query_id", "query_video", "target_video", "modification", "target_videos_ids")
_STAGE1_COLUMNS = ("video_file", "label")
_MAX_TARGETS = 50_000

LabelNumbers = Literal["key", "index"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TfcovrFiles:
    """Paths of the released files; each is optional."""

    train: Path | None = None
    """Path of the train CSV."""
    val: Path | None = None
    """Path of the val CSV."""
    test: Path | None = None
    """Path of the test CSV."""
    stage1: Mapping[str, Path] = field(default_factory=dict)
    """Path of a stage 1 CSV, by the name of our split."""
    stage1_labels: LabelNumbers = "key"
    """Labels of the stage 1 CSV: the released label keys, or their class indices."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Name of a label key, if a source gives one."""


@dataclass(kw_only=True, slots=True)
class TfcovrTables:
    """Triplets and clips of the files."""

    triplets: list[Triplet] = field(default_factory=list)
    clips: dict[str, Clip] = field(default_factory=dict)
    in_several_splits: set[str] = field(default_factory=set)
    """Videos of more than one split; their clip has the split that was read first."""


def read_tfcovr(files: TfcovrFiles, videos: VideoFolder, problems: Problems) -> TfcovrTables:
    """Read the files, stage 1 first, because only it has labels for clips of val and test."""
    tables = TfcovrTables()
    clips = _Clips(tables, videos, files.names)
    for split, path in files.stage1.items():
        for row in read_csv_rows(path, _STAGE1_COLUMNS, problems):
            with problems.of_row():
                clips.add(row, _video_file(row), split, _stage1_label(row, files.stage1_labels))
    if files.train is not None:
        for row in read_csv_rows(files.train, _TRAIN_COLUMNS, problems):
            with problems.of_row():
                triplet = _train_triplet(row)
                clips.add(row, triplet.query_clip_id, "train", triplet.source_label)
                clips.add(row, triplet.target_clip_ids[0], "train", triplet.target_label)
                tables.triplets.append(triplet)
    for split, path in (("val", files.val), ("test", files.test)):
        if path is not None:
            _read_queries(path, split, tables, clips, problems)
    return tables


def _read_queries(
    path: Path, split: str, tables: TfcovrTables, clips: "_Clips", problems: Problems
) -> None:
    line_by_id: dict[str, int] = {}
    for row in read_csv_rows(path, _EVAL_COLUMNS, problems):
        with problems.of_row():
            triplet = _eval_triplet(row, split)
            first = line_by_id.setdefault(triplet.query_id, row.line)
            if first != row.line:
                raise row.error("query_id", f"unique; it is in line {first} too")
            for video in (triplet.query_clip_id, *triplet.target_clip_ids):
                clips.add(row, video, split, None)
            tables.triplets.append(triplet)


def _train_triplet(row: Row) -> Triplet:
    source, target = (_label(row, column) for column in ("label1", "label2"))
    edits = row.parsed("modification", parse_literal, "the text of a dict")
    entry = edits.get(target) if isinstance(edits, dict) else None
    sentence = entry.get("modification") if isinstance(entry, dict) else None
    if not isinstance(sentence, str) or not sentence.strip():
        raise row.error("modification", f"{{{target!r}: {{'modification': a sentence}}}}")
    query, video = row.name("query_video"), row.name("target_video")
    if query == video:
        raise row.error("target_video", "another video than query_video")
    return Triplet(
        query_id=f"train-{row.line}",
        query_clip_id=query,
        edit_text=sentence,
        target_clip_ids=(video,),
        source_label=source,
        target_label=target,
        split="train",
    )


def _eval_triplet(row: Row, split: str) -> Triplet:
    """A query of val or test. The released evaluator relies on the own target, which comes first, and on the list's length.

    So a name that is listed twice stays twice.
    """
    query, own = row.name("query_video"), row.name("target_video")
    listed = row.parsed("target_videos_ids", parse_literal, "the text of a list")
    allowed = f"a list of 1 to {_MAX_TARGETS} names of videos, target_video among them"
    if not isinstance(listed, list | tuple | set) or not 0 < len(listed) <= _MAX_TARGETS:
        raise row.error("target_videos_ids", allowed)
    is_names = all(isinstance(name, str) and is_name(name) for name in listed)
    if not is_names or own not in listed:
        raise row.error("target_videos_ids", allowed)
    if query in listed:
        raise row.error("target_videos_ids", f"without the query video {query!r}")
    others = sorted(listed) if isinstance(listed, set) else list(listed)
    others.remove(own)
    row.text("modification")
    return Triplet(
        query_id=f"{split}-{row.text('query_id')}",
        query_clip_id=query,
        edit_text=row.cells["modification"],
        target_clip_ids=(own, *others),
        split=split,
    )


def _label(row: Row, column: str) -> str:
    label = row.text(column)
    if label not in released_labels():
        raise row.error(column, "one of the 306 released label keys")
    return label


def _stage1_label(row: Row, numbers: LabelNumbers) -> str:
    if numbers == "key":
        text = row.text("label")
        if text not in released_labels():
            raise row.error(
                "label", "one of the 306 released label keys (or set stage1_labels to index)"
            )
        return text
    index = row.parsed("label", plain_number, "a class index from 0 to 305")
    key = next((key for key, number in released_labels().items() if number == index), None)
    if key is None:
        raise row.error("label", "a class index from 0 to 305")
    return key


def _video_file(row: Row) -> str:
    """The video name in `video_file`, which may be a path and end as video files do."""
    parts = row.text("video_file").split("/")
    name = parts[-1]
    ending = PurePosixPath(name).suffix
    name = name.removesuffix(ending) if ending.lower() in VIDEO_SUFFIXES else name
    if ".." in parts or not is_name(name):
        raise row.error("video_file", "the path or name of a video")
    return name


class _Clips:
    """Clips by video name; a video must have the same label in every file."""

    def __init__(self, tables: TfcovrTables, videos: VideoFolder, names: Mapping[str, str]) -> None:
        self._tables = tables
        self._videos = videos
        self._names = names
        self._first: dict[str, tuple[str, str]] = {}

    def add(self, row: Row, name: str, split: str, label: str | None) -> None:
        clip = self._tables.clips.get(name)
        if clip is not None and clip.split != split:
            self._tables.in_several_splits.add(name)
        if label is not None:
            first, where = self._first.setdefault(name, (label, f"{row.path}: line {row.line}"))
            if first != label:
                raise ValueError(
                    f"{row.path}: line {row.line}: video {name!r} has label {label!r}; it has {first!r} in {where}"
                )
        if clip is None or (clip.label is None and label is not None):
            self._tables.clips[name] = Clip(
                clip_id=name,
                video_uri=self._videos.uri(name, needed_by=name)
                if clip is None
                else clip.video_uri,
                label=label,
                split=split if clip is None else clip.split,
                attributes={} if label is None else label_attributes(self._names.get(label, label)),
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportTfcovr(ImportOptions):
    """TF-CoVR: train, val and test CSV, and the stage 1 CSV."""

    files: TfcovrFiles
    videos: Path | None = None
    """Folder of the videos; None = <out>/../videos, which may be missing when embeddings are used."""
    categories: Path | None = None
    """gym288_categories.txt, which names the numeric label keys; give it only if you know that they are its class numbers."""


def _read(config: ImportTfcovr, problems: Problems) -> ReadLabels:
    files = config.files
    if not (files.train or files.val or files.test or files.stage1):
        raise ValueError(
            "no file is given; give --files.train, --files.val, --files.test or --files.stage1"
        )
    folder = config.videos or config.out.parent / "videos"
    videos = VideoFolder(folder, must_exist=config.videos is not None)
    names = {} if config.categories is None else _names_of_keys(config.categories)
    tables = read_tfcovr(replace(files, names=names), videos, problems)
    return ReadLabels(
        clips=list(tables.clips.values()),
        missing=videos.missing,
        triplets=tables.triplets,
        num_in_several_splits=len(tables.in_several_splits),
    )


def _names_of_keys(categories: Path) -> dict[str, str]:
    return {str(n): name.split(" #")[0] for n, name in class_names("gym288", categories).items()}


READER = LabelReader(
    config=ImportTfcovr,
    read=_read,
    example="--files.train train.csv --files.val val.csv --files.test test.csv --out clips.parquet",
)
