"""float16 vectors: stored and read as they are, refused where the server does not search them rightly."""

import numpy as np
import pytest
from pymilvus import MilvusClient

from indexing.store import schema
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.schema import plain_row, stored_row

DIM = 16
VECTORS = np.random.default_rng(5).normal(size=(40, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def row(i: int) -> dict:
    texts = dict.fromkeys(
        ("clip_id", "video_uri", "label", "split", "backend", "precision"), f"text-{i}"
    )
    return texts | {
        "clip_key": f"key-{i:02d}", "start_s": 0.0, "end_s": 1.0, "attributes": {}, "embedding": VECTORS[i].tolist(),
    }  # fmt: skip


def create(collection: ClipCollection, **changes) -> None:
    collection.create_or_check(encoder_id="encoder-1", embedding_dim=DIM, **changes)


def test_a_server_without_float16_refuses_it_and_keeps_nothing_of_the_trial(milvus_uri) -> None:
    with open_collection(milvus_uri, "halves") as collection:
        before = sorted(collection.pymilvus.list_collections())
        with pytest.raises(
            ValueError, match=r"'float16', and this Milvus \(.*\) does not have it: .*'float32'"
        ):
            create(collection, vector_dtype="float16")
        assert sorted(collection.pymilvus.list_collections()) == before
        create(collection)
        with pytest.raises(ValueError, match=r"'float16', and collection 'halves' holds float32"):
            create(collection, vector_dtype="float16")


def search_rightly(client: MilvusClient, name: str, *, data: list, limit: int, **_: object) -> list:
    """What a server answers that has float16: exact cosines over what it stores."""
    key, condition = (
        ("number", "number >= 0")
        if name.startswith("tfcovr_probe")
        else ("clip_key", "start_s == 0")
    )
    rows = client.query(name, filter=condition, output_fields=[key, "embedding"])
    stored_ND = np.array([plain_row(one)["embedding"] for one in rows], np.float32)
    stored_ND /= np.linalg.norm(stored_ND, axis=1, keepdims=True)
    answers = []
    for query_D in data:
        assert query_D.dtype == np.float16
        cosines = stored_ND @ (query_D / np.linalg.norm(query_D.astype(np.float32)))
        best = np.argsort(-cosines)[:limit]
        answers.append([{"distance": float(cosines[i]), "entity": rows[i]} for i in best])  # fmt: skip
    return answers


def search_wrongly(*what, **how) -> list:
    answers = search_rightly(*what, **how)
    answers[-1][-1]["distance"] = 0.0
    return answers


@pytest.fixture
def newer_server(milvus_server: str, monkeypatch) -> str:
    """The server at hand stores float16 and is too old to search it; here it says that it is a newer one."""
    monkeypatch.setattr(MilvusClient, "get_server_version", lambda *_, **__: "v2.4.0")
    monkeypatch.setattr(schema, "_text_index", lambda _client: "Trie")
    return milvus_server


def test_a_server_that_searches_float16_wrongly_is_caught(newer_server, monkeypatch) -> None:
    monkeypatch.setattr(MilvusClient, "search", search_wrongly)
    with open_collection(newer_server, "wrong") as collection:
        before = sorted(collection.pymilvus.list_collections())
        with pytest.raises(ValueError, match=r"\(v2\.4\.0\) .*: it gives 0\.0000 for a cosine of"):
            create(collection, vector_dtype="float16")
        assert sorted(collection.pymilvus.list_collections()) == before


def test_a_server_that_searches_float16_keeps_vectors_so(newer_server, monkeypatch) -> None:
    monkeypatch.setattr(MilvusClient, "search", search_rightly)
    with open_collection(newer_server, "half_length") as collection:
        create(collection, vector_dtype="float16")
        collection.upsert([row(i) for i in range(len(VECTORS))])
        stored = list(collection.rows(("clip_key", "embedding")))
        halves_ND = VECTORS.astype(np.float16)
        assert len(stored) == len(VECTORS)
        for one in stored:
            assert one["embedding"] == halves_ND[int(one["clip_key"][-2:])].tolist()
        collection.upsert(collection.rows_of_keys(["key-07"]))  # what was read goes back unchanged
        (again,) = collection.rows_of_keys(["key-07"])
        assert again["embedding"] == halves_ND[7].tolist()
        ((score, found),) = collection.nearest(VECTORS[9], limit=1)
        assert (found["clip_key"], round(score, 3)) == ("key-09", 1.0)
    with (
        open_collection(newer_server, "half_length") as opened_again,
        pytest.raises(ValueError, match="'float32', and collection 'half_length' holds float16"),
    ):
        create(opened_again)


def test_rows_of_float32_pass_unchanged() -> None:
    assert stored_row(row(3), "float32") == row(3)
    assert plain_row(row(3)) == row(3)
    assert plain_row({"clip_key": "no vector"}) == {"clip_key": "no vector"}
