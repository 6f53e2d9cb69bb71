"""Ranking metrics against loops over random rankings, and against values worked out by hand."""

import numpy as np
import pytest

from encoders.metrics import (
    average_precision_at_k,
    bootstrap_interval,
    match_moments,
    mean_average_precision_at_k,
    recall_at_k,
    temporal_iou,
)


def brute_force_ap(ranking, relevant, k):
    total, num_hits = 0.0, 0
    for rank, item in enumerate(ranking[:k], start=1):
        if item in relevant:
            num_hits += 1
            total += num_hits / rank
    return total / min(k, len(relevant))


def random_queries(num_queries=40, gallery_size=30, seed=0):
    rng = np.random.default_rng(seed)
    gallery = [f"clip-{i}" for i in range(gallery_size)]
    rankings = [[gallery[i] for i in rng.permutation(gallery_size)] for _ in range(num_queries)]
    relevant = [
        set(rng.choice(gallery, size=rng.integers(1, 9), replace=False)) for _ in range(num_queries)
    ]
    return rankings, relevant


@pytest.mark.parametrize("k", [1, 5, 10, 25, 30, 50])
def test_map_equals_a_double_loop_on_random_rankings(k):
    rankings, relevant = random_queries()
    expected = [brute_force_ap(*query, k) for query in zip(rankings, relevant, strict=True)]
    found = mean_average_precision_at_k(rankings, relevant, k=k)
    assert found == pytest.approx(np.mean(expected), abs=1e-12)


def test_ap_worked_out_by_hand():
    # hits at ranks 1 and 4 of three relevant items: (1/1 + 2/4) / 3
    assert average_precision_at_k("abcdef", {"a", "d", "z"}, k=5) == pytest.approx(0.5)
    # all of the first k are relevant: 1, although more relevant items exist than k
    assert average_precision_at_k("abcdef", set("abcdef"), k=2) == pytest.approx(1.0)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_is_one_when_any_target_is_in_the_first_k(k):
    rankings, relevant = random_queries(seed=1)
    for ranking, targets in zip(rankings, relevant, strict=True):
        assert recall_at_k(ranking, targets, k=k) == float(bool(targets & set(ranking[:k])))


def test_a_query_without_targets_and_a_ranking_with_doubles_are_refused():
    with pytest.raises(ValueError, match="no relevant"):
        average_precision_at_k("abc", set(), k=2)
    with pytest.raises(ValueError, match="twice"):
        average_precision_at_k("aab", {"b"}, k=3)
    with pytest.raises(ValueError, match="no queries"):
        mean_average_precision_at_k([], [], k=3)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.exponential(2.0, 80), num_resamples=200, seed=trial)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.98


def test_the_interval_is_that_of_the_normal_theory_on_many_values():
    values = np.random.default_rng(0).normal(5.0, 2.0, 4000)
    low, high = bootstrap_interval(values, num_resamples=2000, seed=1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)


def test_temporal_iou_counts_shared_hundredths() -> None:
    rng = np.random.default_rng(3)
    starts = rng.integers(0, 60, 12)
    spans = np.stack([starts, starts + rng.integers(1, 40, 12)], axis=1)
    covered = [set(range(a, b)) for a, b in spans.tolist()]
    wanted = [[len(a & b) / len(a | b) for b in covered] for a in covered]
    np.testing.assert_allclose(temporal_iou(spans / 100, spans / 100), wanted, atol=1e-9)


def test_a_found_span_matches_the_true_one_that_it_overlaps_most_in_its_own_video() -> None:
    truth = [("a", 0.0, 2.0), ("a", 3.0, 5.0), ("b", 0.0, 2.0)]
    found = [("a", 2.5, 5.0), ("a", 0.0, 5.0), ("b", 0.5, 2.0), ("c", 0.0, 2.0), ("a", 3.1, 5.0)]
    assert match_moments(found, truth) == [1, -1, 2, -1, 1]
