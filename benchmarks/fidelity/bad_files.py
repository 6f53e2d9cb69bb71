"""Label files as their owners release them, small and correct: what bad inputs are made of, one mistake at a time."""

import json
import pickle  # noqa: TID251 - writes the released formats
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VIDEO, EVENT, ELEMENT = "0LtLS9wROrk", "E_000100_000130", "A_0003_0009"
ELEMENT_ID = f"{VIDEO}_{EVENT}_{ELEMENT}"
TRAIN_HEADER = "query_video,target_video,label1,label2,modification"
TEST_HEADER = "query_id,query_video,target_video,modification,target_videos_ids"


class Calls:
    """Pickles to a call: what a hostile file holds."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def finegym(folder: Path, *, spans: object = None, text: str | None = None) -> Path:
    """The annotation JSON of one element."""
    spans = [[3.0, 9.25]] if spans is None else spans
    element = {ELEMENT: {"stages": 1, "timestamps": spans}}
    event = {EVENT: {"event": 1, "timestamps": [[100.5, 130.0]], "segments": element}}
    path = folder / "finegym_annotation_info_v1.1.json"
    path.write_text(text or json.dumps({VIDEO: event}))
    return path


def finediving(folder: Path, *, fields: object = None, content: object = None) -> Path:
    """The coarse annotation pickle of one dive."""
    fields = (
        {"action_type": "107B", "start_frame": 1, "end_frame": 75} if fields is None else fields
    )
    path = folder / "FineDiving_coarse_annotation.pkl"
    path.write_bytes(pickle.dumps({("FINA_r1", 0): fields} if content is None else content))
    return path


def text_file(folder: Path, name: str, *lines: str) -> Path:
    """Lines as they are."""
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def pickled(folder: Path, name: str, *values: object) -> Path:
    """Pickles one after the other."""
    path = folder / name
    path.write_bytes(b"".join(pickle.dumps(value) for value in values))
    return path


def train_row(**cells: str) -> str:
    """A row of the train CSV, correct but for the given cells."""
    row: Mapping[str, str] = {
        "query_video": "v1",
        "target_video": "v2",
        "label1": "107b",
        "label2": "207c",
        "modification": "\"{'207c': {'modification': 'show 2 back'}}\"",
    }
    return _row({**row, **cells}, TRAIN_HEADER.split(","))


def test_row(**cells: str) -> str:
    """A row of the val or test CSV, correct but for the given cells."""
    row: Mapping[str, str] = {
        "query_id": "7",
        "query_video": "v1",
        "target_video": "v2",
        "modification": "in pike",
        "target_videos_ids": "\"['v2', 'v3']\"",
    }
    return _row({**row, **cells}, TEST_HEADER.split(","))


def _row(cells: Mapping[str, str], columns: Sequence[str]) -> str:
    return ",".join(cells[column] for column in columns)
