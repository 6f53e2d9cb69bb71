"""Reader of Label Studio's exports, JSON and JSON-MIN: regions of a video's timeline, or one choice for a whole video.

A region counts frames from 1 and holds both of its ends. Of several annotations of a task the last one counts, as the tool shows it.
"""

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from encoders.clips import Clip
from encoders.decoding.source import constant_rate, read_sources
from encoders.media.errors import DecodeError
from training.annotations.labels.names import label_attributes
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import (
    MadeUpIds,
    Problems,
    json_list,
    json_object,
    read_json,
)
from training.annotations.readers.video_folder import VideoNames

_MAX_RATE = 1000.0
_WHOLE: Any = object()
"""In the place of a range: the whole video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportLabelStudio(ImportOptions):
    """Label Studio: timeline labels or choices of videos, JSON or JSON-MIN."""

    annotations: Path
    """The export."""
    videos: str
    """The folder of the videos, or the URI that the files' names go behind."""
    frames_per_s: float | None = None
    """Frame rate that regions are counted at, where the tasks do not name it (`fps`); none = that of each video."""
    split: str = ""
    """Split of all clips, such as train."""

    def __post_init__(self) -> None:
        if self.frames_per_s is not None and not 0 < self.frames_per_s <= _MAX_RATE:
            raise ValueError(
                f"frames_per_s is {self.frames_per_s}; it must be above 0, at most {_MAX_RATE:g}"
            )


class _Videos:
    """What is known of videos: their frame rates, each read once, and the ids of their regions that have none."""

    def __init__(self, given: float | None) -> None:
        self._given = given
        self.ids = MadeUpIds()
        self._rates: dict[str, float] = {}

    def of(self, uri: str, named: object, where: str) -> float:
        """As the task names it, as the options give it, or as the video has it."""
        if named is not None:
            if (
                isinstance(named, bool)
                or not isinstance(named, int | float)
                or not 0 < named <= _MAX_RATE
            ):
                raise ValueError(f"{where}: fps is {named!r}; it must be a number above 0, at most {_MAX_RATE:g}")  # fmt: skip
            return float(named)
        if self._given is not None:
            return self._given
        if uri not in self._rates:
            if "://" in uri:
                raise ValueError(f"{where}: the task names no fps; give --frames-per-s")
            try:
                rate = constant_rate(read_sources([Path(uri)])[Path(uri)].times)
            except DecodeError as error:
                raise ValueError(f"{where}: {error}") from error
            if rate is None:
                raise ValueError(f"{where}: {uri} has a variable frame rate; give the --frames-per-s of the labelling")  # fmt: skip
            self._rates[uri] = float(rate)
        return self._rates[uri]


def read_label_studio(config: ImportLabelStudio, problems: Problems) -> list[Clip]:
    """A clip per region, or per task with a choice, in the order of the file."""
    path = config.annotations
    tasks = read_json(path, problems)
    if not isinstance(tasks, list):
        raise ValueError(f"{path}: it must be a list of tasks (Label Studio's JSON or JSON-MIN)")
    videos, known = VideoNames(config.videos), _Videos(config.frames_per_s)
    clips: dict[str, Clip] = {}
    for number, task in enumerate(tasks):
        where = f"{path}: task {number}"
        for clip in _clips(task, videos, known, config.split or None, where, problems):
            with problems.of_row():
                if clip.clip_id in clips:
                    raise ValueError(f"{where}: region id {clip.clip_id!r} occurs twice")
                clips[clip.clip_id] = clip
    return list(clips.values())


def _clips(
    task: Any,
    videos: VideoNames,
    known: _Videos,
    split: str | None,
    where: str,
    problems: Problems,
) -> Iterator[Clip]:
    uri, data = "", {}
    with problems.of_row():
        if not isinstance(task, dict):
            raise ValueError(f"{where}: it is a {type(task).__name__}; it must be an object")
        data = task["data"] if isinstance(task.get("data"), dict) else task
        names = (data.get(key) for key in ("video", "video_url", "videos"))
        name = next((name for name in names if isinstance(name, str) and name), None)
        if name is None:
            raise ValueError(f"{where}: it names no `video`")
        uri = videos.uri(_file_of(name))
    if not uri:
        return
    for region_id, value in _regions(task, where, problems):
        label, ranges = "", []
        with problems.of_row():
            label = _label(value, where)
            ranges = json_list(value["ranges"], where, "ranges") if "ranges" in value else [_WHOLE]
        for turn, given in enumerate(ranges):
            with problems.of_row():
                span: tuple[float, float | None] = (0.0, None)
                if given is not _WHOLE:
                    span = _span(given, known.of(uri, data.get("fps"), where), where)
                clip_id = region_id if len(ranges) == 1 else f"{region_id}-{turn}"
                yield Clip(
                    clip_id=clip_id if region_id else known.ids.make(videos.name(uri), *span),
                    video_uri=uri,
                    start_s=span[0],
                    end_s=span[1],
                    label=label or None,
                    split=split,
                    attributes=label_attributes(label),
                )


