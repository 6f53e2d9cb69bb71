"""What a backend refuses, and that it never falls back in silence."""

import numpy as np
import onnxruntime
import pytest
import torch

from encoders.backends.registry import open_backend
from encoders.bundle.canaries import make_canaries, synthetic_clips
from encoders.bundle.card import BundleMismatchError
from encoders.bundle.folder import load_bundle, save_bundle

KINDS = ["torch", "onnx"]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_unit_length_float32_also_from_read_only_frames(exported_bundle, kind):
    backend = open_backend(exported_bundle, kind, num_threads=1)
    frames = make_canaries(backend.card.sampling)
    frames.flags.writeable = False
    vectors = backend.embed_clips(frames)
    assert (backend.kind, vectors.dtype, vectors.shape) == (kind, np.float32, (8, 12))
    queries = backend.embed_queries(vectors[:2].astype(np.float64), ["in tuck", "with 2 twists"])
    for found in (vectors, queries):
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_the_card_is_refused(exported_bundle, kind):
    backend = open_backend(exported_bundle, kind)
    with pytest.raises(ValueError, match="3, 16, 16, 3"):
        backend.embed_clips(np.zeros((1, 3, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        backend.embed_clips(np.zeros((1, 3, 16, 16, 3), np.float32))
    with pytest.raises(ValueError, match="1 texts"):
        backend.embed_queries(np.zeros((2, 12)), ["in tuck"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_without_fusion_answers_no_queries(exported_video_bundle, kind):
    with pytest.raises(ValueError, match="stage 2"):
        open_backend(exported_video_bundle, kind).embed_queries(np.zeros((1, 12)), ["in tuck"])


def test_a_bundle_that_was_not_exported_says_how(tiny_parts, tmp_path):
    save_bundle(tmp_path / "b", video=tiny_parts["video"])
    with pytest.raises(BundleMismatchError, match="tfcovr export"):
        open_backend(tmp_path / "b", "onnx")


def test_unknown_kinds_and_devices_are_refused(exported_bundle):
    with pytest.raises(ValueError, match=r"'jax' is unknown.*onnx.*torch"):
        open_backend(exported_bundle, "jax")
    with pytest.raises(ValueError, match="'tpu'"):
        open_backend(exported_bundle, "torch", device="tpu")
    with pytest.raises(ValueError, match="num_threads is 0"):
        open_backend(exported_bundle, "onnx", num_threads=0)


def test_a_gpu_that_is_not_there_is_an_error_and_no_fallback(exported_bundle):
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            open_backend(exported_bundle, "torch", device="cuda")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ValueError, match=r"pip uninstall -y onnxruntime .*\[gpu\]"):
            open_backend(exported_bundle, "onnx", device="cuda:0")


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_backends_tell_the_length_that_a_vector_had(exported_bundle, kind):
    backend = open_backend(exported_bundle, kind)
    frames = synthetic_clips(backend.card.sampling, 3, name="lengths")
    vectors, lengths = backend.embed_clips_with_length(frames)
    with torch.no_grad():
        features = load_bundle(exported_bundle).video.features(torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(vectors * lengths[:, None], features, atol=1e-4)
    tensor, tensor_lengths = backend.embed_tensor_with_length(torch.from_numpy(frames))
    np.testing.assert_allclose(tensor.numpy(), vectors, atol=1e-6)
    np.testing.assert_allclose(tensor_lengths.numpy(), lengths, rtol=1e-5)


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "float32"), ((9, 0), "tf32")])
def test_rows_name_tf32_where_the_gpu_multiplies_in_it(monkeypatch, capability, precision):
    from encoders.backends.onnx_backend import session_precision

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert session_precision("cuda:1") == precision
    assert session_precision("cpu") == "float32"
