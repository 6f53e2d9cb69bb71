"""Canaries are the same bytes everywhere, differ from each other, and catch an encoder that is another one."""

import shutil
import time

import numpy as np
import pytest
import torch

from encoders.backends.registry import open_backend
from encoders.bundle.canaries import check_encoder, make_canaries, read_canaries, synthetic_clips
from encoders.bundle.card import BundleMismatchError, hash_frames
from encoders.bundle.folder import save_bundle
from encoders.media.sampling import SamplingConfig

SAMPLING = SamplingConfig(num_frames=6, frame_size=32)


def test_drawn_clips_are_known_bytes():
    assert hash_frames(make_canaries(SAMPLING)).startswith("878c5e9b0287281a")


def test_clips_differ_and_move():
    frames = synthetic_clips(SAMPLING, 24, name="test").astype(int)
    for number in range(24):
        others = np.abs(np.delete(frames, number, axis=0) - frames[number]).mean(axis=(1, 2, 3, 4))
        assert others.min() > 10
        assert np.abs(np.diff(frames[number], axis=0)).max(axis=(1, 2, 3)).min() > 0
    assert (frames != synthetic_clips(SAMPLING, 24, name="other")).mean() > 0.5


def lowest_cosine(bundle_dir, backend) -> float:
    return check_encoder(bundle_dir, backend, clock_s=time.perf_counter).min_cosine


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_the_bundles_own_encoder_passes(exported_bundle, kind):
    assert lowest_cosine(exported_bundle, open_backend(exported_bundle, kind)) > 0.999999


def test_another_encoder_is_caught(exported_bundle, tiny_parts, tmp_path):
    with torch.no_grad():
        for parameter in tiny_parts["video"].parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    save_bundle(tmp_path / "other", **tiny_parts)
    with pytest.raises(BundleMismatchError, match="cosine"):
        lowest_cosine(exported_bundle, open_backend(tmp_path / "other", "torch"))


def test_an_encoder_of_nan_is_caught(exported_bundle, tiny_parts, tmp_path):
    with torch.no_grad():
        tiny_parts["video"].ln_post.weight[0] = float("nan")
    save_bundle(tmp_path / "other", **tiny_parts)
    with pytest.raises(BundleMismatchError, match="nan"):
        lowest_cosine(exported_bundle, open_backend(tmp_path / "other", "torch"))


def test_a_bundle_without_canaries_or_with_changed_ones_says_so(
    exported_bundle, tiny_parts, tmp_path
):
    save_bundle(tmp_path / "plain", video=tiny_parts["video"])
    with pytest.raises(BundleMismatchError, match="tfcovr export"):
        read_canaries(tmp_path / "plain")
    folder = shutil.copytree(exported_bundle, tmp_path / "copy")
    (folder / "canaries.safetensors").write_bytes(b"torn")
    with pytest.raises(BundleMismatchError, match=r"canaries\.safetensors has sha256"):
        read_canaries(folder)
    with pytest.raises(ValueError, match="frame_size is None"):
        make_canaries(SamplingConfig(num_frames=2, frame_size=None))
