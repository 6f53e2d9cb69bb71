"""Reader of FineGym: the annotation JSON, the category files and the split files of gym99 and gym288.

The JSON is {video: {event: {"event": number, "timestamps": [[s, e]], "segments": null or
{element: {"stages": n, "timestamps": [[s, e], ...]}}}}}; seconds of an event count from the start of the
video, those of an element from the start of its event. A line of a category file is
"Clabel: 0; set: 1; Glabel: 1; (VT) round-off, ...", a line of a split file "VIDEO_E_..._A_... 17".
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from encoders.clips import Clip
from training.annotations.labels.gym_names import parse_gym_name
from training.annotations.labels.names import gym99_names
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import Problems, read_json, read_lines
from training.annotations.readers.video_folder import VideoFolder

_ELEMENT_ID = re.compile(r"(?P<video>.{11})_(?P<event>E_\d{6}_\d{6})_(?P<element>A_\d{4}_\d{4})")
_EVENT_KEY, _ELEMENT_KEY = re.compile(r"E_\d{6}_\d{6}"), re.compile(r"A_\d{4}_\d{4}")
_CATEGORY = re.compile(
    r"Clabel:\s*(?P<class>\d{1,3});\s*set:\s*\d+;\s*Glabel:\s*\d+;\s*(?P<name>\((?:VT|FX|BB|UB)\)\s*\S.*)"
)
_NUM_CLASSES = {"gym99": 99, "gym288": 288}

GymClasses = Literal["gym99", "gym288"]
VideoCut = Literal["video", "event", "element"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FineGymFiles:
    """Paths of the label files, and the cut of the videos."""

    annotations: Path
    """Path of finegym_annotation_info_v1.1.json."""
    splits: Mapping[str, Path]
    """Path of a split file, such as gym99_train_element_v1.1.txt, by the name of our split."""
    classes: GymClasses = "gym99"
    """Class set of the split files."""
    categories: Path | None = None
    """Path of gym99_categories.txt or gym288_categories.txt; None = packaged names for gym99, no names for gym288."""
    cut: VideoCut = "element"
    """Content of one video file: a whole video (VIDEO.mp4), an event (VIDEO_E_....mp4) or an element (VIDEO_E_..._A_....mp4)."""


def read_finegym(files: FineGymFiles, videos: VideoFolder, problems: Problems) -> list[Clip]:
    """A clip per line of the split files; its label is the class's name, or its number if no name is known."""
    spans = read_element_spans(files.annotations, problems)
    names = class_names(files.classes, files.categories)
    clips: list[Clip] = []
    first_line: dict[str, str] = {}
    for split, path in files.splits.items():
        for line, element_id, number in read_split(path, files.classes, problems):
            where = f"{path}: line {line}"
            with problems.of_row():
                if element_id in first_line:
                    raise ValueError(
                        f"{where}: element is {element_id!r}, as in {first_line[element_id]}; it must be unique"
                    )
                first_line[element_id] = where
                if element_id not in spans:
                    raise ValueError(
                        f"{where}: element is {element_id!r}; it must be one of {files.annotations}"
                    )
                clips.append(
                    _clip(
                        element_id,
                        spans[element_id],
                        split,
                        names.get(number),
                        number,
                        files.cut,
                        videos,
                    )
                )
    return clips


