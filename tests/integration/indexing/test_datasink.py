"""Vectors of a Ray Dataset that somebody else made end in Milvus, each once, and bad rows say what is wrong."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from cluster.ray_session import ray_session
from indexing.store.collection import EncoderMismatchError, open_collection
from indexing.store.rows import clip_key
from indexing.store.schema import TO_THE_END
from indexing.store.transfer.datasink import open_datasink

DIM, NUM_ROWS = 8, 40
ENCODER = {"encoder_id": "encoder", "embedding_dim": DIM}


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with ray_session(num_cpus=2):
        yield


def rows_of(seed: int = 0) -> list[dict]:
    vectors_ND = np.random.default_rng(seed).normal(size=(NUM_ROWS, DIM)).astype(np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return [
        {
            "clip_id": f"c{i}",
            "video_uri": f"/v/{i}.mp4",
            "content_hash": f"h{i}",
            "start_s": i / 4,
            "end_s": math.nan if i % 2 else i + 1.0,
            "label": "305b",
            "attributes": {"twists": "2.5"} if i % 3 else {"take_off": "für"},
            "embedding": vectors_ND[i],
        }
        for i in range(NUM_ROWS)
    ]


def test_rows_are_in_once_however_often_they_are_written(tmp_path: Path) -> None:
    rows, uri = rows_of(), str(tmp_path / "milvus")
    with open_datasink(uri, "mine", **ENCODER) as sink:
        for _ in range(2):
            ray.data.from_items(rows, override_num_blocks=7).write_datasink(sink, concurrency=1)
            assert (sink.num_written, sink.num_stored) == (NUM_ROWS, NUM_ROWS)
    with open_collection(uri, "mine") as collection:
        collection.check(encoder_id="encoder")
        stored = {row["clip_id"]: row for row in collection.rows_of_clips([f"c{i}" for i in range(NUM_ROWS)])}  # fmt: skip
        ((score, nearest),) = collection.nearest(rows[5]["embedding"], limit=1)
    assert (nearest["clip_id"], score) == ("c5", pytest.approx(1, abs=1e-5))
    for i, row in enumerate(rows):
        found = stored[row["clip_id"]]
        end_s = None if i % 2 else i + 1.0
        assert found["clip_key"] == clip_key("encoder", f"c{i}", f"h{i}", i / 4, end_s)
        assert found["end_s"] == (TO_THE_END if i % 2 else i + 1.0)
        assert (found["attributes"], found["label"]) == (row["attributes"], "305b")
        assert (found["split"], found["precision"]) == ("", "")
        np.testing.assert_allclose(found["embedding"], row["embedding"], atol=1e-6)


def test_a_table_of_arrow_with_the_least_columns(tmp_path: Path) -> None:
    rows, uri = rows_of()[:3], str(tmp_path / "milvus")
    table = pa.table(
        {
            "clip_key": ["k0", "k1", "k2"],
            "clip_id": [row["clip_id"] for row in rows],
            "video_uri": [row["video_uri"] for row in rows],
            "embedding": pa.array([row["embedding"].tolist() for row in rows], pa.list_(pa.float32())),
            "attributes": pa.array([[("a", "1")], None, []], pa.map_(pa.string(), pa.string())),
        }
    )  # fmt: skip
    with open_datasink(uri, "mine", **ENCODER) as sink:
        ray.data.from_arrow(table).write_datasink(sink, concurrency=1)
    with open_collection(uri, "mine") as collection:
        collection.check(encoder_id="encoder")
        stored = {row["clip_key"]: row for row in collection.rows_of_keys(["k0", "k1", "k2"])}
    assert {key: row["attributes"] for key, row in stored.items()} == {"k0": {"a": "1"}, "k1": {}, "k2": {}}  # fmt: skip
    assert (stored["k1"]["start_s"], stored["k1"]["end_s"]) == (0.0, TO_THE_END)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": np.full(DIM, 0.5, np.float32)}, r"vector of clip 'c39' has length 1\.41"),
        ({"content_hash": ""}, "clip 'c39' has neither clip_key nor content_hash"),
        ({"video_uri": None}, "column 'video_uri' is missing"),
    ],
)
def test_a_bad_row_is_named_and_nothing_of_its_block_is_in(tmp_path, change, message) -> None:
    rows, uri = rows_of(), str(tmp_path / "milvus")
    rows[-1] |= change
    dataset = ray.data.from_items(rows, override_num_blocks=1)
    with open_datasink(uri, "mine", **ENCODER) as sink, pytest.raises(ValueError, match=message):
        dataset.write_datasink(sink, concurrency=1)
    with open_collection(uri, "mine") as collection:
        collection.check(encoder_id="encoder")
        assert collection.count() == 0


def test_a_collection_of_another_encoder_is_refused(tmp_path: Path) -> None:
    with open_datasink(str(tmp_path / "milvus"), "mine", **ENCODER):
        pass
    other = open_datasink(str(tmp_path / "milvus"), "mine", encoder_id="other", embedding_dim=DIM)
    with pytest.raises(EncoderMismatchError, match="holds vectors of encoder 'encoder'"), other:
        pass
