"""The reference here is written entry by entry from the description of the released evaluator (benchmarks.fidelity.released)."""

import numpy as np
import pytest

from benchmarks.fidelity import released
from benchmarks.fidelity.release import draw_world, read_rows
from training.annotations.triplets.table import Triplet
from training.evaluation.release_protocol import release_metrics


def triplet(number, query, *targets):
    return Triplet(
        query_id=str(number), query_clip_id=query, edit_text="x", target_clip_ids=targets
    )


def any_recall(rows, queries, vectors, rank):
    names = [row["target_video"] for row in rows]
    num_found = 0
    for row, query in zip(rows, queries, strict=True):
        scores = [
            float(vectors[name] @ query) - 100 * (name == row["query_video"]) for name in names
        ]
        first = [names[place] for place in np.argsort(np.array(scores))[::-1][:rank]]
        num_found += row["target_video"] in first
    return round(100 * num_found / len(rows), 2)


@pytest.mark.parametrize("seed", range(4))
def test_duplicates_doubles_and_ties_count_as_in_the_release(seed, tmp_path):
    rows, queries, vectors = draw_world(seed)
    metrics = release_metrics(read_rows(rows, tmp_path), queries, vectors)
    expected = released.evaluate(rows, queries, vectors)
    assert {name: metrics[name] for name in expected} == pytest.approx(
        {name: round(value, 2) for name, value in expected.items()}, abs=1e-9
    )
    for rank in (1, 5, 10, 25, 50):
        assert metrics[f"recall_any@{rank}"] == any_recall(rows, queries, vectors, rank)


@pytest.mark.parametrize("seed", range(3))
def test_vectors_of_any_length_and_float32_rank_as_their_directions(seed):
    rng = np.random.default_rng(seed)
    vectors = {f"v{n}": rng.normal(size=6).astype(np.float32) for n in range(25)}
    rows, triplets = [], []
    for number in range(60):
        query, *targets = rng.choice(list(vectors), size=4, replace=False).tolist()
        rows.append(
            {"query_video": query, "target_video": targets[0], "target_videos_ids": targets}
        )
        triplets.append(triplet(number, query, *targets))
    queries = np.stack([vectors[t.target_clip_ids[0]] for t in triplets])
    queries += rng.normal(size=queries.shape).astype(np.float32)
    metrics = release_metrics(triplets, queries, vectors)
    expected = released.evaluate(rows, queries, vectors)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=0.0051)


def test_duplicates_are_kept_so_an_ap_can_exceed_one():
    vectors = {"q": np.array([1.0, 0.0]), "t": np.array([0.0, 1.0])}
    triplets = [triplet(n, "q", "t") for n in range(3)]
    metrics = release_metrics(triplets, np.tile(vectors["t"], (3, 1)), vectors)
    assert metrics["map@5"] == 300.0
    assert (metrics["recall@5"], metrics["recall_any@1"]) == (300.0, 100.0)


def test_recall_sums_what_duplicated_targets_find():
    vectors = dict(zip("abcq", np.eye(4), strict=True))
    triplets = [triplet(0, "q", "a"), triplet(1, "b", "a"), triplet(2, "c", "b")]
    queries = np.stack([vectors[t.target_clip_ids[0]] for t in triplets])
    metrics = release_metrics(triplets, queries, vectors)
    assert (metrics["recall@5"], metrics["recall_any@5"]) == (166.67, 100.0)


def test_a_name_that_is_listed_twice_divides_by_two():
    vectors = dict(zip("abq", np.eye(3), strict=True))
    triplets = [triplet(0, "q", "a", "a", "b"), triplet(1, "q", "b")]
    queries = np.stack([vectors["a"], vectors["b"]])
    assert release_metrics(triplets, queries, vectors)["map@5"] == 83.33
