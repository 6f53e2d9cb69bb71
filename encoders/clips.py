"""Clips and clips.parquet, the table of clips that every step reads and writes.

A relative `video_uri` in the file is relative to the folder of the file, so that an archive can be moved as a whole; in memory
it is absolute.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from encoders.files import atomic_file, open_table

if TYPE_CHECKING:
    import pandas as pd

CLIPS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("video_uri", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64()),
        pa.field("label", pa.string()),
        pa.field("split", pa.string()),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
REPLAY_OF = "replay_of"
"""Attribute of a clip that shows again what another clip of the same video shows: that clip's id."""
_ROWS_AT_ONCE = 16_384
_MOST_SHARED = 65_536
_REQUIRED_COLUMNS = ("clip_id", "video_uri")
_ATTRIBUTE = "attribute."


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A time span of a video: what is embedded and searched."""

    clip_id: str
    video_uri: str
    start_s: float = 0.0
    """Seconds after the first video frame."""
    end_s: float | None = None
    """Seconds after the first video frame; None = to the end of the video."""
    label: str | None = None
    split: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        end_s = math.inf if self.end_s is None else self.end_s
        is_span = 0 <= self.start_s < end_s <= math.inf and self.end_s != math.inf
        named = (self.clip_id, self.video_uri, self.label or "", self.split or "")
        texts = (*named, *self.attributes, *self.attributes.values())
        are_storable = is_storable("".join(texts))
        if are_storable and self.clip_id and self.video_uri and is_span:
            return  # of millions, nearly all
        if not are_storable:
            odd = next(text for text in texts if not is_storable(text))
            raise ValueError(
                f"text {odd[:80]!r} has a null character or half a character; tables cannot hold it"
            )
        for column, value, is_allowed, allowed in (
            ("clip_id", self.clip_id, bool(self.clip_id), "a non-empty text"),
            ("video_uri", self.video_uri, bool(self.video_uri), "a path or URI"),
            ("start_s", self.start_s, 0 <= self.start_s < math.inf, "a finite number >= 0"),
            (
                "end_s",
                self.end_s,
                self.end_s is None or self.start_s < self.end_s < math.inf,
                f"None or a finite number above start_s ({self.start_s})",
            ),
        ):
            if not is_allowed:
                raise ValueError(f"{column} is {value!r}; it must be {allowed}")


def is_storable(text: str) -> bool:
    """Whether tables and Milvus take a text: without null characters and halves of characters (lone surrogates, as JSON may have)."""
    if text.isascii():
        return "\0" not in text
    return not any("\ud800" <= char <= "\udfff" or char == "\0" for char in text)


def read_clips(path: str | Path) -> list[Clip]:
    """Clips in file order, each video_uri absolute. ValueError names file, row, column and value."""
    clips: list[Clip] = []
    row_by_clip_id: dict[str, int] = {}
    for row, clip in _clips_of_table(Path(path)):
        first = row_by_clip_id.setdefault(clip.clip_id, row)
        if first != row:
            raise ValueError(
                f"{path}: row {row}: clip_id is {clip.clip_id!r}, as in row {first}; it must be unique"
            )
        clips.append(clip)
    return clips


def iter_clips(path: str | Path) -> Iterator[list[Clip]]:
    """As `read_clips`, some thousand at a time, in memory that does not grow with the table; an id may come twice.

    The path may also be a folder NAME.parquet of files, which are read in the order of their names; their relative URIs are relative
    to the folder that holds it.
    """
    clips = (clip for _, clip in _clips_of_table(Path(path)))
    while part := list(islice(clips, _ROWS_AT_ONCE)):
        yield part


def read_video_uris(path: Path) -> Iterator[str]:
    """The video_uri of every row of a table, absolute, in memory that does not grow with the table. ValueError for one that is missing."""
    shared = _Shared(path.resolve().parent)
    for file_path in table_files(path):
        with open_table(file_path, ("video_uri",)) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=["video_uri"]):
                for uri in batch["video_uri"].cast(pa.string()).to_pylist():
                    if not uri:
                        raise ValueError(
                            f"{file_path}: video_uri is {uri!r}; it must be a non-empty text"
                        )
                    yield shared.uri(uri)


def table_files(path: Path) -> list[Path]:
    """The files of a table of clips: itself, or those of a folder NAME.parquet. ValueError for a folder without one."""
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.parquet"))
    if not files:
        raise ValueError(f"{path} is a folder without one .parquet file; expected a table of clips")
    return files


def _clips_of_table(path: Path) -> Iterator[tuple[int, Clip]]:
    """(row, clip) in file order."""
    shared = _Shared(path.resolve().parent)
    for file_path in table_files(path):
        first = 0
        for batch in _checked_batches(file_path):
            for row, values in enumerate(batch.to_pylist(), first):
                yield row, _clip_of_row(values, shared, where=f"{file_path}: row {row}")
            first += len(batch)


def write_clips(path: str | Path, clips: "Sequence[Clip] | pd.DataFrame") -> None:
    """Writes all clips or nothing: a reader never sees a truncated file. A DataFrame has the columns of `clips_of_frame`."""
    path = Path(path)
    if not isinstance(clips, Sequence):
        clips = clips_of_frame(clips)
    ids = {clip.clip_id for clip in clips}
    if len(ids) != len(clips):
        raise ValueError(
            f"{path}: {len(clips) - len(ids)} clip_ids occur twice; they must be unique"
        )
    folder = path.resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "clip_id": clip.clip_id,
            "video_uri": _uri_below(clip.video_uri, folder),
            "start_s": float(clip.start_s),
            "end_s": None if clip.end_s is None else float(clip.end_s),
            "label": clip.label,
            "split": clip.split,
            "attributes": sorted(clip.attributes.items()),
        }
        for clip in clips
    ]
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=CLIPS_SCHEMA), temporary)


def clips_of_frame(frame: "pd.DataFrame") -> list[Clip]:
    """A clip per row of a DataFrame: `clip_id` and `video_uri`, and where they are there `start_s`, `end_s`, `label`, `split` and
    `attribute.NAME`; missing values are None. ValueError names row, column and value; other columns are left out.
    """
    missing = [name for name in _REQUIRED_COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(
            f"column {missing[0]!r} is missing; the DataFrame has {list(frame.columns)}"
        )
    clips, shared = [], _Shared(Path.cwd())
    for row, values in enumerate(frame.to_dict("records")):
        known = {str(name): value for name, value in values.items() if not _is_missing(value)}
        attributes = {
            name.removeprefix(_ATTRIBUTE): str(value)
            for name, value in known.items()
            if name.startswith(_ATTRIBUTE)
        }
        fields = {name: known.get(name) for name in CLIPS_SCHEMA.names}
        for name in ("start_s", "end_s"):
            if not isinstance(fields[name], Real | None):
                raise ValueError(
                    f"row {row}: {name} is {fields[name]!r}; it must be seconds, a number"
                )
        fields["attributes"] = list(attributes.items())  # as a map column is read
        for name in ("label", "split"):
            fields[name] = None if fields[name] is None else str(fields[name])
        clips.append(_clip_of_row(fields, shared, where=f"row {row}"))
    return clips


def _is_missing(value: object) -> bool:
    """None, NaN, NaT and NA, of which none equals itself."""
    return value is None or (not isinstance(value, str) and str(value) in ("nan", "NaT", "<NA>"))


def _checked_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Rows of a file with exactly our columns; label, split, attributes and the span may be missing."""
    with open_table(path, _REQUIRED_COLUMNS) as file:
        known = [wanted.name for wanted in CLIPS_SCHEMA if wanted.name in file.schema_arrow.names]
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=known):
            columns = [_checked_column(batch, wanted, path) for wanted in CLIPS_SCHEMA]
            yield pa.record_batch(columns, names=CLIPS_SCHEMA.names)


