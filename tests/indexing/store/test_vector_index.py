"""Which index a collection gets, and that it is built only when it has another one."""

import numpy as np
import pytest

from encoders.clips import Clip
from indexing.store.client import CallOptions
from indexing.store.collection import open_collection
from indexing.store.endpoint import is_lite
from indexing.store.rows import collection_row
from indexing.store.vector_index import HnswIndex, choose_index, ensure_index


class Collection:
    """What `ensure_index` asks of a collection; the server builds in two steps."""

    def __init__(self, kind: str, num_rows: int) -> None:
        self.name, self.kind, self.num_rows = "clips", kind, num_rows
        self.calls: list[object] = []
        self._indexed = 0

    def count(self) -> int:
        return self.num_rows

    def index_type(self) -> str:
        return self.kind

    def replace_index(self, index_type: str, params: dict[str, int]) -> None:
        self.kind = index_type
        self.calls.append((index_type, params))

    def num_indexed(self) -> tuple[int, int]:
        self._indexed = self.num_rows if self.calls[-1] == "asked" else 0
        self.calls.append("asked")
        return self._indexed, self.num_rows

    def load(self) -> None:
        assert self._indexed == self.num_rows
        self.calls.append("load")


@pytest.mark.parametrize(
    ("choice", "num_rows", "is_lite", "kind"),
    [
        ("auto", 100_000, False, "FLAT"),
        ("auto", 100_001, False, "HNSW"),
        ("auto", 100_001, True, "FLAT"),
        ("hnsw", 10, True, "HNSW"),
        ("flat", 1_000_000, False, "FLAT"),
    ],
)
def test_a_large_collection_of_a_server_gets_a_graph(choice, num_rows, is_lite, kind):
    assert choose_index(choice, num_rows, is_lite=is_lite) == kind


def test_an_index_is_built_once_and_loaded_when_it_is_whole(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    collection = Collection("FLAT", 200_000)
    assert ensure_index(collection, "auto", is_lite=False) == "HNSW"
    graph = ("HNSW", {"M": HnswIndex().m, "efConstruction": HnswIndex().ef_construction})
    assert collection.calls == [graph, "asked", "asked", "load"]
    assert ensure_index(collection, "auto", is_lite=False) == "HNSW"
    assert len(collection.calls) == 4


def test_an_index_that_gets_no_further_ends_the_wait(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("indexing.store.vector_index._STALLED_S", 0.0)
    collection = Collection("FLAT", 200_000)
    monkeypatch.setattr(collection, "num_indexed", lambda: (5, 200_000))
    with pytest.raises(TimeoutError, match="index of 'clips' has had 5 of 200000 rows for 0 min"):
        ensure_index(collection, "auto", is_lite=False)


def test_an_archive_that_shrank_is_exact_again(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    collection = Collection("HNSW", 50)
    assert ensure_index(collection, "auto", is_lite=False) == "FLAT"
    assert collection.calls[0] == ("FLAT", {})


def test_a_graph_finds_what_exact_search_finds(milvus_uri):
    rng = np.random.default_rng(3)
    vectors_ND = rng.normal(size=(400, 16)).astype(np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    with open_collection(milvus_uri, "graph", call_options=CallOptions(ef=400)) as collection:
        collection.create_or_check(encoder_id="encoder-1", embedding_dim=16)
        collection.upsert(
            [
                collection_row(
                    Clip(clip_id=f"{i:03d}", video_uri=f"{i}.mp4"),
                    key=f"{i:03d}",
                    embedding_D=vector_D,
                    backend="onnx",
                    precision="float32",
                )
                for i, vector_D in enumerate(vectors_ND)
            ]
        )
        collection.flush()
        lite = is_lite(milvus_uri)
        assert ensure_index(collection, "auto", is_lite=lite) == "FLAT"
        assert ensure_index(collection, "hnsw", is_lite=lite) == collection.index_type() == "HNSW"
        found = collection.nearest_many(vectors_ND[:5], limit=10)
    best = np.argsort(-vectors_ND[:5] @ vectors_ND.T, axis=1)[:, :10]
    assert [[int(row["clip_key"]) for _, row in hits] for hits in found] == best.tolist()
