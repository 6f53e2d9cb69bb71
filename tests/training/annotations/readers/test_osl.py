import json
from pathlib import Path

import pytest

from encoders.clips import Clip
from training.annotations.readers.osl import ImportOsl, read_osl
from training.annotations.readers.rows import Problems


def sample(number: int, **values) -> dict:
    return {"id": f"s{number}", "inputs": [{"type": "video", "path": f"clips/{number}.mp4"}]} | values  # fmt: skip


def read(folder: Path, document: object, **options) -> list[Clip]:
    path = folder / "osl.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_osl(ImportOsl(annotations=path, out=folder / "c.parquet", **options), Problems())


def test_labels_of_samples_and_events_become_clips(tmp_path: Path) -> None:
    document = {
        "labels": {"action": {"type": "single_label", "labels": ["103b", "x"]}},
        "data": [
            sample(0, labels={"action": {"label": "103b"}}),
            sample(1, events=[{"head": "action", "label": "x", "position_ms": 4000}, {"head": "action", "label": "x", "position_ms": 500}]),
            sample(2, labels={"action": {"label": "x"}}, metadata={"start_ms": 1500, "end_ms": 2750, "split": "val"}),
            sample(3),
        ],
    }  # fmt: skip
    clips = read(tmp_path, document, before_s=1.0, after_s=3.0, split="train")
    assert [(c.clip_id, c.start_s, c.end_s, c.label, c.split) for c in clips] == [
        ("s0", 0.0, None, "103b", "train"),
        ("s1@3.000-7.000", 3.0, 7.0, "x", "train"),
        ("s1@0.000-3.500", 0.0, 3.5, "x", "train"),
        ("s2", 1.5, 2.75, "x", "val"),
    ]
    assert clips[0].attributes["somersaults"] == "1.5"
    assert clips[0].video_uri == str(tmp_path / "clips" / "0.mp4")


def test_the_older_form_is_read_too(tmp_path: Path) -> None:
    annotations = [
        {"position": "31000", "label": "Goal"},
        {"position": 40000, "label": "Foul", "metadata": {"end_position": 42500}},
    ]
    clips = read(tmp_path, {"videos": [{"path": "g/1.mp4", "annotations": annotations}]})
    assert [(c.clip_id, c.start_s, c.end_s, c.label) for c in clips] == [
        ("1@29.000-33.000", 29.0, 33.0, "Goal"),
        ("1@40.000-42.500", 40.0, 42.5, "Foul"),
    ]


ONE = {"labels": {"action": {}}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ('{"labels": {"a": {}}, "data": [NaN]}', "sample 0: it is a float"),
        ([], "must be an object"),
        ({"labels": {}}, "a list `data`"),
        ({"labels": {"a": {}, "b": {}}, "data": []}, "head is ''; it must be one of 'a', 'b'"),
        (ONE | {"data": [3]}, "sample 0: it is a int"),
        (ONE | {"data": [{"id": "x", "inputs": []}]}, "no input of type video"),
        (ONE | {"data": [sample(0, labels={"action": {"label": 5}})]}, "label is 5"),
        (ONE | {"data": [sample(0, labels={"action": {"label": "x"}})] * 2}, "occurs twice"),
        (ONE | {"data": [sample(0, events=[{"label": "x"}])]}, "no position_ms"),
        (ONE | {"data": [sample(0, labels={"action": {"labels": ["a", "b"]}})]}, "has the labels"),
        (ONE | {"data": [sample(0, labels={"action": {"label": "x"}}, metadata={"split": ["x"]})]}, "split is"),
        (ONE | {"data": [sample(0, labels={"action": {"label": "\ud800"}})]}, "half a character"),
        (ONE | {"data": [sample(0, events=[{"label": "x", "position_ms": "soon"}])]}, "milliseconds"),
        (ONE | {"data": [sample(0, labels={"action": {"label": "x"}}, metadata={"start_ms": 9, "end_ms": 3})]}, "end_s"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, document)
