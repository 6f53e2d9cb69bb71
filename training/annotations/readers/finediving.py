"""Reader of FineDiving: its coarse or fine-grained annotation pickle and its split pickles.

An annotation is a pickled dict (competition, dive number in it) -> fields, by name ("action_type",
"start_frame", ...) or in the order of the quality-assessment file, whose first field is the action type.
A split is a pickled list of such keys. The pickles are read as data (see pickle_reader): of NumPy only
plain numbers, and arrays whose content is skipped. The frames of a dive lie in FRAMES/<competition>/<number>/00489.jpg;
frame_folders packs such a folder into one video, which is what a clip points to.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoders.clips import Clip
from training.annotations.embeddings.pickle_reader import Builder, PickleReader, latin1_bytes
from training.annotations.labels.dive_numbers import parse_dive_number
from training.annotations.readers.frame_folders import pack_missing_videos
from training.annotations.readers.reader import ImportOptions, LabelReader, ReadLabels
from training.annotations.readers.rows import Problems
from training.annotations.readers.video_folder import VideoFolder

DiveKey = tuple[str, int]
"""(competition, dive in it)"""
DiveCut = Literal["dive", "competition"]
_NUMBER_TYPES = ("f8", "f4", "i8", "i4", "u1", "b1")


@dataclass(frozen=True, kw_only=True, slots=True)
class FineDivingFiles:
    """Paths of the label files, and the content of a video file."""

    annotations: Path
    """Path of FineDiving_coarse_annotation.pkl or FineDiving_fine-grained_annotation.pkl."""
    splits: Mapping[str, Path]
    """Path of train_split.pkl or test_split.pkl, by the name of our split."""
    cut: DiveCut = "dive"
    """Content of one video file: a dive (COMPETITION_NUMBER.mp4, as in the released code) or a whole competition (COMPETITION.mp4)."""
    frames_per_s: float | None = None
    """Frame rate of start_frame and end_frame, which count from 1; needed for whole competitions only."""

    def __post_init__(self) -> None:
        if (self.cut == "competition") != (self.frames_per_s is not None):
            raise ValueError(
                f"frames_per_s is {self.frames_per_s}; it must be given with whole competitions, and only then"
            )
        if self.frames_per_s is not None and not 0 < self.frames_per_s <= 1000:
            raise ValueError(
                f"frames_per_s is {self.frames_per_s}; it must be above 0, at most 1000"
            )


def read_finediving(files: FineDivingFiles, videos: VideoFolder, problems: Problems) -> list[Clip]:
    """A clip per key of the split files; its label is the dive number in lower case, as in the released label list."""
    fields_by_key = read_annotations(files.annotations, problems)
    clips: list[Clip] = []
    first_path: dict[DiveKey, Path] = {}
    for split, path in files.splits.items():
        for place, entry in enumerate(read_split(path)):
            with problems.of_row():
                where = f"{path}: entry {place}"
                key = _key(entry, where)
                if key in first_path:
                    raise ValueError(
                        f"{where}: {key!r} is in {first_path[key]} too; it must be unique"
                    )
                first_path[key] = path
                if key not in fields_by_key:
                    raise ValueError(f"{where}: {key!r}; it must be one of {files.annotations}")
                clips.append(_clip(key, fields_by_key[key], split, files, videos))
    return clips


def _clip(
    key: DiveKey, fields: Mapping[str, Any], split: str, files: FineDivingFiles, videos: VideoFolder
) -> Clip:
    competition, _number = key
    clip_id = dive_name(key)
    dive = parse_dive_number(fields["action_type"])
    start_s, end_s = 0.0, None
    if files.frames_per_s is not None:
        first, last = (
            _frame(files.annotations, key, fields, f) for f in ("start_frame", "end_frame")
        )
        if not 1 <= first < last:
            raise ValueError(
                f"{files.annotations}: {key!r}: start_frame is {first}, end_frame {last}; it must be 1 <= start < end"
            )
        start_s, end_s = (first - 1) / files.frames_per_s, last / files.frames_per_s
    video = clip_id if files.cut == "dive" else competition
    return Clip(
        clip_id=clip_id,
        video_uri=videos.uri(video, needed_by=clip_id),
        start_s=start_s,
        end_s=end_s,
        label=dive.code,
        split=split,
        attributes=dive.attributes,
    )


def dive_name(key: DiveKey) -> str:
    """The name that the released code gives a dive's video: COMPETITION_NUMBER."""
    return f"{key[0]}_{key[1]}"


def _frame(path: Path, key: DiveKey, fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, (int, float)) and math.isfinite(value) and value == int(value):
        return int(value)
    raise ValueError(f"{path}: {key!r}: {name} is {value!r}; it must be a whole number")


