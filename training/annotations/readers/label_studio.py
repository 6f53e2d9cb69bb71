"""Reader of Label Studio's exports, JSON and JSON-MIN: regions of a video's timeline, or one choice for a whole video.

A region counts frames from 1 and holds both of its ends. Of several annotations of a task the last one counts, as the tool shows it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from encoders.clips import Clip
from encoders.decoding.source import constant_rate, read_sources
from encoders.media.errors import DecodeError
from training.annotations.labels.names import label_attributes
from training.annotations.readers.label_file import VideoNames
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import Problems, read_json

_MAX_RATE = 1000.0


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
    """What is known of videos: their frame rates, each read once, and how many regions they have."""

    def __init__(self, given: float | None) -> None:
        self._given = given
        self.counts: Counter[str] = Counter()
        """Regions without an id so far, by the name of their video."""
        self._rates: dict[str, float] = {}

    def of(self, uri: str, named: object, where: str) -> float:
        """As the task names it, as the options give it, or as the video has it."""
        if isinstance(named, int | float) and 0 < named <= _MAX_RATE:
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
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise ValueError(f"{path}: it must be a list of tasks (Label Studio's JSON or JSON-MIN)")
    videos, known = VideoNames(config.videos), _Videos(config.frames_per_s)
    clips: list[Clip] = []
    seen: set[str] = set()
    for number, task in enumerate(tasks):
        where = f"{path}: task {number}"
        with problems.of_row():
            for clip in _clips(task, videos, known, config.split or None, where):
                if clip.clip_id in seen:
                    raise ValueError(f"{where}: region id {clip.clip_id!r} occurs twice")
                seen.add(clip.clip_id)
                clips.append(clip)
    return clips


def _clips(
    task: Any, videos: VideoNames, known: _Videos, split: str | None, where: str
) -> Iterator[Clip]:
    if not isinstance(task, dict):
        raise ValueError(f"{where}: it is a {type(task).__name__}; it must be an object")
    data = task["data"] if isinstance(task.get("data"), dict) else task
    name = next((data[key] for key in ("video", "video_url", "videos") if isinstance(data.get(key), str)), "")  # fmt: skip
    if not name:
        raise ValueError(f"{where}: it names no `video`")
    uri = videos.uri(_file_of(name))
    stem = PurePosixPath(uri).stem
    for region_id, value in _regions(task):
        labels = value.get("timelinelabels") or value.get("choices") or []
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise ValueError(f"{where}: a region has the labels {labels!r}; it must have one")
        label = labels[0].strip()
        spans: list[tuple[float, float | None]] = [(0.0, None)]
        if "ranges" in value:
            rate = known.of(uri, data.get("fps"), where)
            spans = [_span(given, rate, where) for given in value["ranges"]]
        known.counts[stem] += not region_id
        for turn, (start_s, end_s) in enumerate(spans):
            clip_id = region_id or f"{stem}-{known.counts[stem]}"
            yield Clip(
                clip_id=clip_id if len(spans) == 1 else f"{clip_id}-{turn}",
                video_uri=uri,
                start_s=start_s,
                end_s=end_s,
                label=label or None,
                split=split,
                attributes=label_attributes(label),
            )


def _regions(task: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(id, value) of the regions of a task, in both forms of the export."""
    annotations = task.get("annotations")
    if isinstance(annotations, list):
        done = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
        for region in done[-1].get("result") or [] if done else []:
            if region.get("type") in ("timelinelabels", "choices"):
                yield str(region.get("id") or ""), region.get("value") or {}
        return
    for value in task.values():
        if isinstance(value, list):  # JSON-MIN: a list under the name of the control
            yield from (("", item) for item in value if isinstance(item, dict) and "timelinelabels" in item)  # fmt: skip
    if isinstance(task.get("choice"), str):
        yield "", {"choices": [task["choice"]]}


def _span(given: Any, rate: float, where: str) -> tuple[float, float]:
    start, end = (given.get(name) if isinstance(given, dict) else None for name in ("start", "end"))
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in (start, end)) or not 1 <= start <= end:  # type: ignore[operator] # fmt: skip
        raise ValueError(f"{where}: a range is {given!r}; it must have 1 <= start <= end, in frames")  # fmt: skip
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
