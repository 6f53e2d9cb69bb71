"""Reader of your own table of clips (CSV or Parquet), with attributes from columns or label names.

Columns: `video_uri` (a path relative to the table, or a URI), and optionally `clip_id`, `start_s`, `end_s`,
`label`, `split`, and one column per attribute, named `attribute.NAME`. Without such columns the
attributes are parsed from the label, if it is a dive number or a FineGym name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from encoders.clips import Clip
from encoders.decoding.source import VideoClock
from encoders.files import is_file, open_table
from encoders.media.errors import DecodeError
from training.annotations.labels.names import label_attributes
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import (
    MadeUpIds,
    Problems,
    Row,
    read_csv_rows,
    split_name,
)

_PREFIX = "attribute."
_ROWS_AT_ONCE = 16_384
_OWN_COLUMNS = ("clip_id", "video_uri", "start_s", "end_s", "label", "split", "attributes")


def read_clip_table(path: Path, problems: Problems) -> list[Clip]:
    """The clips of a CSV, or of a Parquet file by its ending, in file order; clip ids are unique."""
    read_rows = _parquet_rows if path.suffix == ".parquet" else read_csv_rows
    clips: list[Clip] = []
    ids, line_by_id = MadeUpIds(), dict[str, int]()
    with VideoClock() as clock:
        for row in read_rows(path, ("video_uri",), problems):
            if not clips:
                _note_columns(path, list(row.cells), problems)
            with problems.of_row():
                clip = _clip(row, clock, ids)
                first = line_by_id.setdefault(clip.clip_id, row.line)
                if first != row.line:
                    raise ValueError(
                        f"{row.where}: clip_id is {clip.clip_id!r}, as in {row.unit} {first}; it must be unique"
                    )
                clips.append(clip)
    return clips


def missing_videos(clips: list[Clip]) -> dict[str, list[str]]:
    """Missing local video -> its clip ids; URIs with a scheme are not checked."""
    missing: dict[str, list[str]] = {}
    exists_by_uri: dict[str, bool] = {}
    for clip in clips:
        uri = clip.video_uri
        if uri not in exists_by_uri:
            exists_by_uri[uri] = "://" in uri or is_file(uri)
        if not exists_by_uri[uri]:
            missing.setdefault(uri, []).append(clip.clip_id)
    return missing


def _clip(row: Row, clock: VideoClock, ids: MadeUpIds) -> Clip:
    video = row.text("video_uri")
    uri = video if "://" in video else str(row.path.resolve().parent / video)
    label = row.cells.get("label", "").strip() or None
    attributes = {
        name.removeprefix(_PREFIX): value.strip()
        for name, value in row.cells.items()
        if name.startswith(_PREFIX) and value.strip()
    }
    start_s = _seconds(row, "start_s", uri, clock) or 0.0
    end_s = _seconds(row, "end_s", uri, clock)
    name = PurePosixPath(video).name if "://" in video or Path(video).is_absolute() else video
    try:
        return Clip(
            clip_id=row.cells.get("clip_id", "").strip() or ids.make(name, start_s, end_s),
            video_uri=uri,
            start_s=start_s,
            end_s=end_s,
            label=label,
            split=split_name(row.cells.get("split", "")),
            attributes=attributes or (label_attributes(label) if label else {}),
        )
    except ValueError as error:
        raise ValueError(f"{row.where}: {error}") from error


def _seconds(row: Row, column: str, uri: str, clock: VideoClock) -> float | None:
    if not row.cells.get(column, "").strip():
        return None

    def parse(text: str) -> float:
        try:
            return clock.seconds(text, uri)
        except DecodeError as error:
            raise ValueError(str(error)) from error

    return row.parsed(column, parse, "seconds, MM:SS, HH:MM:SS or HH:MM:SS:FF")


def _note_columns(path: Path, names: list[str], problems: Problems) -> None:
    unknown_columns = [n for n in names if n not in _OWN_COLUMNS and not n.startswith(_PREFIX)]
    if unknown_columns:
        problems.note(
            f"{path}: columns passed over: {', '.join(unknown_columns)} (an attribute's name begins with {_PREFIX})"
        )


def _parquet_rows(path: Path, required: Sequence[str], problems: Problems) -> Iterator[Row]:
    """Rows with the cells that a CSV of the same table would have, the map `attributes` as columns."""
    with open_table(path, required) as file:
        first = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            for number in range(len(batch)):
                row = None
                with problems.of_row():
                    row = _parquet_row(path, first + number, batch, number)
                if row is not None:
                    yield row
            first += len(batch)


def _parquet_row(path: Path, number: int, batch: pa.RecordBatch, place: int) -> Row:
    cells: dict[str, str] = {}
    in_map: list[tuple[str, object]] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            value = column[place].as_py()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: row {number}: {name} is not UTF-8") from error
        if name == "attributes" and isinstance(value, list):
            in_map = value
        else:
            cells[name] = _cell(value)
    for key, value in in_map:  # a column of its own comes first
        cells[f"{_PREFIX}{key}"] = cells.get(f"{_PREFIX}{key}") or _cell(value)
    return Row(path, number, cells, unit="row")


def _cell(value: object) -> str:
    """A value as a CSV would have it; what is missing is empty, and 2.0 is 2."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-")
    return str(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportTable(ImportOptions):
    """A CSV or Parquet table of your own."""

    table: Path
    """The table, with the column video_uri and optionally clip_id, start_s, end_s, label, split, attribute.NAME."""


def _read(config: ImportTable, problems: Problems) -> ReadLabels:
    clips = read_clip_table(config.table, problems)
    return ReadLabels(clips=clips, missing=missing_videos(clips))


READER = LabelReader(
    config=ImportTable, read=_read, example="--table my_clips.csv --out clips.parquet"
)
