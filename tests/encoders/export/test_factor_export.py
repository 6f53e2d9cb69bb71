"""A bundle with factors: saved, loaded and exported, it tells the same factors from torch and from ONNX Runtime."""

from dataclasses import replace

import numpy as np
import pytest

from encoders.backends.registry import open_backend
from encoders.bundle.card import BundleMismatchError, read_card, with_bundle_id, write_card
from encoders.bundle.folder import load_bundle, save_bundle
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import export_onnx
from encoders.query_encoder.composition import given_factors
from encoders.query_encoder.factors import find_factors
from encoders.query_encoder.fusion import build_fusion

FACTORS = find_factors(
    [{"twists": "0", "position": "pike"}, {"twists": "1.5", "position": "tuck"}, {"twists": "2"}]
)
TEXTS = ["in tuck", "with two more twists", "without twists"]


@pytest.fixture
def bundle(tiny_parts, tmp_path):
    config = replace(tiny_parts["fusion"].config, kind="factored", factors=FACTORS)
    save_bundle(tmp_path / "bundle", **(tiny_parts | {"fusion": build_fusion(config).eval()}))
    export_onnx(ExportConfig(bundle=tmp_path / "bundle", num_clips=3))
    return tmp_path / "bundle"


def test_torch_and_onnx_tell_the_same_factors(bundle):
    card = read_card(bundle)
    assert card.fusion is not None
    assert card.fusion.factors == FACTORS
    assert load_bundle(bundle).fusion is not None
    torch_backend, onnx_backend = (open_backend(bundle, kind) for kind in ("torch", "onnx"))
    rng = np.random.default_rng(0)
    clips_ND = rng.standard_normal((3, card.embedding_dim)).astype(np.float32)
    clips_ND /= np.linalg.norm(clips_ND, axis=1, keepdims=True)
    texts_NE = torch_backend.encode_texts(TEXTS)
    plain = [{}, {}, {}]
    corrected = [{"position": "pike"}, {}, {"twists": "1.5", "position": "tuck"}]
    for given in (plain, corrected):
        given_NS = given_factors(FACTORS, given)
        expected = torch_backend.compose_factors(clips_ND, texts_NE, given_NS)
        found = onnx_backend.compose_factors(clips_ND, texts_NE, given_NS)
        for name in ("query_ND", "source_NS", "target_NS", "asked_NF"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=3e-6)
        readings = found.readings(2, FACTORS, given_NS[2])
        assert [reading.is_given for reading in readings] == [bool(given[2])] * 2
    vectors = onnx_backend.compose_factors(
        clips_ND, texts_NE, given_factors(FACTORS, plain)
    ).query_ND
    np.testing.assert_allclose(onnx_backend.fuse(clips_ND, texts_NE), vectors, atol=3e-6)
    assert [r.value for r in readings] == ["tuck", "1.5"]


def test_a_bundle_without_the_graph_of_its_factors_is_refused(bundle):
    card = read_card(bundle)
    files = {name: value for name, value in card.files.items() if name != "factors.onnx"}
    write_card(bundle, with_bundle_id(replace(card, files=files)))
    with pytest.raises(BundleMismatchError, match=r"no factors\.onnx; write what is missing"):
        open_backend(bundle, "onnx")


def test_a_bundle_without_factors_tells_none(exported_bundle):
    width = read_card(exported_bundle).embedding_dim
    for kind in ("torch", "onnx"):
        backend = open_backend(exported_bundle, kind)
        clips_ND = np.ones((1, width), np.float32)
        with pytest.raises(ValueError, match="tells no factors"):
            backend.compose_factors(clips_ND, backend.encode_texts(["in tuck"]), np.zeros((1, 0)))
