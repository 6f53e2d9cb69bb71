"""Encoders on a GPU against the same weights on the CPU."""

import numpy as np
import pytest
import torch

from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.folder import save_bundle
from encoders.export.parity import compare_backends, cosines
from encoders.media.sampling import SamplingConfig
from encoders.video_encoder.config import PRESETS
from encoders.video_encoder.registry import build_video_encoder
from encoders.video_encoder.time_attention import attend_over_frames, has_kernel
from tests.support.attention import attention_per_token

pytestmark = pytest.mark.needs_gpu


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = build_video_encoder(PRESETS["aim_small"]).eval()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "_Adapter" in name or name == "temporal_embedding":
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder


@pytest.fixture(scope="module")
def frames():
    return synthetic_clips(SamplingConfig(num_frames=12, frame_size=64), 16, name="gpu")


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 0.99999), (torch.bfloat16, 0.995)])
def test_cuda_gives_the_vectors_of_the_cpu(encoder, frames, dtype, bound):
    with torch.no_grad():
        expected = encoder(torch.from_numpy(frames)).numpy()
        on_gpu = build_video_encoder(encoder.config).eval()
        on_gpu.load_state_dict(encoder.state_dict())
        on_gpu.to("cuda", dtype)
        found = on_gpu(torch.from_numpy(frames).cuda()).cpu().numpy()
    assert cosines(expected, found).min() > bound


def test_onnx_runtime_on_cuda_equals_torch(encoder, frames, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has no CUDA provider (pip install onnxruntime-gpu)")
    from encoders.backends.registry import open_backend
    from encoders.export.config import ExportConfig
    from encoders.export.onnx_export import export_onnx

    save_bundle(tmp_path / "b", video=encoder)
    export_onnx(ExportConfig(bundle=tmp_path / "b", num_clips=8))
    reference = open_backend(tmp_path / "b", "torch")
    candidate = open_backend(tmp_path / "b", "onnx", device="cuda")
    assert compare_backends(reference, candidate, frames).min_cosine > 0.9999


def test_gradients_reach_the_adapters_in_bf16_autocast(encoder, frames):
    trained = build_video_encoder(encoder.config)
    trained.load_state_dict(encoder.state_dict())
    trained.freeze_pretrained()
    trained.cuda().train()
    with torch.autocast("cuda", torch.bfloat16):
        features = trained.features(torch.from_numpy(frames[:4]).cuda())
    features.float().square().sum().backward()
    learned = [p for p in trained.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learned)
    assert np.mean([float(p.grad.abs().max()) > 0 for p in learned if p.grad is not None]) > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_over_frames_in_one_kernel_is_torchs_and_its_gradient(dtype):
    qkv_NTLD = torch.randn(3, 12, 50, 3 * 4 * 64, device="cuda", dtype=dtype, requires_grad=True)
    assert has_kernel(qkv_NTLD[..., : 4 * 64], 4)
    found_NTLD = attend_over_frames(qkv_NTLD, 4)
    upstream_NTLD = torch.randn_like(found_NTLD)
    (found_gradient,) = torch.autograd.grad(found_NTLD, qkv_NTLD, upstream_NTLD)
    wide_NTLD = qkv_NTLD.detach().cpu().double().requires_grad_()
    expected_NTLD = attention_per_token(wide_NTLD, 4)
    (expected_gradient,) = torch.autograd.grad(
        expected_NTLD, wide_NTLD, upstream_NTLD.cpu().double()
    )
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found_NTLD.cpu().double(), expected_NTLD, atol=bound, rtol=bound)
    torch.testing.assert_close(
        found_gradient.cpu().double(), expected_gradient, atol=bound, rtol=bound
    )
