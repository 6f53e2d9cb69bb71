"""The values of all rows, whatever their number, and clips that are drawn from all of them."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexing.search import collection_snapshot
from indexing.search.collection_snapshot import (
    CollectionFacts,
    CollectionSnapshot,
    StillCountingError,
    _slices,
    read_facts,
)
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.vector_index import HnswIndex, build_index

NUM_ROWS = 60


def rows_of(num_rows: int) -> list[dict[str, Any]]:
    """Every row has an attribute value of its own; keys are no order of them."""
    keys = np.random.default_rng(0).permutation(num_rows)
    return [
        {
            "clip_key": f"{keys[n]:032x}",
            "clip_id": f"Cam_{n}%x",
            "video_uri": "v.mp4",
            "label": f"Label {n % 7}",
            "split": "val" if n % 10 == 0 else "test",
            "backend": "onnx",
            "precision": "float32",
            "start_s": 0.0,
            "end_s": 1.0,
            "attributes": {"shot": str(n), "twists": str(n % 3)},
            "embedding": [1.0, 0.0],
        }
        for n in range(num_rows)
    ]


def fill(collection: ClipCollection, rows: list[dict[str, Any]]) -> None:
    collection.create_or_check(encoder_id="e", embedding_dim=2)
    for first in range(0, len(rows), 2000):
        collection.upsert(rows[first : first + 2000])
    collection.flush()


def snapshot_of(collection: ClipCollection) -> CollectionSnapshot:
    return CollectionSnapshot(collection, Path(), card=None)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def filled(milvus_uri) -> Iterator[ClipCollection]:
    with open_collection(milvus_uri, "values_of_rows") as collection:
        fill(collection, rows_of(NUM_ROWS))
        yield collection
        collection.drop()


@pytest.fixture
def collection(filled, monkeypatch) -> ClipCollection:
    monkeypatch.setattr(collection_snapshot, "_FIRST_ROWS", 20)
    monkeypatch.setattr(collection_snapshot, "_PAGE_ROWS", 8)
    return filled


def test_values_are_those_of_all_rows(collection) -> None:
    snapshot = snapshot_of(collection)
    assert snapshot.facts.num_rows == 20
    assert not snapshot.facts.is_complete
    assert snapshot.fields([{"twists": "1", "label": "Label 1"}]).attributes.keys() == {"shot", "twists"}  # fmt: skip
    assert not snapshot.facts.is_complete  # these needed no more
    some = snapshot.fields([{"shot": (60, 62)}]).attributes["shot"]
    assert set(some) == {str(n) for n in range(NUM_ROWS)}
    facts = snapshot.facts
    assert facts.is_complete
    rows = rows_of(NUM_ROWS)
    assert facts.labels == {f"Label {i}": sum(r["label"] == f"Label {i}" for r in rows) for i in range(7)}  # fmt: skip
    by_key = sorted(rows, key=lambda row: row["clip_key"])
    assert [row["clip_key"] for row in facts.sample] == [row["clip_key"] for row in by_key]
    assert {row["clip_id"] for row in facts.held_out} == {r["clip_id"] for r in rows if r["split"] == "val"}  # fmt: skip
    assert facts.splits == ("test", "val")
    # Rows 0, 21, 42, 63 and 84 have label 0 and twists 0.
    assert snapshot.facts.label_attributes["Label 0"]["twists"] in "012"


def test_ranges_know_the_rows_that_came_since(milvus_uri) -> None:
    with open_collection(milvus_uri, "rows_that_come") as collection:
        rows = rows_of(12)
        fill(collection, rows[:11])
        snapshot = snapshot_of(collection)
        ask = [{"shot": (9, 11)}]
        assert "11" not in snapshot.fields(ask).attributes["shot"]
        collection.upsert(rows[11:])
        collection.flush()
        assert "11" in snapshot.fields(ask).attributes["shot"]
        collection.drop()


def test_rows_that_pass_a_condition_are_counted_once(collection, monkeypatch) -> None:
    snapshot, asked = snapshot_of(collection), []
    count = collection.count
    monkeypatch.setattr(
        collection, "count", lambda **how: asked.append(how.get("condition")) or count(**how)
    )
    num_val = sum(row["split"] == "val" for row in rows_of(NUM_ROWS))
    for _ in range(2):
        assert snapshot.num_matching("") == NUM_ROWS
        assert snapshot.num_matching('split == "val"') == num_val
    conditions = ["", 'split == "val"']
    assert [condition for condition in asked if condition is not None] == conditions
    snapshot.count_all()
    assert snapshot.num_matching("") == NUM_ROWS  # of the rows that have just been counted
    assert [condition for condition in asked if condition is not None] == conditions


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def test_they_are_counted_beside_the_answers_and_again_when_rows_came(
    collection, monkeypatch
) -> None:
    monkeypatch.setattr(collection_snapshot, "_RECOUNT_S", 0.05)
    monkeypatch.setattr(collection_snapshot, "_COUNTING_SHARE", 1.0)
    snapshot = snapshot_of(collection)
    snapshot.count_beside()
    wait_until(lambda: snapshot.facts.is_complete)
    new = rows_of(1)[0] | {"clip_key": f"{NUM_ROWS:032x}", "clip_id": "new", "label": "New label"}
    collection.upsert([new])
    wait_until(lambda: "New label" in snapshot.labels)
    collection.delete([new["clip_key"]])
    wait_until(lambda: "New label" not in snapshot.labels)
    snapshot.close()


def test_no_query_waits_for_them(collection, monkeypatch) -> None:
    """One that needs them is answered with what a service makes a 503 of."""
    goes_on = threading.Event()
    read = collection_snapshot.read_facts

    def slow_read(collection, *, num_rows, is_stopped) -> CollectionFacts:
        if num_rows is None:
            goes_on.wait(60)
        return read(collection, num_rows=num_rows, is_stopped=is_stopped)

    monkeypatch.setattr(collection_snapshot, "read_facts", slow_read)
    snapshot = snapshot_of(collection)
    snapshot.count_beside()
    assert snapshot.fields([{"twists": "1"}]).attributes  # which needs none of them
    for filters in ({"twists": ["1", "2"]}, {"no-such-attribute": "1"}):
        with pytest.raises(StillCountingError, match="still being counted"):
            snapshot.fields([filters])
    goes_on.set()
    wait_until(lambda: snapshot.facts.is_complete)
    assert set(snapshot.fields([{"twists": ["1", "2"]}]).attributes["twists"]) == {"0", "1", "2"}
    snapshot.close()


def test_exact_search_is_that_of_all_vectors_whatever_the_index(milvus_server) -> None:
    rng = np.random.default_rng(0)
    vectors_ND = rng.normal(size=(6000, 32)).astype(np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    rows = [
        row | {"clip_key": hashlib.sha256(row["clip_id"].encode()).hexdigest()[:32], "embedding": vector_D}
        for row, vector_D in zip(rows_of(6000), vectors_ND.tolist(), strict=True)
    ]  # fmt: skip
    with open_collection(milvus_server, "exact_search") as collection:
        collection.create_or_check(encoder_id="e", embedding_dim=32)
        for first in range(0, len(rows), 2000):
            collection.upsert(rows[first : first + 2000])
        collection.flush()
        build_index(collection, HnswIndex(m=2, ef_construction=2))  # a bad one, which misses much
        queries_QD = vectors_ND[:3] + rng.normal(size=(3, 32)).astype(np.float32) / 8
        cosines_QN = queries_QD @ vectors_ND.T / np.linalg.norm(queries_QD, axis=1, keepdims=True)
        is_one_N = np.array([row["label"] == "Label 1" for row in rows])
        snapshot = snapshot_of(collection)
        for condition, allowed_N in (("", np.ones(6000, bool)), ('label == "Label 1" or label == "Label 1"', is_one_N)):  # fmt: skip
            answers = snapshot.exact_nearest(queries_QD, limit=50, condition=condition)
            for hits, cosines_N in zip(answers, cosines_QN, strict=True):
                best = np.argsort(-np.where(allowed_N, cosines_N, -np.inf))[:50]
                assert [row["clip_id"] for _, row in hits] == [rows[i]["clip_id"] for i in best]
                np.testing.assert_allclose([c for c, _ in hits], cosines_N[best], atol=1e-4)
                assert all(len(row["embedding"]) == 32 for _, row in hits)
        found = {row["clip_id"] for _, row in collection.nearest(queries_QD[0], limit=50)}
        exact = {row["clip_id"] for _, row in snapshot.exact_nearest(queries_QD[:1], limit=50)[0]}
        assert found != exact  # the graph alone does not find them all
        collection.drop()


def test_slices_hold_every_key_once() -> None:
    conditions = list(_slices(32))
    assert conditions[0] == 'clip_key < "08"'
    assert conditions[1] == 'clip_key >= "08" and clip_key < "10"'
    assert conditions[-1] == 'clip_key >= "f8"'


def test_counting_stops_when_the_client_is_closed(collection) -> None:
    stopped = threading.Event()
    stopped.set()
    facts = read_facts(collection, is_stopped=stopped)
    assert (facts.num_rows, facts.is_complete) == (0, False)


def test_draws_reach_every_row(collection) -> None:
    snapshot = snapshot_of(collection)
    snapshot.count_all()
    drawn: set[str] = set()
    for seed in range(80):
        drawn |= {row["clip_id"] for row in snapshot.draw_clips("", limit=8, seed=seed)}
        if len(drawn) == NUM_ROWS:
            break
    assert len(drawn) == NUM_ROWS
    assert snapshot.draw_clips("", limit=5, seed=3) == snapshot.draw_clips("", limit=5, seed=3)


def test_draws_find_every_row_by_its_label_or_id(collection) -> None:
    snapshot = snapshot_of(collection)
    snapshot.count_all()

    def found(text: str) -> set[str]:
        return {row["clip_id"] for row in snapshot.draw_clips(text, limit=100, seed=1)}

    for n in (0, 19, 57, 59):
        assert found(f"cam_{n}%") == {f"Cam_{n}%x"}
    assert found("CAM_8%") == {"Cam_8%x"}
    assert found("no such text") == set()
    # A page is read at most.
    assert len(found("label 3")) == 8
    assert all(int(i[4:-2]) % 7 == 3 for i in found("label 3"))


@pytest.mark.long
def test_more_rows_than_milvus_gives_at_once(tmp_path) -> None:
    num_rows = 40_000
    with open_collection(str(tmp_path / "milvus"), "clips") as collection:
        fill(collection, rows_of(num_rows))
        snapshot = snapshot_of(collection)
        assert snapshot.facts.num_rows == collection_snapshot.MAX_ROWS
        assert len(snapshot.count_all().attributes["shot"]) == num_rows
        assert sum(snapshot.labels.values()) == num_rows
        drawn = [
            row["clip_key"]
            for seed in range(60)
            for row in snapshot.draw_clips("", limit=100, seed=seed)
        ]
        # By key, a third each comes from the first, second and last third of the rows.
        thirds = np.bincount([int(key, 16) * 3 // num_rows for key in drawn]) / len(drawn)
        assert thirds.min() > 0.2
        assert [row["clip_id"] for row in snapshot.draw_clips("cam_39999%", limit=9, seed=0)] == ["Cam_39999%x"]  # fmt: skip
