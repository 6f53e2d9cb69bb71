"""Which index a collection gets, and that it is loaded when it is whole."""

import pytest

from indexing.store.vector_index import HnswIndex, build_index, choose_index


class Collection:
    """What `build_index` asks of a collection; the server builds in two steps."""

    def __init__(self, kind: str, num_rows: int) -> None:
        self.name, self.kind, self.num_rows = "clips", kind, num_rows
        self.calls: list[object] = []
        self._indexed = 0

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
    ("choice", "num_rows", "is_lite", "current", "kind"),
    [
        ("auto", 100_000, False, "", "FLAT"),
        ("auto", 100_001, False, "", "HNSW"),
        ("auto", 100_001, False, "FLAT", "HNSW"),
        ("auto", 50, False, "HNSW", "HNSW"),
        ("auto", 100_001, True, "", "FLAT"),
        ("hnsw", 10, True, "FLAT", "HNSW"),
        ("flat", 1_000_000, False, "HNSW", "FLAT"),
    ],
)
def test_a_large_collection_of_a_server_gets_a_graph_and_keeps_it(
    choice, num_rows, is_lite, current, kind
):
    assert choose_index(choice, num_rows, is_lite=is_lite, current=current) == kind


def test_an_index_is_loaded_when_it_is_whole(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    collection = Collection("FLAT", 200_000)
    build_index(collection, HnswIndex())
    graph = ("HNSW", {"M": HnswIndex().m, "efConstruction": HnswIndex().ef_construction})
    assert collection.calls == [graph, "asked", "asked", "load"]


def test_an_index_that_gets_no_further_ends_the_wait(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("indexing.store.vector_index._STALLED_S", 0.0)
    collection = Collection("FLAT", 200_000)
    monkeypatch.setattr(collection, "num_indexed", lambda: (5, 200_000))
    with pytest.raises(TimeoutError, match="index of 'clips' has had 5 of 200000 rows for 0 min"):
        build_index(collection, HnswIndex())
