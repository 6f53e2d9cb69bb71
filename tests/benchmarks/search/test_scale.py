"""The mixture is the same wherever a killed run goes on, and ef is the smallest that is good enough."""

import numpy as np
import pytest

from benchmarks.search import scale
from benchmarks.search.scale import Mixture, clip_id, exact_ids, tuned_ef

SMALL = Mixture(num_vectors=5000, num_centres=20)


def test_chunks_do_not_depend_on_where_a_run_goes_on() -> None:
    whole = SMALL.all_vectors()
    assert whole.shape == (5000, scale.DIM)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(1, abs=1e-5)
    ((start, last_ND, _),) = SMALL.chunks(2)
    assert start == 4000
    assert np.array_equal(last_ND, whole[4000:])


def test_noise_lies_in_a_subspace_and_has_its_length() -> None:
    vectors, which = [], []
    for _, vectors_ND, which_N in SMALL.chunks():
        vectors.append(vectors_ND)
        which.append(which_N)
    vectors_ND, which_N = np.concatenate(vectors), np.concatenate(which)
    group_ND = vectors_ND[which_N == 3]
    spread = np.linalg.svd(group_ND - group_ND.mean(axis=0), compute_uv=False)
    assert spread[scale.NOISE_DIM + 1] < 0.05 * spread[0]  # +1: what unit length bends
    same = (group_ND @ group_ND.T)[np.triu_indices(len(group_ND), 1)].mean()
    assert same == pytest.approx(1 / (1 + SMALL.noise**2), abs=0.03)


def test_the_nearest_are_those_of_a_full_sort() -> None:
    vectors_ND = SMALL.all_vectors()[:1000]
    wanted = sorted(range(1000), key=lambda n: -float(vectors_ND[n] @ vectors_ND[7]))[:10]
    assert exact_ids(vectors_ND, vectors_ND[7], limit=10) == wanted


def test_ef_is_the_smallest_of_high_enough_recall() -> None:
    vectors_ND = SMALL.all_vectors()[:500]

    def ask(queries_QD: np.ndarray, ef: int) -> list[list[str]]:
        num_right = 10 if ef >= 96 else 9
        found = [exact_ids(vectors_ND, query_D, limit=10) for query_D in queries_QD]
        return [[clip_id(n) for n in one[:num_right]] for one in found]

    ef, recall = tuned_ef(ask, vectors_ND, vectors_ND[:5], min_recall=0.98)
    assert (ef, recall) == (96, 1.0)
    with pytest.raises(ValueError, match=r"recall@10 is 0\.0000"):
        tuned_ef(lambda q, _ef: [[] for _ in q], vectors_ND, vectors_ND[:5], min_recall=0.98)
