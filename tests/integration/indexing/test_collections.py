"""A new encoder beside the old one: compared, promoted, rolled back, each by one command."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from encoders.backends.registry import open_backend
from indexing.search.client import SearchClient
from indexing.store.collection import open_collection
from tfcovr import main as tfcovr
from tfcovr import run_command

NUM_CLIPS = 40
RNG = np.random.default_rng(5)


def fill(uri: str, name: str, bundle_dir: Path, count: int = NUM_CLIPS) -> np.ndarray:
    """Random unit vectors of `count` clips, the same ids in every collection."""
    card = open_backend(bundle_dir, "onnx").card
    vectors = RNG.normal(size=(count, card.embedding_dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = dict.fromkeys(("video_uri", "label", "backend", "precision"), "")
    rows = [
        texts | {"clip_key": f"{name}-{i}", "clip_id": f"c{i}", "split": "test", "start_s": 0.0, "end_s": 1.0, "attributes": {}, "embedding": vectors[i].tolist()}
        for i in range(count)
    ]  # fmt: skip
    with open_collection(uri, name) as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        collection.upsert(rows)
        collection.flush()
    return vectors


def exact_map(bundle_dir: Path, vectors: np.ndarray, triplets: list[dict]) -> float:
    """mAP@50 by sorting all cosines of the fused query."""
    encoder, scores = open_backend(bundle_dir, "onnx"), []
    for one in triplets:
        query = int(one["query_clip_id"][1:])
        query_D = encoder.embed_queries(vectors[query][None], [one["edit_text"]])[0]
        order = [i for i in np.argsort(-(vectors @ query_D)) if i != query]
        ranks = sorted(order.index(int(clip[1:])) for clip in one["target_clip_ids"])
        scores.append(np.mean([(hit + 1) / (rank + 1) for hit, rank in enumerate(ranks)]))
    return float(np.mean(scores))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_bundle, other_bundle) -> tuple[str, Path, dict, list[dict]]:
    folder = tmp_path_factory.mktemp("collections")
    uri = str(folder / "milvus")
    vectors = {"old": fill(uri, "old", tiny_bundle), "new": fill(uri, "new", other_bundle)}
    fill(uri, "half", other_bundle, count=NUM_CLIPS // 2)
    texts = ("in tuck", "with two twists")
    triplets = []
    for i in range(20):
        query, *targets = (f"c{j}" for j in RNG.permutation(NUM_CLIPS // 2)[:4])
        triplets.append(
            {"query_clip_id": query, "edit_text": texts[i % 2], "target_clip_ids": targets, "split": "test"}
        )  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(triplets), folder / "triplets.parquet")
    return uri, folder / "triplets.parquet", vectors, triplets


def ask(capsys, *arguments: object) -> dict | list:
    assert run_command("collections", [*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compare_promote_search_and_roll_back(place, tiny_bundle, other_bundle, capsys) -> None:
    uri, path, vectors, triplets = place
    common = ("--milvus-uri", uri)
    first = ask(capsys, "promote", *common, "--collection", "old", "--bundle", tiny_bundle)
    assert first == {"alias": "live", "before": None, "after": "old"}

    probe = ("--bundle", tiny_bundle, "--other-bundle", other_bundle, "--triplets", path)
    report = ask(capsys, "compare", *common, *probe, "--other", "new")
    (row,) = [one for one in report["rows"] if one["metric"] == "map@50"]
    assert row["first"] == pytest.approx(exact_map(tiny_bundle, vectors["old"], triplets), abs=1e-6)
    assert row["second"] == pytest.approx(
        exact_map(other_bundle, vectors["new"], triplets), abs=1e-6
    )
    assert (report["first"], report["num_queries"], report["num_clips"]) == ("old", 20, NUM_CLIPS)
    assert (
        run_command("collections", [*map(str, ("compare", *common, *probe, "--other", "new"))]) == 0
    )
    assert "map@50" in capsys.readouterr().out

    ask(capsys, "promote", *common, "--collection", "new", "--bundle", other_bundle)
    with SearchClient(uri, "live", other_bundle) as client:
        assert len(client.search(clip="c1", limit=3).hits) == 3
    with pytest.raises(ValueError, match="holds vectors of encoder"):
        SearchClient(uri, "live", tiny_bundle)
    listed = {one["name"]: one for one in ask(capsys, "list", *common)}
    assert (listed["new"]["aliases"], listed["new"]["previous"]) == (["live"], {"live": "old"})
    assert run_command("collections", ["list", *common]) == 0
    assert "live: old" in capsys.readouterr().out

    assert ask(capsys, "rollback", *common) == {"alias": "live", "before": "new", "after": "old"}
    with SearchClient(uri, "live", tiny_bundle) as client:
        assert client.collection.name == "old"


def test_what_cannot_be_compared_or_promoted_says_why(
    place, tiny_bundle, other_bundle, capsys
) -> None:
    uri, path, _, _ = place
    common = ("--milvus-uri", uri)
    probe = ("--collection", "old", "--bundle", tiny_bundle, "--triplets", path)
    other = ("--other-bundle", other_bundle)

    def refused(*arguments: object) -> str:
        assert tfcovr(["collections", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "20 only in 'old', 0 only in 'half'" in refused(
        "compare", *common, *probe, *other, "--other", "half"
    )
    swapped = ("compare", *common, *probe, "--other-bundle", tiny_bundle, "--other", "new")
    assert "holds vectors of encoder" in refused(*swapped)
    wrong = ("--collection", "new", "--bundle", tiny_bundle)
    assert "promote the collection that this bundle indexed" in refused("promote", *common, *wrong)
    assert "no alias 'nobody'" in refused("rollback", *common, "--alias", "nobody")
    assert "no collection 'gone'; it has: half, new, old" in refused(
        "promote", *common, "--collection", "gone", "--bundle", tiny_bundle
    )
