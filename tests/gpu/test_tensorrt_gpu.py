"""TensorRT engines built and run on this GPU: near torch at every batch size, replayed graphs included, and taken by `auto`."""

import numpy as np
import pytest
import torch

from benchmarks.gpu.steps import usable_tensorrt
from encoders.backends.registry import open_backend
from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.card import read_card
from encoders.bundle.folder import save_bundle
from encoders.commands.export import Config as ExportCommand
from encoders.commands.export import run_export
from encoders.export.parity import cosines
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.registry import build_video_encoder

LIBRARY = usable_tensorrt()
pytestmark = [
    pytest.mark.needs_gpu,
    pytest.mark.skipif(LIBRARY is None, reason="needs tensorrt: pip install '.[gpu]'"),
]


@pytest.fixture(scope="module", params=["fp16", "bf16", "fp32"])
def bundle_dir(request, tmp_path_factory):
    torch.manual_seed(0)
    config = AimConfig(num_frames=4, image_size=64, patch_size=16, width=64, depth=2, num_heads=2)
    video = build_video_encoder(config).eval()
    with torch.no_grad():
        for parameter in video.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    folder = tmp_path_factory.mktemp("engines") / request.param
    save_bundle(folder, video=video)
    run_export(
        ExportCommand(
            bundle=folder,
            backend=LIBRARY,
            precision=request.param,
            max_batch_size=8,
            num_clips=16,
        )
    )
    return folder


def test_every_batch_size_stays_near_torch_and_replays_are_the_first_run_again(bundle_dir):
    reference = open_backend(bundle_dir, "torch")
    engine = open_backend(bundle_dir, "tensorrt", device="cuda")
    for num_clips in (1, 8, 3, 19, 8, 5, 2, 1):  # more shapes than are kept; 19 goes in parts
        frames = synthetic_clips(engine.card.sampling, num_clips, name=f"engine {num_clips}")
        expected = reference.embed_clips(frames)
        runs = [engine.embed_clips(frames) for _ in range(4)]
        assert min(cosines(expected, found).min() for found in runs) > 0.999
        assert max(np.abs(found - runs[0]).max() for found in runs) < 1e-3
        other = synthetic_clips(engine.card.sampling, num_clips, name=f"other {num_clips}")
        assert cosines(reference.embed_clips(other), engine.embed_clips(other)).min() > 0.999


def test_auto_takes_the_engine_and_the_card_holds_its_drift(bundle_dir):
    (record,) = read_card(bundle_dir).engines
    assert record.drift is not None
    assert record.onnx_drift is not None
    backend = open_backend(bundle_dir, "auto", device="cuda")
    assert backend.kind == "tensorrt"
    assert backend.precision.startswith(
        {"fp16": "float16", "bf16": "bf", "fp32": "float32"}[record.precision]
    )
