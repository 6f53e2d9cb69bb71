"""A fusion that keeps lengths reads, at serving, the vectors that the encoder made."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from indexing.search.composition import compose_all
from indexing.search.query_encoder import QueryEncoder
from indexing.search.types import ComposedQuery
from indexing.store.schema import plain_row, stored_row

WIDTH = 6


class Backend:
    """The text vector is the length of the text in all places."""

    def __init__(self, *, keeps_length):
        config = FusionConfig(
            kind="combiner", video_dim=WIDTH, text_dim=3, projection_dim=8, hidden_dim=8,
            keeps_length=keeps_length,
        )  # fmt: skip
        torch.manual_seed(0)
        self.fusion = build_fusion(config).eval()
        self.card = SimpleNamespace(fusion=config, embedding_dim=WIDTH, bundle_id="b")

    def encode_texts(self, texts):
        return np.array([[len(text)] * 3 for text in texts], np.float32)

    def fuse(self, clips_ND, texts_NE):
        with torch.no_grad():
            return self.fusion(torch.from_numpy(clips_ND), torch.from_numpy(texts_NE)).numpy()


def raw_vectors(num):
    return (np.random.default_rng(0).normal(size=(num, WIDTH)) * 20).astype(np.float32)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_store_keeps_lengths_to_the_bit_and_gives_unit_vectors(dtype):
    for raw_D in raw_vectors(20).astype(dtype):
        given = {"clip_key": "k", "embedding": raw_D.tolist()}
        row = plain_row(given)
        np.testing.assert_allclose(row["embedding"], unit(raw_D.astype(np.float64)), atol=1e-9)
        assert row["vector_length"] == pytest.approx(np.linalg.norm(raw_D.astype(float)))
        again = stored_row(row, dtype)
        assert again.keys() == given.keys()
        np.testing.assert_array_equal(np.asarray(again["embedding"], dtype), raw_D)


def test_a_query_clip_is_fused_at_its_own_length_and_a_composed_query_at_the_typical_one():
    backend = Backend(keeps_length=True)
    encoder = QueryEncoder(backend, typical_length=lambda: 20.0)
    raw_ND = raw_vectors(2)
    clips = list(unit(raw_ND))
    queries = [
        ComposedQuery(clip="a", edits=("in tuck",)),
        ComposedQuery(clip="b", edits=("in tuck", "with a twist")),
    ]
    found = compose_all(
        queries, clips, encoder, SimpleNamespace(samples=unit(raw_ND)), fusion_inputs=list(raw_ND)
    )
    texts = backend.encode_texts(["in tuck"] * 2)
    first = backend.fuse(raw_ND, texts)
    np.testing.assert_allclose(found[0].vector_D, first[0], atol=1e-6)
    second = backend.fuse(first[1:] * np.float32(20), backend.encode_texts(["with a twist"]))
    np.testing.assert_allclose(found[1].vector_D, second[0], atol=1e-6)
    assert np.abs(found[0].vector_D - backend.fuse(unit(raw_ND), texts)[0]).max() > 1e-2


def test_without_lengths_a_fusion_that_needs_them_says_so_and_another_does_not_care():
    clip = unit(raw_vectors(1))
    with pytest.raises(ValueError, match="reads them as long as the encoder made them"):
        QueryEncoder(Backend(keeps_length=True)).compose(clip, ["in tuck"])
    backend = Backend(keeps_length=False)
    expected = backend.fuse(clip, backend.encode_texts(["in tuck"]))
    np.testing.assert_array_equal(QueryEncoder(backend).compose(clip, ["in tuck"]), expected)