def _checked_column(batch: pa.RecordBatch, wanted: pa.Field, path: Path) -> pa.Array:
    if wanted.name not in batch.schema.names:
        return pa.nulls(len(batch), wanted.type)
    column = batch[wanted.name]
    try:
        return column.cast(wanted.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(
            f"{path}: column {wanted.name!r} has type {column.type}; it must be {wanted.type} ({error})"
        ) from error


class _Shared:
    """Values that many clips of a table have: each is kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._values: dict[Any, Any] = {}

    def uri(self, video_uri: str) -> str:
        """Absolute."""
        return self._kept(("uri", video_uri), lambda: _absolute_uri(video_uri, self._folder))

    def text(self, text: str | None) -> str | None:
        return self._kept(text, lambda: text)

    def attributes(self, pairs: Sequence[tuple[str, str]] | None) -> Mapping[str, str]:
        known = tuple(pair for pair in pairs or () if pair[1] is not None)
        return self._kept(known, lambda: dict(known))

    def _kept(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._values:
            if len(self._values) >= _MOST_SHARED:  # where every clip has its own, nothing is shared
                self._values.clear()
            self._values[key] = make()
        return self._values[key]


def _clip_of_row(values: dict[str, Any], shared: _Shared, *, where: str) -> Clip:
    for name in _REQUIRED_COLUMNS:
        if not values[name]:
            raise ValueError(f"{where}: {name} is {values[name]!r}; it must be a non-empty text")
    try:
        return Clip(
            clip_id=values["clip_id"],
            video_uri=shared.uri(values["video_uri"]),
            start_s=0.0 if values["start_s"] is None else values["start_s"],
            end_s=values["end_s"],
            label=shared.text(values["label"]),
            split=shared.text(values["split"]),
            attributes=shared.attributes(values["attributes"]),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _absolute_uri(video_uri: str, folder: Path) -> str:
    return video_uri if "://" in video_uri else str(folder / video_uri)


def _uri_below(video_uri: str, folder: Path) -> str:
    if "://" in video_uri:
        return video_uri
    path = Path(os.path.normpath(Path.cwd() / video_uri))
    for candidate in (path, path.parent.resolve() / path.name):
        if candidate.is_relative_to(folder):
            return str(candidate.relative_to(folder))
    return str(path)
