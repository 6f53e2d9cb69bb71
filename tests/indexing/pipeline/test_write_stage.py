import math
from typing import ClassVar

import numpy as np
import pytest

from encoders.clips import Clip
from encoders.stages.base import NO_ERROR
from indexing.pipeline import write_stage
from indexing.pipeline.write_stage import WriteStage
from indexing.store.rows import clip_key, collection_row, labels_of, row_digest

DIM = 4


class Rows:
    """A collection in memory."""

    stored: ClassVar[dict[str, dict[str, dict]]] = {}

    def __init__(self, _address: str, name: str) -> None:
        self._rows = self.stored.setdefault(name, {})

    def upsert(self, rows: list[dict]) -> None:
        self._rows |= {row["clip_key"]: row for row in rows}

    def delete(self, keys: list[str]) -> None:
        for key in keys:
            self._rows.pop(key, None)


CLIPS = {
    "a": Clip(clip_id="a", video_uri="/a.mp4", start_s=0.5, end_s=1.5, label="5253b", attributes={"twists": "1.5"}),
    "b": Clip(clip_id="b", video_uri="/b.mp4"),
}  # fmt: skip


@pytest.fixture
def stage(monkeypatch) -> WriteStage:
    monkeypatch.setattr(Rows, "stored", {})
    monkeypatch.setattr(write_stage, "ClipCollection", Rows)
    return WriteStage(address="", collection="clips", encoder_id="e")


def batch(clip_ids: list[str], vectors_ND: np.ndarray, dead: tuple[str, ...] = ()) -> dict:
    size = len(clip_ids)
    return {
        "video_uri": np.array([CLIPS[one].video_uri for one in clip_ids], object), "labels": np.array([labels_of(CLIPS[one]) for one in clip_ids], object),
        "clip_id": np.array(clip_ids, object), "content_hash": np.array(["h"] * size, object), "embedding": vectors_ND,
        "span": np.array([{"start_s": 0.5, "end_s": 1.5}] + [{"start_s": 0.0, "end_s": None}] * (size - 1)),
        "error": np.array([{"stage": "decode", "reason": "corrupt", "detail": ""} if one in dead else NO_ERROR for one in clip_ids], object),
        "embed_backend": np.array(["onnx"] * size, object), "embed_precision": np.array(["float32"] * size, object),
    }  # fmt: skip


def test_the_living_are_written_under_their_keys_and_the_dead_only_counted(stage) -> None:
    out = stage(batch(["a", "b"], np.eye(2, DIM, dtype=np.float32), dead=("b",)))
    key = clip_key("e", "a", "h", 0.5, 1.5)
    assert list(out["clip_key"]) == [key, clip_key("e", "b", "h", 0.0, None)]
    assert "embedding" not in out
    assert list(out["row_digest"]) == [row_digest(CLIPS["a"]), row_digest(CLIPS["b"])]
    (row,) = Rows.stored["clips"].values()
    assert (row["clip_key"], row["end_s"], row["label"]) == (key, 1.5, "5253b")
    assert row["attributes"] == {"twists": "1.5"}
    assert row["embedding"] == [1.0, 0.0, 0.0, 0.0]
    stage(batch(["a", "b"], np.eye(2, DIM, dtype=np.float32)))
    assert len(Rows.stored["clips"]) == 2
    assert Rows.stored["clips"][out["clip_key"][1]]["end_s"] == -1.0


@pytest.mark.parametrize("length", [0.0, 0.5, 2.0, math.nan])
def test_a_vector_that_is_no_unit_vector_stops_the_run(stage, length: float) -> None:
    vectors = np.eye(2, DIM, dtype=np.float32)
    vectors[1] *= length
    with pytest.raises(ValueError, match="the vector of clip 'b' has length"):
        stage(batch(["a", "b"], vectors))
    assert Rows.stored["clips"] == {}


def test_a_row_follows_every_word_of_its_clip_and_not_its_span() -> None:
    clip = Clip(clip_id="a", video_uri="/a.mp4", end_s=2.0, label="l", attributes={"x": "1", "y": "2"})  # fmt: skip
    turned = Clip(clip_id="a", video_uri="/a.mp4", end_s=3.0, label="l", attributes={"y": "2", "x": "1"})  # fmt: skip
    assert row_digest(clip) == row_digest(turned)
    for changed in ({"label": "m"}, {"split": "test"}, {"video_uri": "/b.mp4"}, {"attributes": {"x": "2", "y": "2"}}):  # fmt: skip
        other = {"clip_id": "a", "video_uri": "/a.mp4", "label": "l", "attributes": {"x": "1", "y": "2"}}  # fmt: skip
        assert row_digest(Clip(**(other | changed))) != row_digest(clip)
    row = collection_row(clip, key="k", embedding_D=np.eye(DIM)[0], backend="onnx", precision="fp16")  # fmt: skip
    assert (row["split"], row["precision"]) == ("", "fp16")
