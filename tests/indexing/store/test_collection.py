"""Against exact NumPy search, on Milvus Lite, and where `pip install '.[server]'` was done on a Milvus server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexing.search.filters import FilterFields
from indexing.store.collection import ClipCollection, EncoderMismatchError, open_collection
from indexing.store.endpoint import serve_milvus
from indexing.store.filter_expression import VideoSpan, quoted

DIM = 24
RNG = np.random.default_rng(7)
VECTORS = RNG.normal(size=(300, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def row(i: int, **changes) -> dict:
    return {
        "clip_key": f"key-{i:03d}",
        "clip_id": f'dive "{i}" \\ sprung',
        "video_uri": f"/videos/{i // 3}.mp4",
        "label": "5253b" if i % 2 else "",
        "split": "test",
        "backend": "onnx",
        "precision": "float32",
        "start_s": 10.0 * (i % 3),
        "end_s": -1.0 if i % 3 == 2 else 10.0 * (i % 3) + 5.0,
        "attributes": {"twists": "1.5", "position": "pike"},
        "embedding": VECTORS[i].tolist(),
    } | changes


@pytest.fixture(scope="module")
def collection(milvus_uri: str) -> Iterator[ClipCollection]:
    with open_collection(milvus_uri, "clips") as opened:
        opened.create_or_check(encoder_id="encoder-1", embedding_dim=DIM)
        opened.upsert([row(i) for i in range(300)])
        opened.upsert([row(i) for i in range(50)])
        opened.flush()
        yield opened


def test_upserting_twice_keeps_one_row(collection: ClipCollection) -> None:
    assert collection.count() == 300
    assert sorted(one["clip_key"] for one in collection.rows()) == [
        f"key-{i:03d}" for i in range(300)
    ]


def test_nearest_equals_exact_search_in_numpy(collection: ClipCollection) -> None:
    for query_D in RNG.normal(size=(10, DIM)):
        cosines = VECTORS @ (query_D / np.linalg.norm(query_D))
        best = np.argsort(-cosines)[:15]
        found = collection.nearest(query_D, limit=15)
        assert [one["clip_key"] for _score, one in found] == [f"key-{i:03d}" for i in best]
        np.testing.assert_allclose([score for score, _one in found], cosines[best], atol=1e-5)


def test_the_query_clip_can_be_left_out_whatever_its_name(collection: ClipCollection) -> None:
    clip_id = row(42)["clip_id"]
    (stored,) = collection.rows_of_clips([clip_id])
    assert stored["attributes"] == {"twists": "1.5", "position": "pike"}
    np.testing.assert_allclose(stored["embedding"], VECTORS[42], atol=1e-6)
    cosines = VECTORS @ VECTORS[42]
    cosines[42] = -2
    found = collection.nearest(VECTORS[42], limit=3, condition=f"clip_id != {quoted(clip_id)}")
    assert [one["clip_key"] for _, one in found] == [
        f"key-{i:03d}" for i in np.argsort(-cosines)[:3]
    ]


@pytest.mark.parametrize(
    ("start_s", "end_s", "left_out"),
    [(0, 4, {0}), (5, 10, set()), (4, 11, {0, 1}), (12, None, {1, 2}), (99, None, {2})],
)
def test_clips_that_overlap_with_a_span_can_be_left_out(
    collection, start_s: float, end_s: float | None, left_out: set[int]
) -> None:
    span = VideoSpan(video_uri="/videos/10.mp4", start_s=start_s, end_s=end_s)
    found = collection.nearest(VECTORS[30], limit=300, condition=span.outside())
    keys = {f"key-{i:03d}" for i in range(300)} - {f"key-{30 + i:03d}" for i in left_out}
    assert {one["clip_key"] for _, one in found} == keys


def test_another_encoder_is_refused(collection: ClipCollection) -> None:
    with pytest.raises(EncoderMismatchError, match=r"'encoder-1'.*'encoder-2'"):
        collection.check(encoder_id="encoder-2")
    with pytest.raises(EncoderMismatchError):
        collection.create_or_check(encoder_id="encoder-2", embedding_dim=DIM)


def test_a_missing_collection_and_a_bad_name_are_named(collection: ClipCollection) -> None:
    with pytest.raises(ValueError, match=r"no collection 'others'.*tfcovr index"):
        ClipCollection(collection.address, "others").check(encoder_id="encoder-1")
    with pytest.raises(ValueError, match="'2-dives' is not a valid Milvus name"):
        ClipCollection(collection.address, "2-dives")


def test_rows_and_encoder_id_survive_closing(tmp_path: Path) -> None:
    uri = str(tmp_path / "lite")
    with open_collection(uri, "clips") as first:
        first.create_or_check(encoder_id="encoder-1", embedding_dim=DIM)
        first.upsert([row(0), row(1), row(2)])
        first.delete(["key-001", "key-999"])
        first.upsert([row(2, label="changed")])
    with open_collection(uri, "clips") as again:
        again.check(encoder_id="encoder-1")
        assert again.count() == 2
        (changed,) = again.rows_of_keys(["key-002", "key-999"])
        assert changed["label"] == "changed"
        with open_collection(uri, "clips") as shared:  # same process: one server, two users
            assert shared.address == again.address
        assert again.count() == 2


def test_a_folder_that_another_process_has_open_is_refused(tmp_path: Path) -> None:
    from milvus_lite import MilvusLite

    with (
        MilvusLite(str(tmp_path / "lite")),
        pytest.raises(OSError, match="open in another process"),
        serve_milvus(str(tmp_path / "lite")),
    ):
        pass


def test_no_server_says_what_to_do() -> None:
    with pytest.raises(ConnectionError, match=r"no Milvus answers at 'http://127\.0\.0\.1:9'"):
        ClipCollection("http://127.0.0.1:9", "clips")


@pytest.mark.parametrize(
    "text", ["a\nb", "a\rb", "a\tb", "a\x04b", "\x00", "\u00e9\x7f", "' or 1==1"]
)
def test_any_clip_id_is_found_by_itself_alone(collection: ClipCollection, text: str) -> None:
    try:
        collection.upsert([row(0, clip_key="odd", clip_id=text)])
        assert [one["clip_id"] for one in collection.rows_of_clips([text])] == [text]
    finally:
        collection.delete(["odd"])


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\x04b", "a\u00a0b\u200d", 'q"\\"'])
def test_any_label_and_value_can_be_filtered_by(collection: ClipCollection, text: str) -> None:
    odd = row(0, clip_key="odd", clip_id=text, label=text, attributes={"note": text})
    fields = FilterFields(attributes={"note": (text, "other")})
    try:
        collection.upsert([odd])
        for given in ({"label": text}, {"clip_id": [text, "x"]}, {"note": text}):
            condition = fields.compile(given).condition
            found = collection.nearest(VECTORS[0], limit=9, condition=condition)
            assert [one["clip_key"] for _score, one in found] == ["odd"]
    finally:
        collection.delete(["odd"])
