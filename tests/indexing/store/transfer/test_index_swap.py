"""The index of a collection changes while it is searched, and no query fails or misses."""

import threading
import time
from itertools import count

import numpy as np
import pytest

from encoders.clips import Clip
from indexing.store.aliases import Catalog
from indexing.store.client import QUERYING, CallOptions
from indexing.store.collection import ARCHIVE, ClipCollection, open_collection
from indexing.store.endpoint import is_lite
from indexing.store.lease import LeaseBusyError, hold_lease
from indexing.store.rows import collection_row
from indexing.store.transfer import index_swap
from indexing.store.transfer.index_swap import ensure_index, protected_collection, swap_index

NUM_ROWS, DIM = 400, 16
VECTORS = np.random.default_rng(3).normal(size=(NUM_ROWS, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
_numbers = count()


def rows_of(numbers) -> list[dict]:
    return [
        collection_row(
            Clip(clip_id=f"{i:03d}", video_uri=f"{i}.mp4", attributes={"angle": str(i)}),
            key=f"{i:03d}",
            embedding_D=VECTORS[i],
            backend="onnx",
            precision="float32",
        )
        for i in numbers
    ]


def fill(collection: ClipCollection) -> None:
    collection.create_or_check(encoder_id="encoder-1", embedding_dim=DIM)
    collection.upsert(rows_of(range(NUM_ROWS)))
    collection.flush()


@pytest.fixture
def name(monkeypatch) -> str:
    monkeypatch.setattr(index_swap, "_LAST_QUERIES_S", 1.0)
    return f"swapped_{next(_numbers)}"


def test_a_graph_finds_what_exact_search_finds(milvus_uri, name) -> None:
    with open_collection(milvus_uri, name, call_options=CallOptions(ef=400)) as collection:
        fill(collection)
        lite = is_lite(milvus_uri)
        assert ensure_index(collection, "auto", is_lite=lite) == "FLAT"
        assert ensure_index(collection, "hnsw", is_lite=lite) == collection.index_type() == "HNSW"
        found = collection.nearest_many(VECTORS[:5], limit=10)
    best = np.argsort(-VECTORS[:5] @ VECTORS.T, axis=1)[:, :10]
    assert [[int(row["clip_key"]) for _, row in hits] for hits in found] == best.tolist()


def test_a_collection_that_was_interrupted_before_its_index_gets_one(tmp_path, name) -> None:
    """As on a disk that was full: only rows and no index."""
    with open_collection(str(tmp_path / "milvus"), name) as collection:
        fill(collection)
        collection.pymilvus.release_collection(name)
        collection.pymilvus.drop_index(name, "embedding")
        assert collection.index_type() == ""
        assert ensure_index(collection, "auto", is_lite=True) == collection.index_type() == "FLAT"
        assert len(collection.nearest(VECTORS[0], limit=3)) == 3


@pytest.mark.parametrize(
    "index_types", [("HNSW",), pytest.param(("HNSW", "FLAT"), marks=pytest.mark.long)]
)
def test_no_query_fails_while_the_index_changes(index_types, milvus_server, name) -> None:
    collection = ClipCollection(milvus_server, name)
    fill(collection)
    collection.set_properties({f"{ARCHIVE}cam1": "/videos/cam1"})
    catalog = Catalog(milvus_server)
    alias = f"live_{name}"
    catalog.promote(alias, name)
    time.sleep(6)  # queries may read rows that are seconds old
    stop, failed, num_right = threading.Event(), [], [0, 0]

    def search(number: int) -> None:
        asked = ClipCollection(milvus_server, (name, alias)[number], call_options=QUERYING)
        rng = np.random.default_rng(number)
        while not stop.is_set():
            i = int(rng.integers(NUM_ROWS))
            try:
                ((_, row),) = asked.nearest(VECTORS[i], limit=1)
                assert row["clip_key"] == f"{i:03d}"
                num_right[number] += 1
            except Exception as error:  # noqa: BLE001  every failure counts
                failed.append(repr(error))
        asked.close()

    threads = [threading.Thread(target=search, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for index_type in index_types:
        swap_index(collection, index_type)
        assert collection.index_type() == index_type
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert min(num_right) > 10
    again = ClipCollection(milvus_server, name)
    again.check(encoder_id="encoder-1")
    assert again.name == collection.name != name
    assert again.count() == NUM_ROWS
    properties = again.properties()
    assert properties[f"{ARCHIVE}cam1"] == "/videos/cam1"
    assert not any(value for key, value in properties.items() if key.startswith("tfcovr.copy"))
    assert [other for other in catalog.names() if name in other] == [collection.name]
    assert {name, alias} <= set(catalog.aliases_of(collection.name))


def test_the_index_stays_while_another_archive_is_written(milvus_server, name) -> None:
    collection = ClipCollection(milvus_server, name)
    fill(collection)
    with (
        hold_lease(milvus_server, protected_collection(name, "mine")) as mine,
        hold_lease(milvus_server, protected_collection(name, "other")),
    ):
        with pytest.raises(LeaseBusyError, match=f"{name!r} is being written by process"):
            swap_index(collection, "HNSW", lease=mine)
        assert ensure_index(collection, "hnsw", is_lite=False, lease=mine) == "FLAT"


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("create_or_check", marks=pytest.mark.long),
        pytest.param("flush", marks=pytest.mark.long),
        pytest.param("rename_collection", marks=pytest.mark.long),
        "create_alias",
        pytest.param("alter_alias", marks=pytest.mark.long),
    ],
)
def test_a_swap_that_was_killed_is_finished_or_forgotten(
    step, milvus_server, name, monkeypatch
) -> None:
    """The next run has all rows, under both names, and leaves nothing else behind."""
    collection = ClipCollection(milvus_server, name)
    fill(collection)
    catalog = Catalog(milvus_server)
    alias = f"live_{name}"
    catalog.promote(alias, name)

    def die(*_args, **_kwargs) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        of_client = step in ("rename_collection", "create_alias", "alter_alias")
        patch.setattr(collection.pymilvus if of_client else ClipCollection, step, die)
        with pytest.raises(KeyboardInterrupt):
            swap_index(collection, "HNSW")
    again = ClipCollection(milvus_server, name)
    again.create_or_check(encoder_id="encoder-1", embedding_dim=DIM)
    assert again.count() == NUM_ROWS
    with hold_lease(milvus_server, protected_collection(again.name, "mine")) as mine:
        assert ensure_index(again, "hnsw", is_lite=False, lease=mine) == "HNSW"
    assert again.count() == NUM_ROWS
    assert catalog.target(alias) == again.name
    assert [other for other in catalog.names() if name in other] == [again.name]
