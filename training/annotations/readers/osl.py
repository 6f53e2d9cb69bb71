"""Reader of OSL JSON, the format of SoccerNet's OpenSportsLib and its annotation tool.

A sample is one video input with a label of the chosen head (`labels`), events at points in time (`events`), or both. A sample with
`start_ms` in its metadata is that span, as `tfcovr labels` writes it; an event without an end becomes a span around its point. The
older form, `videos` with `annotations` at a `position`, is read as samples with events.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from encoders.clips import Clip
from training.annotations.labels.names import label_attributes
from training.annotations.readers.clip_table import missing_videos
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import (
    MadeUpIds,
    Problems,
    json_list,
    json_object,
    read_json,
    split_name,
)

_MAX_DIGITS = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOsl(ImportOptions):
    """OSL JSON (SoccerNet's OpenSportsLib)."""

    annotations: Path
    """The JSON; paths of videos are relative to its folder."""
    head: str = ""
    """The annotation head to read; none = the only one."""
    before_s: float = 2.0
    """Seconds before the point of an event that its span begins."""
    after_s: float = 2.0
    """Seconds behind it that the span ends."""
    split: str = ""
    """Split of samples that name none, such as train."""

    def __post_init__(self) -> None:
        if not (self.before_s >= 0 and self.after_s >= 0 and self.before_s + self.after_s > 0):
            raise ValueError(
                f"before_s is {self.before_s} and after_s {self.after_s}; both must be at least 0, and one above"
            )


def read_osl(config: ImportOsl, problems: Problems) -> list[Clip]:
    """A clip per labelled sample, or per event of a sample without a span of its own."""
    path = config.annotations
    document = read_json(path, problems)
    if not isinstance(document, dict):
        raise ValueError(f"{path}: it must be an object (OSL JSON)")
    samples = document.get("data")
    if isinstance(document.get("videos"), list):
        samples = [_sample_of_video(video) for video in document["videos"]]
    elif not isinstance(samples, list):
        raise ValueError(f"{path}: it must have a list `data` (OSL JSON), or `videos`")
    head = "" if "videos" in document else _head(path, document, config.head)
    clips: dict[str, Clip] = {}
    for number, sample in enumerate(samples):
        where = f"{path}: sample {number}"
        for clip in _clips(sample, head, config, where, problems):
            with problems.of_row():
                if clip.clip_id in clips:
                    raise ValueError(f"{where}: id {clip.clip_id!r} occurs twice")
                clips[clip.clip_id] = clip
    return list(clips.values())


def _sample_of_video(video: Any) -> Any:
    """A video of the older form as a sample; what is no list or no object stays, and is told as that."""
    if not isinstance(video, dict):
        return video
    events = video.get("annotations")
    if isinstance(events, list):
        events = [_event_of_annotation(annotation) for annotation in events]
    return {"inputs": [{"type": "video", "path": video.get("path")}], "events": events}


def _event_of_annotation(annotation: Any) -> Any:
    """Times are milliseconds, also as text."""
    if not isinstance(annotation, dict):
        return annotation
    metadata = annotation.get("metadata")
    end = metadata.get("end_position") if isinstance(metadata, dict) else None
    position = annotation.get("position")
    if isinstance(position, str) and position.isascii() and position.isdigit():
        position = int(position) if len(position) <= _MAX_DIGITS else math.inf
    return {"head": "", "label": annotation.get("label"), "position_ms": position, "end_ms": end}


def _head(path: Path, document: Mapping[str, Any], chosen: str) -> str:
    heads = document.get("labels")
    names = list(heads) if isinstance(heads, dict) else []
    if chosen and (chosen in names or not names):
        return chosen
    if chosen or len(names) != 1:
        raise ValueError(
            f"{path}: head is {chosen!r}; it must be one of {', '.join(map(repr, names)) or 'those of the samples: name it'}"
        )
    return names[0]


def _clips(
    sample: Any, head: str, config: ImportOsl, where: str, problems: Problems
) -> Iterator[Clip]:
    sample_id, uri, split, events = "", "", None, []
    with problems.of_row():
        if not isinstance(sample, dict):
            raise ValueError(f"{where}: it is a {type(sample).__name__}; it must be an object")
        uri = _video(sample, config.annotations, where)
        named = sample.get("id")
        sample_id = named if isinstance(named, str) and named else PurePosixPath(uri).stem
        metadata = json_object(sample.get("metadata"), where, "metadata")
        split = _split(metadata.get("split"), where) or config.split or None
        labels = json_object(sample.get("labels"), where, "labels")
        of_head = json_object(labels.get(head), where, f"labels.{head}")
        label = of_head.get("label")
        if label is None and of_head.get("labels"):
            raise ValueError(f"{where}: head {head!r} has the labels {of_head['labels']!r}; a clip has one")  # fmt: skip
        given = json_list(sample.get("events"), where, "events")
        events = [e for e in given if not isinstance(e, dict) or e.get("head", head) == head]
        if label is None and not events:
            problems.note(f"samples without a label or event of head {head!r} are passed over, first: {sample_id!r}", of="no label")  # fmt: skip
        if label is not None and events and "start_ms" not in metadata:
            problems.note(f"of samples with a label and events the events are read, first: {sample_id!r}", of="both")  # fmt: skip
        if label is not None and ("start_ms" in metadata or not events):
            events = []
            span = _seconds(metadata, "start_ms", where) or 0.0, _seconds(metadata, "end_ms", where)
            yield _clip(sample_id, uri, span, label, split, where)
    ids = MadeUpIds()
    for number, event in enumerate(events):
        with problems.of_row():
            known = json_object(event, where, f"event {number}")
            span = _span(known, config, f"{where}: event {number}")
            label = known.get("label")
            yield _clip(ids.make(sample_id, *span), uri, span, label, split, where)


def _span(event: Mapping[str, Any], config: ImportOsl, where: str) -> tuple[float, float]:
    at_s = _seconds(event, "position_ms", where)
    if at_s is None:
        raise ValueError(f"{where} has no position_ms")
    end_s = _seconds(event, "end_ms", where)
    if end_s is not None:
        return at_s, end_s
    return max(at_s - config.before_s, 0.0), at_s + config.after_s


def _clip(
    clip_id: str,
    uri: str,
    span: tuple[float, float | None],
    label: Any,
    split: str | None,
    where: str,
) -> Clip:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{where}: label is {label!r}; it must be a non-empty text")
    label = label.strip()
    try:
        return Clip(
            clip_id=clip_id,
            video_uri=uri,
            start_s=span[0],
            end_s=span[1],
            label=label,
            split=split,
            attributes=label_attributes(label),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _split(value: Any, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{where}: split is {value!r}; it must be a text such as train")
    return split_name(value or "")


def _video(sample: Mapping[str, Any], path: Path, where: str) -> str:
    """The first video input: of several views, the first is the main one."""
    inputs = sample.get("inputs")
    for item in inputs if isinstance(inputs, list) else []:
        named = item.get("path") if isinstance(item, dict) else None
        if isinstance(named, str) and named and item.get("type", "video") == "video":
            return named if "://" in named else str(path.resolve().parent / named)
    raise ValueError(f"{where}: no input of type video with a path")


def _seconds(values: Mapping[str, Any], name: str, where: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 <= value < math.inf):
        raise ValueError(f"{where}: {name} is {value!r}; it must be milliseconds, at least 0")
    return value / 1000


def _read(config: ImportOsl, problems: Problems) -> ReadLabels:
    clips = read_osl(config, problems)
    return ReadLabels(clips=clips, missing=missing_videos(clips))


READER = LabelReader(
    config=ImportOsl, read=_read, example="--annotations annotations.json --out clips.parquet"
)
