"""The converter benchmark, small."""

import pytest

from benchmarks.fidelity.embeddings import EmbeddingScale, measure_embeddings


@pytest.mark.parametrize("num_frames", [1, 3])
def test_both_rates_are_measured(num_frames):
    scale = EmbeddingScale(
        num_stream=30, num_files=7, vectors_per_dict=20, width=8, num_frames=num_frames
    )
    rates = measure_embeddings(scale)
    assert rates.pickle_vectors_per_s > 0
    assert rates.pth_vectors_per_s > 0
