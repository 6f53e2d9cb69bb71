"""Vectors keep their own length: from released files through the table to what a fusion reads."""

import pickle  # noqa: TID251 - writes the format of the release

import numpy as np
import pytest
import torch
from torch import nn

from training.annotations.embeddings.import_embeddings import (
    ImportEmbeddingsConfig,
    import_embeddings,
)
from training.vectors.tables import (
    iter_tokens,
    read_lengths,
    read_unit_vectors,
    with_own_length,
)


def imported(tmp_path, tensors):
    (tmp_path / "all.pkl").write_bytes(pickle.dumps(tensors))
    out = tmp_path / "vectors.parquet"
    import_embeddings(ImportEmbeddingsConfig(source=tmp_path / "all.pkl", out=out))
    return out


def test_unit_vectors_and_lengths_give_the_released_vectors_again(tmp_path):
    raw = {f"clip_{n}": torch.randn(768) * (n + 1) for n in range(5)}
    out = imported(tmp_path, raw)
    ids = list(raw)
    unit = np.stack([read_unit_vectors(out)[name] for name in ids])
    back = with_own_length(unit, ids, read_lengths(out))
    np.testing.assert_allclose(back, torch.stack(list(raw.values())), rtol=2e-6, atol=2e-6)
    with pytest.raises(ValueError, match="'other' has no length of its own"):
        with_own_length(unit[:1], ["other"], read_lengths(out))


@pytest.mark.parametrize("container", ["pkl", "pth", "pth_old"])
def test_parameters_and_integers_are_read_as_the_numbers_that_they_are(tmp_path, container):
    values = {
        "parameter": nn.Parameter(torch.tensor([3.0, 4.0])),
        "long": torch.tensor([3, 4]),
        "int": torch.tensor([3, 4], dtype=torch.int32),
        "short": torch.tensor([3, 4], dtype=torch.int16),
        "char": torch.tensor([3, 4], dtype=torch.int8),
        "byte": torch.tensor([3, 4], dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
    }
    if container == "pkl":
        out = imported(tmp_path, values)
    else:
        (tmp_path / "AIM").mkdir()
        for name, value in values.items():
            is_zip = container == "pth"
            torch.save(
                value, tmp_path / "AIM" / f"{name}.pth", _use_new_zipfile_serialization=is_zip
            )
        out = tmp_path / "vectors.parquet"
        import_embeddings(ImportEmbeddingsConfig(source=tmp_path / "AIM", out=out))
    unit, lengths = read_unit_vectors(out), read_lengths(out)
    for name in values.keys() - {"bool"}:
        np.testing.assert_allclose(unit[name], [0.6, 0.8], rtol=1e-6)
        assert lengths[name] == 5.0
    assert unit["bool"].tolist() == [1.0, 0.0]


def test_ordered_tokens_are_kept_in_order_beside_their_mean(tmp_path):
    tokens = torch.randn(8, 16).half()
    frames = torch.randn(3, 4, 16)
    out = imported(tmp_path, {"tokens": tokens, "frames": frames, "mean": torch.randn(16)})
    kept = dict(iter_tokens(out))
    assert kept.keys() == {"tokens", "frames"}
    np.testing.assert_array_equal(kept["tokens"], tokens.float().numpy())
    np.testing.assert_allclose(kept["frames"], frames.mean(1), atol=1e-6)
    mean = tokens.float().mean(0)
    np.testing.assert_allclose(
        read_unit_vectors(out)["tokens"] * read_lengths(out)["tokens"], mean, atol=1e-6
    )
