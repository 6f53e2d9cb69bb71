"""The converter benchmark, small."""

import pytest

from benchmarks.fidelity import release
from benchmarks.fidelity.embeddings import EmbeddingScale, measure_embeddings


@pytest.mark.parametrize("num_frames", [1, 3])
def test_both_rates_are_measured(num_frames):
    scale = EmbeddingScale(
        num_stream=30, num_files=7, vectors_per_dict=20, width=8, num_frames=num_frames
    )
    rates = measure_embeddings(scale)
    assert rates.pickle_vectors_per_s > 0
    assert rates.pth_vectors_per_s > 0


def test_readers_keep_what_files_hold_to_float32(monkeypatch):
    assert 0 < release.release_reader_error() < 2e-7
    assert release.release_row_differences() == 0
    monkeypatch.setattr(
        release, "_released_vector", lambda t: t.detach().double().numpy().reshape(-1, 16)[0]
    )
    assert release.release_reader_error() > 0.1  # tokens are averaged, not the first of them
