"""The reference here is written entry by entry from the description of the released evaluator."""

import numpy as np
import pytest

from training.annotations.triplets.table import Triplet
from training.evaluation.release_protocol import release_metrics


def by_hand(triplets, queries, vectors):
    rows = [triplet.target_clip_ids[0] for triplet in triplets]
    out = {}
    for k in (5, 10, 25, 50):
        precisions = []
        for triplet, query in zip(triplets, queries, strict=True):
            scored = []
            for place, entry in enumerate(rows):
                own = entry == triplet.query_clip_id
                score = -100.0 if own else float(vectors[entry] @ query)
                scored.append((-score, place, entry))
            num_hits = total = 0
            for rank, (_, _, entry) in enumerate(sorted(scored)[:50][:k], start=1):
                if entry in triplet.target_clip_ids:
                    num_hits += 1
                    total += num_hits / rank
            precisions.append(total / min(len(triplet.target_clip_ids), k))
        out[f"map@{k}"] = round(sum(precisions) / len(precisions) * 100, 2)
    for k in (1, 5, 10, 50):
        num_hits_at_k = 0
        for triplet, query in zip(triplets, queries, strict=True):
            scored = sorted(
                (100.0 if e == triplet.query_clip_id else -float(vectors[e] @ query), place, e)
                for place, e in enumerate(rows)
            )
            num_hits_at_k += triplet.target_clip_ids[0] in [entry for _, _, entry in scored[:k]]
        out[f"recall@{k}"] = round(num_hits_at_k / len(triplets) * 100, 2)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_description(seed):
    rng = np.random.default_rng(seed)
    names = [f"v{n}" for n in range(25)]
    vectors = {name: rng.normal(size=6) for name in names}
    vectors = {n: (v / np.linalg.norm(v)).astype(np.float32) for n, v in vectors.items()}
    triplets = []
    for number in range(rng.integers(5, 90)):
        query, *targets = rng.choice(names, size=rng.integers(2, 7), replace=False).tolist()
        triplets.append(
            Triplet(query_id=str(number), query_clip_id=query, edit_text="x",
                    target_clip_ids=tuple(targets))
        )  # fmt: skip
    # Queries near their targets, so that there is something to find.
    queries = np.stack([vectors[t.target_clip_ids[0]] + rng.normal(size=6) * 0.4 for t in triplets])
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    expected = by_hand(triplets, queries, vectors)
    assert release_metrics(triplets, queries, vectors) == pytest.approx(expected, abs=1e-9)


def test_duplicates_are_kept_so_an_ap_can_exceed_one():
    vectors = {"q": np.array([1.0, 0.0]), "t": np.array([0.0, 1.0])}
    triplets = [
        Triplet(query_id=str(n), query_clip_id="q", edit_text="x", target_clip_ids=("t",))
        for n in range(3)
    ]
    metrics = release_metrics(triplets, np.tile(vectors["t"], (3, 1)), vectors)
    assert metrics["map@5"] == 300.0
    assert metrics["recall@1"] == 100.0
