import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.clips import Clip
from training.annotations.triplets.table import Triplet
from training.evaluation.problem import build_retrieval_problem
from training.evaluation.scores import METRICS, IntervalConfig, score_row, summarize_rows
from training.vectors.tables import read_dead_ids, read_unit_vectors


def random_problem(seed, *, num_clips=70, num_queries=40, num_labels=5):
    rng = np.random.default_rng(seed)
    clips = [
        Clip(clip_id=f"c{n:03d}", video_uri=f"/{n}", label=f"L{rng.integers(num_labels)}",
             split=str(rng.choice(["train", "test"], p=[0.3, 0.7])))
        for n in range(num_clips)
    ]  # fmt: skip
    vectors = {}
    for clip in clips:
        vector = rng.normal(size=8) + 2 * np.eye(8)[int(clip.label[1:])]
        vectors[clip.clip_id] = (vector / np.linalg.norm(vector)).astype(np.float32)
    triplets = []
    while len(triplets) < num_queries:
        query = clips[rng.integers(num_clips)]
        label = f"L{rng.integers(num_labels)}"
        targets = tuple(
            c.clip_id
            for c in clips
            if c.label == label and c.split == query.split and c.clip_id != query.clip_id
        )
        if label != query.label and targets:
            triplets.append(
                Triplet(query_id=f"q{len(triplets)}", query_clip_id=query.clip_id, edit_text=label,
                        target_clip_ids=targets, source_label=query.label, target_label=label,
                        split=query.split)
            )  # fmt: skip
    return clips, vectors, triplets


def naive_metrics(ranking, targets):
    """AP and recall by their definitions, rank by rank."""
    out = []
    for k in (5, 10, 25, 50):
        total = hits = 0
        for rank, clip in enumerate(ranking[:k], start=1):
            if clip in targets:
                hits += 1
                total += hits / rank
        out.append(total / min(k, len(targets)))
    for k in (1, 5, 10, 50):
        out.append(1.0 if any(clip in targets for clip in ranking[:k]) else 0.0)
    return out


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("with_clips", [True, False])
def test_a_row_equals_a_sort_of_the_gallery_by_hand(seed, with_clips):
    clips, vectors, triplets = random_problem(seed)
    problem = build_retrieval_problem(
        triplets, vectors, split="test", clips=clips if with_clips else None
    )
    asked = [triplet for triplet in triplets if triplet.split == "test"]
    if with_clips:
        gallery = sorted(clip.clip_id for clip in clips if clip.split == "test")
    else:
        gallery = sorted({c for t in asked for c in (t.query_clip_id, *t.target_clip_ids)})
    assert list(problem.gallery_ids) == gallery
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(len(asked), 8)).astype(np.float32)
    row = score_row("composed", queries, problem)
    for query, triplet, values in zip(queries, asked, row.values_NV, strict=True):
        others = [clip for clip in gallery if clip != triplet.query_clip_id]
        ranking = sorted(others, key=lambda clip: -float(query @ vectors[clip]))
        assert values == pytest.approx(naive_metrics(ranking, set(triplet.target_clip_ids)))


def test_the_summary_holds_means_and_parts_by_pair():
    clips, vectors, triplets = random_problem(3, num_clips=200, num_queries=150)
    held_out = {("L0", "L1"), ("L2", "L3"), ("L4", "L0")}
    triplets = [
        t for t in triplets
        if t.split == "test" or (t.source_label, t.target_label) not in held_out
    ]  # fmt: skip
    problem = build_retrieval_problem(triplets, vectors, split="test", clips=clips)
    # A perfect row, and the query clip itself.
    perfect = np.stack([np.eye(8)[int(t.target_label[1:])] for t in problem.triplets])
    rows = [score_row("composed", perfect, problem), score_row("raw", problem.clips_ND, problem)]
    summary = summarize_rows(rows, problem, IntervalConfig(num_resamples=200))
    trained = {(t.source_label, t.target_label) for t in triplets if t.split == "train"}
    is_seen = np.array([(t.source_label, t.target_label) in trained for t in problem.triplets])
    assert 0 < is_seen.sum() < len(is_seen)
    for part, chosen in [(summary, is_seen | True), (summary["by_pairs"]["seen"], is_seen),
                         (summary["by_pairs"]["unseen"], ~is_seen)]:  # fmt: skip
        assert part["num_queries"] == chosen.sum()
        for row, shown in zip(rows, part["rows"], strict=True):
            for place, metric in enumerate(METRICS):
                assert shown[metric] == pytest.approx(row.values_NV[chosen, place].mean())
                assert shown[f"{metric}_low"] <= shown[metric] <= shown[f"{metric}_high"]
    composed, raw = summary["rows"]
    assert summary["best_other"] == "raw"
    ratio = summary["composed_over_best_other"]
    assert ratio["value"] == pytest.approx(composed["map@50"] / raw["map@50"])
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert summary["intervals_are_disjoint"] == (composed["map@50_low"] > raw["map@50_high"])
    json.dumps(summary)