def _clip(  # noqa: PLR0913 - the parts of one clip
    element_id: str,
    span: "ElementSpan",
    split: str,
    name: str | None,
    number: int,
    cut: VideoCut,
    videos: VideoFolder,
) -> Clip:
    match = _ELEMENT_ID.fullmatch(element_id)
    assert match is not None
    video = {
        "video": match["video"],
        "event": f"{match['video']}_{match['event']}",
        "element": element_id,
    }[cut]
    offset = span.event_start_s if cut == "video" else 0.0
    if offset is None:
        raise ValueError(
            f"element {element_id!r}: its event has no timestamps [[start, end]] in seconds, which count from the start of the video"
        )
    return Clip(
        clip_id=element_id,
        video_uri=videos.uri(video, needed_by=element_id),
        start_s=0.0 if cut == "element" else offset + span.start_s,
        end_s=None if cut == "element" else offset + span.end_s,
        label=str(number) if name is None else name,
        split=split,
        attributes={} if name is None else parse_gym_name(name.split(" #")[0]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ElementSpan:
    """Time span of an element in seconds; `start_s` and `end_s` count from the start of its event."""

    event_start_s: float | None
    """None where the file gives the event no span: only whole videos need it."""
    start_s: float
    end_s: float


def read_element_spans(path: Path, problems: Problems) -> dict[str, ElementSpan]:
    """Element id -> span, of all events that have elements."""
    spans: dict[str, ElementSpan] = {}
    for video, events in _object(read_json(path, problems), path, "the file").items():
        if not isinstance(events, dict):
            with problems.of_row():
                _object(events, path, video)
            continue
        for event_key, event in events.items():
            with problems.of_row():
                spans |= _spans_of_event(path, video, event_key, event, problems)
    return spans


def _spans_of_event(
    path: Path, video: str, event_key: str, event: object, problems: Problems
) -> dict[str, ElementSpan]:
    place = f"{video}/{event_key}"
    if len(video) != 11 or not _EVENT_KEY.fullmatch(event_key):
        raise ValueError(
            f"{path}: {place}: the keys must be a video of 11 characters and an event such as E_002407_002435"
        )
    fields = _object(event, path, place)
    event_start_s = None
    with suppress(ValueError):
        event_start_s, _ = _span(fields.get("timestamps"), path, place)
    spans: dict[str, ElementSpan] = {}
    if fields.get("segments") is None:
        return spans
    for key, element in _object(fields["segments"], path, f"{place}/segments").items():
        with problems.of_row():
            if not _ELEMENT_KEY.fullmatch(key):
                raise ValueError(
                    f"{path}: {place}: an element is named {key!r}; it must be like A_0003_0005"
                )
            stamps = _object(element, path, f"{place}/{key}").get("timestamps")
            start_s, end_s = _span(stamps, path, f"{place}/{key}")
            spans[f"{video}_{event_key}_{key}"] = ElementSpan(
                event_start_s=event_start_s, start_s=start_s, end_s=end_s
            )
    return spans


def _span(stamps: object, path: Path, place: str) -> tuple[float, float]:
    """[[s, e], ...] -> (first s, last e): a vault comes in several stages."""
    if isinstance(stamps, list) and stamps:
        pairs = [pair for pair in stamps if isinstance(pair, list) and len(pair) == 2]
        numbers = [value for pair in pairs for value in pair if type(value) in (int, float)]
        is_whole = len(pairs) == len(stamps) and len(numbers) == 2 * len(pairs)
        if is_whole and 0 <= numbers[0] < numbers[-1] < math.inf:
            return float(numbers[0]), float(numbers[-1])
    raise ValueError(
        f"{path}: {place}: timestamps is {str(stamps)[:80]!r}; it must be [[start, end], ...] in seconds, 0 <= start < end"
    )


def _object(value: object, path: Path, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {place}: a {type(value).__name__} where a JSON object must be")
    return value


def class_names(classes: GymClasses, categories: Path | None) -> dict[int, str]:
    """Class number -> name, as "(FX) stag jump"; classes that share a name get the suffix " #<number>".

    Names come from the file, never from the other set's numbering; {} for gym288 without a file.
    """
    names: dict[int, str] = {}
    if categories is None:
        names = dict(enumerate(gym99_names())) if classes == "gym99" else {}
    else:
        for line, text in read_lines(categories, Problems()):
            match = _CATEGORY.fullmatch(text)
            if match is None or int(match["class"]) >= _NUM_CLASSES[classes]:
                raise ValueError(
                    f"{categories}: line {line}: {text[:80]!r}; it must be like "
                    f"'Clabel: 0; set: 1; Glabel: 1; (VT) name' with Clabel below {_NUM_CLASSES[classes]}"
                )
            if int(match["class"]) in names:
                raise ValueError(f"{categories}: line {line}: Clabel {match['class']} occurs twice")
            names[int(match["class"])] = match["name"].strip()
    shared = Counter(names.values())
    return {n: name if shared[name] == 1 else f"{name} #{n}" for n, name in names.items()}


def read_split(
    path: Path, classes: GymClasses, problems: Problems
) -> Iterator[tuple[int, str, int]]:
    """(line, element id, class number) of a split file."""
    for line, text in read_lines(path, problems):
        with problems.of_row():
            parts = text.split()
            if len(parts) != 2 or not _ELEMENT_ID.fullmatch(parts[0]):
                raise ValueError(
                    f"{path}: line {line}: {text[:80]!r}; it must be like 'VIDEO_E_002407_002435_A_0003_0005 17'"
                )
            if (
                not (parts[1].isascii() and parts[1].isdigit())
                or int(parts[1]) >= _NUM_CLASSES[classes]
            ):
                raise ValueError(
                    f"{path}: line {line}: class is {parts[1]!r}; it must be 0 to {_NUM_CLASSES[classes] - 1} ({classes})"
                )
            yield line, parts[0], int(parts[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportFineGym(ImportOptions):
    """FineGym: annotation JSON and split files."""

    files: FineGymFiles
    videos: Path
    """Folder of the videos, cut as --files.cut says."""


def _read(config: ImportFineGym, problems: Problems) -> ReadLabels:
    videos = VideoFolder(config.videos)
    return ReadLabels(clips=read_finegym(config.files, videos, problems), missing=videos.missing)


READER = LabelReader(
    config=ImportFineGym,
    read=_read,
    example="--files.annotations finegym_annotation_info_v1.1.json \\\n"
    "      --files.splits train gym99_train_element_v1.1.txt val gym99_val_element.txt --videos subactions --out clips.parquet",
)