def read_annotations(path: Path, problems: Problems) -> dict[DiveKey, dict[str, Any]]:
    """The fields of each dive by key; ValueError for an action type that is not a dive number."""
    value = _read_pickle(path)
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{path}: it is a {type(value).__name__}; it must be a dict of dives")
    fields_by_key: dict[DiveKey, dict[str, Any]] = {}
    for key, fields in value.items():
        with problems.of_row():
            checked = _key(key, f"{path}: a key")
            if isinstance(fields, (list, tuple)) and fields:
                fields = {"action_type": fields[0]}
            if not isinstance(fields, dict) or not isinstance(fields.get("action_type"), str):
                raise ValueError(
                    f"{path}: {checked!r}: action_type is missing; it must be a dive number"
                )
            try:
                parse_dive_number(fields["action_type"])
            except ValueError as error:
                raise ValueError(f"{path}: {checked!r}: action_type: {error}") from error
            fields_by_key[checked] = fields
    return fields_by_key


def read_split(path: Path) -> Sequence[object]:
    """The keys of a split, in file order, not yet checked."""
    value = _read_pickle(path)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{path}: it is a {type(value).__name__}; it must be a list of dives")
    return value


def _key(key: object, where: str) -> DiveKey:
    if isinstance(key, (list, tuple)) and len(key) == 2:
        competition, number = key
        if isinstance(number, str) and number.isascii() and number.isdigit():
            number = int(number)
        if isinstance(competition, str) and competition and type(number) is int and number >= 0:
            return competition, number
    raise ValueError(f"{where} is {str(key)[:80]}; it must be (competition, number)")


def _read_pickle(path: Path) -> object:
    content = path.read_bytes()
    reader = PickleReader(content, source=str(path), builders=_NUMPY_BUILDERS)
    value = reader.load()
    if not reader.at_end:
        raise ValueError(f"{path}: byte {reader.position}: trailing bytes after the pickle")
    return value


class _UnreadArray:
    """A NumPy array whose content is skipped."""

    def set_state(self, state: object) -> None:
        """Drop shape and content."""


class _NumberType:
    def __init__(self, code: str) -> None:
        self.code = code

    def set_state(self, state: object) -> None:
        """Check byte order and layout: only little-endian plain numbers are accepted."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise ValueError("a NumPy number is big-endian or structured; plain ones are read")


def _number_type(code: object = None, *_: object) -> _NumberType:
    if not isinstance(code, str):
        raise ValueError("a NumPy type without a code")
    return _NumberType(code)


def _scalar(number_type: object = None, content: object = b"") -> float | int | bool:
    """Convert a NumPy number to a Python number."""
    if not isinstance(number_type, _NumberType) or number_type.code not in _NUMBER_TYPES:
        code = getattr(number_type, "code", None)
        raise ValueError(f"a NumPy number of type {code!r}; allowed are {', '.join(_NUMBER_TYPES)}")
    dtype = np.dtype(number_type.code).newbyteorder("<")
    if not isinstance(content, (bytes, memoryview)) or len(content) != dtype.itemsize:
        raise ValueError("a NumPy number whose bytes do not fit its type")
    return np.frombuffer(content, dtype)[0].item()


def _unread_array(*_: object) -> _UnreadArray:
    return _UnreadArray()


_NUMPY_BUILDERS: dict[tuple[str, str], Builder] = {
    ("numpy", "ndarray"): _unread_array,
    ("numpy", "dtype"): _number_type,
    ("_codecs", "encode"): latin1_bytes,
}
for _package in ("numpy.core", "numpy._core"):  # before and after NumPy 2
    _NUMPY_BUILDERS[f"{_package}.multiarray", "_reconstruct"] = _unread_array
    _NUMPY_BUILDERS[f"{_package}.multiarray", "scalar"] = _scalar
    _NUMPY_BUILDERS[f"{_package}.numeric", "_frombuffer"] = _unread_array  # protocol 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportFineDiving(ImportOptions):
    """FineDiving: annotation pickle and split pickles."""

    files: FineDivingFiles
    videos: Path
    """Folder of the videos, cut as --files.cut says."""
    frames: Path | None = None
    """Folder of frame folders COMPETITION/NUMBER/*.jpg; each is packed into --videos where its video is missing."""
    frames_per_s: float = 30.0
    """Frame rate of packed videos; the released code uses 30."""


def _read(config: ImportFineDiving, problems: Problems) -> ReadLabels:
    num_packed = 0
    if config.frames is not None:
        num_packed = pack_missing_videos(
            config.frames, config.videos, frames_per_s=config.frames_per_s, problems=problems
        )
    videos = VideoFolder(config.videos)
    clips = read_finediving(config.files, videos, problems)
    return ReadLabels(clips=clips, missing=videos.missing, num_packed=num_packed)


READER = LabelReader(
    config=ImportFineDiving,
    read=_read,
    example="--files.annotations FineDiving_coarse_annotation.pkl \\\n"
    "      --files.splits train train_split.pkl test test_split.pkl --frames FINADiving_MTL_256s --videos dives --out clips.parquet",
)
