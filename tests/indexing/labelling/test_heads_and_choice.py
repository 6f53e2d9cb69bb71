import numpy as np
import pytest

from indexing.labelling.choice import choose_groups, doubt
from indexing.labelling.heads import Scaling, fit_heads


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Four groups, of 40, 20, 10 and 5 clips."""
    rng = np.random.default_rng(0)
    kind_N = np.repeat(np.arange(4), (40, 20, 10, 5))
    centres = 4 * rng.normal(size=(4, 8))
    vectors_ND = centres[kind_N] + 0.5 * rng.normal(size=(len(kind_N), 8))
    return Scaling.of(vectors_ND)(vectors_ND), kind_N


def test_heads_tell_groups_apart_after_one_clip_of_each(blobs) -> None:
    vectors_ND, kind_N = blobs
    first = [int(np.flatnonzero(kind_N == kind)[0]) for kind in range(4)]
    heads = fit_heads(vectors_ND[first], [f"l{kind}" for kind in range(4)])
    assert heads is not None
    probabilities_NL = heads.probabilities(vectors_ND)
    assert probabilities_NL.sum(axis=1) == pytest.approx(np.ones(len(vectors_ND)))
    assert np.array_equal(probabilities_NL.argmax(axis=1), kind_N)


@pytest.mark.parametrize("num_labels", [1, 2])
def test_heads_of_few_labels_have_a_probability_for_each(blobs, num_labels: int) -> None:
    vectors_ND, kind_N = blobs
    rows = np.flatnonzero(kind_N < num_labels)
    heads = fit_heads(vectors_ND[rows], [f"l{kind}" for kind in kind_N[rows]])
    assert heads is not None
    assert heads.labels == tuple(f"l{kind}" for kind in range(num_labels))
    probabilities_NL = heads.probabilities(vectors_ND[rows])
    assert np.array_equal(probabilities_NL.argmax(axis=1), kind_N[rows])
    assert fit_heads(vectors_ND[:0], []) is None


def test_two_labels_are_as_likely_as_scikit_learn_says(blobs) -> None:
    from sklearn.linear_model import LogisticRegression

    vectors_ND, kind_N = blobs
    rows = np.flatnonzero(kind_N < 2)
    heads = fit_heads(vectors_ND[rows], [f"l{kind}" for kind in kind_N[rows]])
    model = LogisticRegression(C=0.1, tol=1e-3, class_weight="balanced")
    model.fit(vectors_ND[rows], kind_N[rows])
    expected = model.predict_proba(vectors_ND)
    assert heads.probabilities(vectors_ND) == pytest.approx(expected, abs=1e-6)


def test_the_first_questions_are_of_different_groups_and_the_largest_comes_first(blobs) -> None:
    vectors_ND, kind_N = blobs
    num = len(kind_N)
    nobody = np.zeros(num, bool)
    groups = choose_groups(
        vectors_ND, doubt(None, num), is_labelled_N=nobody, is_open_N=~nobody, count=4
    )
    assert kind_N[groups[0].open_clips[0]] == 0
    assert sorted(kind_N[group.open_clips[0]] for group in groups) == [0, 1, 2, 3]
    assert sum(len(group.open_clips) for group in groups) == num


def test_a_group_with_a_label_waits_and_closed_clips_are_not_asked(blobs) -> None:
    vectors_ND, kind_N = blobs
    num = len(kind_N)
    is_labelled_N = kind_N == 0
    is_open_N = ~is_labelled_N & (np.arange(num) % 2 == 0)
    how = {"is_labelled_N": is_labelled_N, "is_open_N": is_open_N, "count": 6}
    groups = choose_groups(vectors_ND, doubt(None, num), **how)
    asked = np.concatenate([group.open_clips for group in groups])
    assert is_open_N[asked].all()
    assert len(set(asked.tolist())) == len(asked)
    none = np.zeros(num, bool)
    assert choose_groups(vectors_ND, doubt(None, num), is_labelled_N=none, is_open_N=none, count=6) == []  # fmt: skip


def test_doubt_is_one_minus_the_margin() -> None:
    probabilities_NL = np.array([[0.5, 0.5, 0.0], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    assert doubt(probabilities_NL, 3) == pytest.approx([1.0, 0.5, 0.0])
    assert doubt(np.ones((2, 1)), 2) == pytest.approx([1.0, 1.0])
