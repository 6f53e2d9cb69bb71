"""Labelled clips as files of other programs: CSV, Label Studio tasks, OSL JSON (SoccerNet's OpenSportsLib).

`tfcovr import-annotations` reads each of them again, and `tfcovr build --labels` the CSV. Videos are named relative to the folder that they
share, so that nobody learns where it lies and the folder can be moved.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from encoders.decoding.source import Source, read_sources
from encoders.media.container import path_of
from encoders.media.frame_index import Span, frames_between
from indexing.search.types import ClipPlace
from indexing.sources.uris import is_remote

HEAD = "action"
"""Name of the one annotation head that is written."""


def with_relative_videos(places: Sequence[ClipPlace]) -> list[ClipPlace]:
    """Local videos below the folder that all of them share; addresses as they are."""
    paths = {p.video_uri: path_of(p.video_uri) for p in places if not is_remote(p.video_uri)}
    if not paths:
        return list(places)
    root = os.path.commonpath([str(path.parent) for path in paths.values()])
    names = {uri: os.path.relpath(path, root) for uri, path in paths.items()}
    return [replace(place, video_uri=names.get(place.video_uri, place.video_uri)) for place in places]  # fmt: skip


def csv_text(places: Sequence[ClipPlace]) -> str:
    """A row per clip; the header is that of a table of clips. An attribute that a label lacks is empty."""
    names = sorted({name for place in places for name in place.attributes})
    header = ["clip_id", "video_uri", "start_s", "end_s", "label", "split"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, *(f"attribute.{name}" for name in names)])
    for place in with_relative_videos(places):
        end = "" if place.end_s is None else repr(place.end_s)
        own = [place.attributes.get(name, "") for name in names]
        writer.writerow(
            [place.clip_id, place.video_uri, repr(place.start_s), end, place.label, place.split or "", *own]
        )  # fmt: skip
    return text.getvalue()


def osl_text(places: Sequence[ClipPlace]) -> str:
    """A sample per clip, in OSL JSON 2.0: its label, and where it lies in its video, in milliseconds."""
    labels = sorted({str(place.label) for place in places})
    samples = []
    for place in with_relative_videos(places):
        metadata: dict[str, Any] = {"start_ms": 1000 * place.start_s}
        if place.end_s is not None:
            metadata["end_ms"] = 1000 * place.end_s
        if place.split:
            metadata["split"] = place.split
        sample: dict[str, Any] = {
            "id": place.clip_id,
            "inputs": [{"type": "video", "path": place.video_uri}],
            "labels": {HEAD: {"label": place.label}},
            "metadata": metadata,
        }
        if place.start_s > 0 or place.end_s is not None:
            event = {"head": HEAD, "label": place.label, "position_ms": round(1000 * place.start_s)}
            sample["events"] = [event]
        samples.append(sample)
    document = {
        "version": "2.0",
        "dataset_name": "tfcovr",
        "description": "",
        "modalities": ["video"],
        "metadata": {},
        "labels": {HEAD: {"type": "single_label", "labels": labels}},
        "data": samples,
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def label_studio_text(places: Sequence[ClipPlace]) -> str:
    """A task per video with a region of its timeline per clip. Frames count from 1, both ends belong to the region; `fps` of the task is
    what they are counted at (`frameRate="$fps"` in the labelling config). ValueError for a video that is not on this machine or has a
    variable frame rate, DecodeError for one that cannot be read.
    """
    if remote := next((p.video_uri for p in places if is_remote(p.video_uri)), None):
        raise ValueError(
            f"video {remote!r} is not on this machine, and Label Studio counts frames; export csv or osl"
        )
    sources = read_sources([path_of(place.video_uri).resolve() for place in places])
    by_video: dict[str, list[dict[str, Any]]] = {}
    rates: dict[str, float] = {}
    for place, named in zip(places, with_relative_videos(places), strict=True):
        source = sources[path_of(place.video_uri).resolve()]
        rates[named.video_uri] = _rate_of(source)
        frames = frames_between(
            source.times.times_s,
            source.times.tick_s,
            Span(start_s=place.start_s, end_s=place.end_s),
        )
        if not frames:
            raise ValueError(f"clip {place.clip_id!r} has no frame of its video")
        by_video.setdefault(named.video_uri, []).append(
            {
                "id": place.clip_id,
                "type": "timelinelabels",
                "from_name": HEAD,
                "to_name": "video",
                "value": {
                    "ranges": [{"start": frames.start + 1, "end": frames.stop}],
                    "timelinelabels": [place.label],
                },
            }
        )
    tasks = [
        {"data": {"video": video, "fps": rates[video]}, "annotations": [{"result": regions}]}
        for video, regions in by_video.items()
    ]
    return json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"


def _rate_of(source: Source) -> float:
    if source.rate is None:
        raise ValueError(
            f"{source.path} has a variable frame rate, and Label Studio finds frames by one rate; export csv or osl"
        )
    return float(source.rate)


FORMATS: dict[str, tuple[str, Callable[[Sequence[ClipPlace]], str]]] = {
    "csv": (".csv", csv_text),
    "label-studio": (".json", label_studio_text),
    "osl": (".json", osl_text),
}
"""Name -> ending of a file, and what writes it."""


def write_labels(places: Sequence[ClipPlace], kind: str, path: Path) -> None:
    """Write a file whole or not at all. ValueError where there are no labels or the format is unknown."""
    from cluster.storage import write_atomic

    write_atomic(path, labels_text(places, kind))


def labels_text(places: Sequence[ClipPlace], kind: str) -> str:
    """The text of a file; ValueError where there are no labels or the format is unknown."""
    if kind not in FORMATS:
        raise ValueError(f"format is {kind!r}; choose one of {', '.join(FORMATS)}")
    if not places:
        raise ValueError("no clip has a label yet")
    return FORMATS[kind][1](places)