def _label(value: Mapping[str, Any], where: str) -> str:
    labels = value.get("timelinelabels") or value.get("choices") or []
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        raise ValueError(f"{where}: a region has the labels {labels!r}; it must have one")
    return labels[0].strip()


def _regions(
    task: Mapping[str, Any], where: str, problems: Problems
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(id, value) of the regions of a task, in both forms of the export."""
    if "annotations" not in task:
        yield from (("", value) for value in _short_regions(task, where, problems))
        return
    results: list[Any] = []
    with problems.of_row():
        given = json_list(task["annotations"], where, "annotations")
        done = [a for a in given if isinstance(a, dict) and not a.get("was_cancelled")]
        results = json_list(done[-1].get("result"), where, "result") if done else []
    on_timeline = {
        str(region["id"])
        for region in results
        if isinstance(region, dict) and region.get("type") == "timelinelabels" and region.get("id")
    }
    for region in results:
        with problems.of_row():
            if not isinstance(region, dict):
                raise ValueError(f"{where}: a region is {reprlib.repr(region)}; it must be an object")  # fmt: skip
            region_id = str(region.get("id") or "")
            if region.get("type") == "choices" and region_id in on_timeline:
                problems.note(f"choices of a region of the timeline are passed over: {region.get('from_name')!r}")  # fmt: skip
            elif region.get("type") in ("timelinelabels", "choices"):
                value = json_object(region.get("value"), where, "the value of a region")
                yield region_id, value
            else:
                problems.note(f"regions that are no spans are passed over, first: {where}: {reprlib.repr(region.get('type'))}", of="no span")  # fmt: skip


def _short_regions(
    task: Mapping[str, Any], where: str, problems: Problems
) -> Iterator[Mapping[str, Any]]:
    """JSON-MIN: a list under the name of the control, or one choice."""
    has_labels = "choice" in task
    for name, items in task.items():
        if isinstance(items, list) and any(_is_timeline(item) for item in items):
            has_labels = True
            for item in items:
                with problems.of_row():
                    if not _is_timeline(item):
                        raise ValueError(f"{where}: {name} has {reprlib.repr(item)}; it must be an object with timelinelabels")  # fmt: skip
                    yield item
    if "choice" in task:
        with problems.of_row():
            if not isinstance(task["choice"], str):
                raise ValueError(f"{where}: choice is {reprlib.repr(task['choice'])}; it must be a text")  # fmt: skip
            yield {"choices": [task["choice"]]}
    if not has_labels:
        problems.note(f"tasks without a labelled region are passed over, first: {where}", of="no label")  # fmt: skip


def _is_timeline(item: Any) -> bool:
    return isinstance(item, dict) and "timelinelabels" in item


def _span(given: Any, rate: float, where: str) -> tuple[float, float]:
    start, end = (given.get(name) if isinstance(given, dict) else None for name in ("start", "end"))
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in (start, end)) or not 1 <= start <= end < math.inf:  # type: ignore[operator] # fmt: skip
        raise ValueError(f"{where}: a range is {reprlib.repr(given)}; it must have 1 <= start <= end, in frames")  # fmt: skip
    return (start - 1) / rate, end / rate  # type: ignore[operator]


def _file_of(name: str) -> str:
    """The file behind an address of Label Studio's own storage, which adds a prefix to the names of uploads."""
    parts = urlsplit(name)
    local = parse_qs(parts.query).get("d")
    if parts.path.startswith("/data/local-files") and local:
        return local[0]
    if parts.path.startswith("/data/upload/"):
        return unquote(parts.path).rsplit("/", 1)[-1].split("-", 1)[-1]
    return name


def _read(config: ImportLabelStudio, problems: Problems) -> ReadLabels:
    return ReadLabels(clips=read_label_studio(config, problems), missing={})


READER = LabelReader(
    config=ImportLabelStudio,
    read=_read,
    example="--annotations tasks.json --videos videos/ --out clips.parquet",
)