def test_the_summary_has_a_part_per_kind_of_change():
    clips, vectors, triplets = random_problem(4)
    problem = build_retrieval_problem(triplets, vectors, split="test", clips=clips)
    row = score_row("composed", problem.clips_ND, problem)
    change_by_pair = {("L0", f"L{n}"): "twists" for n in range(5)}
    summary = summarize_rows(
        [row], problem, IntervalConfig(num_resamples=50), change_by_pair=change_by_pair
    )
    is_twists = np.array([t.source_label == "L0" for t in problem.triplets])
    assert {name: part["num_queries"] for name, part in summary["by_change"].items()} == {
        "twists": is_twists.sum(),
        "other": (~is_twists).sum(),
    }
    shown = summary["by_change"]["twists"]["rows"][0]["map@5"]
    assert shown == pytest.approx(row.values_NV[is_twists, 0].mean())


def test_equal_rows_are_not_called_better():
    clips, vectors, triplets = random_problem(5)
    problem = build_retrieval_problem(triplets, vectors, split="test", clips=clips)
    rows = [score_row(name, problem.clips_ND, problem) for name in ("composed", "video_only")]
    summary = summarize_rows(rows, problem, IntervalConfig(num_resamples=100))
    assert summary["composed_over_best_other"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert summary["composed_minus_best_other"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert not summary["intervals_are_disjoint"]


def test_dead_clips_leave_gallery_targets_and_queries(tmp_path):
    clips, vectors, triplets = random_problem(2)
    asked = [triplet for triplet in triplets if triplet.split == "test"]
    dead = {asked[0].query_clip_id, *asked[1].target_clip_ids}
    table = pa.table({"clip_id": sorted(dead), "reason": ["x"] * len(dead)})
    pq.write_table(table, tmp_path / "vectors.dead.parquet")
    alive = {clip_id: vector for clip_id, vector in vectors.items() if clip_id not in dead}
    problem = build_retrieval_problem(
        triplets, alive, split="test", clips=clips,
        dead_ids=read_dead_ids(tmp_path / "vectors.parquet"),
    )  # fmt: skip
    expected = {
        t.query_id: set(t.target_clip_ids) - dead
        for t in asked
        if t.query_clip_id not in dead and set(t.target_clip_ids) - dead
    }
    assert {t.query_id: set(t.target_clip_ids) for t in problem.triplets} == expected
    assert problem.num_queries_left_out == len(asked) - len(expected) > 1
    assert problem.num_dead_clips == len(dead)
    assert not dead & set(problem.gallery_ids)
    assert read_dead_ids(tmp_path / "others.parquet") == frozenset()


def test_what_does_not_fit_together_is_named():
    clips, vectors, triplets = random_problem(0)
    with pytest.raises(
        ValueError, match=r"no triplet has the split 'val'; there are \['test', 'train'\]"
    ):
        build_retrieval_problem(triplets, vectors, split="val")
    named = sorted(t.query_clip_id for t in triplets if t.split == "test")[0]
    without = {clip_id: vector for clip_id, vector in vectors.items() if clip_id != named}
    with pytest.raises(ValueError, match=f"1 clips have no vector, first: .'{named}'"):
        build_retrieval_problem(triplets, without, split="test", clips=clips)
    fewer = [clip for clip in clips if clip.clip_id != named]
    with pytest.raises(ValueError, match=f"are not in split 'test', first: .'{named}'"):
        build_retrieval_problem(triplets, vectors, split="test", clips=fewer)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 8)])
def test_vectors_are_read_and_checked(tmp_path, kind):
    _, vectors, _ = random_problem(1)
    path = tmp_path / "vectors.parquet"

    def write(ids, embeddings, column_type=kind):
        array = pa.array([e.tolist() if e is not None else None for e in embeddings], column_type)
        pq.write_table(pa.table({"clip_id": ids, "embedding": array}), path)

    ids = random.Random(0).sample(sorted(vectors), len(vectors))
    write(ids, [vectors[i] for i in ids])
    vectors_read = read_unit_vectors(path)
    assert list(vectors_read) == ids
    assert all((vectors_read[i] == vectors[i]).all() for i in ids)
    write(["a", "b"], [vectors["c000"], vectors["c001"] * 2])
    with pytest.raises(
        ValueError, match=r"row 1: embedding of clip 'b' has length 2; it must be 1"
    ):
        read_unit_vectors(path)
    write(["a", "a"], [vectors["c000"], vectors["c001"]])
    with pytest.raises(ValueError, match="some ids occur twice"):
        read_unit_vectors(path)
    write(["a", "b"], [vectors["c000"], None])
    with pytest.raises(ValueError, match="vectors are missing or differ in width"):
        read_unit_vectors(path)
    write(["a"], [np.full(8, np.nan, np.float32)])
    with pytest.raises(ValueError, match="has length nan"):
        read_unit_vectors(path)


def test_a_split_that_no_triplet_has_is_named_with_those_that_there_are():
    clips, vectors, triplets = random_problem(5)
    with pytest.raises(ValueError, match=r"no triplet has the split 'dev'; there are \["):
        build_retrieval_problem(triplets, vectors, split="dev", clips=clips)
