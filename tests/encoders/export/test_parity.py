"""Parity finds the one clip or query that differs."""

import numpy as np
import pytest

from encoders.export.parity import compare_backends, cosines, sample_edit_texts


class Fake:
    """Vectors from a table: clip i has its number in the first pixel."""

    def __init__(self, vectors, *, query_error=0.0, bad_text=None):
        self.vectors, self.query_error, self.bad_text = vectors, query_error, bad_text
        self.batch_sizes = set()

    def embed_clips(self, frames):
        self.batch_sizes.add(len(frames))
        return self.vectors[frames[:, 0, 0, 0, 0]]

    def embed_queries(self, clip_vectors, edit_texts):
        error = [self.query_error * (text == self.bad_text) for text in edit_texts]
        return clip_vectors + np.array(error)[:, None] * np.eye(4)[0]


def frames(num_clips=20):
    return np.arange(num_clips, dtype=np.uint8).reshape(-1, 1, 1, 1, 1)


def vectors(num_clips=20):
    random = np.random.default_rng(0).normal(size=(num_clips, 4))
    return random / np.linalg.norm(random, axis=1, keepdims=True)


def test_cosines_are_those_of_the_textbook():
    found = cosines(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[4.0, 3.0], [0.0, 2.0]]))
    np.testing.assert_allclose(found, [24 / 25, 0.0])


def test_one_different_clip_sets_the_figure():
    changed = vectors()
    changed[13] = -changed[13]
    report = compare_backends(Fake(vectors()), Fake(changed), frames())
    assert report.min_cosine == report.min_cosine_clips == pytest.approx(-1)
    assert report.min_cosine_queries is None
    assert report.num_clips == 20


def test_one_different_query_sets_the_figure():
    texts = sample_edit_texts(20)
    wrong = Fake(vectors(), query_error=9.0, bad_text=texts[17])
    report = compare_backends(Fake(vectors()), wrong, frames(), edit_texts=texts)
    assert report.min_cosine_clips == pytest.approx(1)
    assert report.min_cosine == report.min_cosine_queries < 0.99


def test_a_vector_of_nan_is_never_parity():
    broken = vectors()
    broken[3, 2] = np.nan
    report = compare_backends(
        Fake(vectors()), Fake(broken), frames(), edit_texts=sample_edit_texts(20)
    )
    assert np.isnan(report.min_cosine)


def test_the_candidate_sees_other_batch_sizes_than_the_reference():
    reference, candidate = Fake(vectors()), Fake(vectors())
    compare_backends(reference, candidate, frames())
    assert reference.batch_sizes != candidate.batch_sizes


def test_sample_texts_differ_and_vary_in_length():
    texts = sample_edit_texts(64)
    assert len(set(texts)) == 64
    assert len({len(text.split()) for text in texts}) > 5
