"""torch.compile in low precision: one graph for all batch sizes, behind the drift gate, opened only where it was measured."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from encoders.backends import compiled_backend
from encoders.backends.registry import choose_backend, open_backend
from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.card import BundleMismatchError, read_card, write_card
from encoders.bundle.engine_records import DriftError
from encoders.bundle.folder import save_bundle
from encoders.export.compiled_export import add_compiled
from encoders.export.drift_probe import synthetic_probe
from encoders.export.parity import cosines
from encoders.video_encoder.config import AimConfig, FrameTemporalConfig
from encoders.video_encoder.registry import build_video_encoder

CONFIGS = {
    "aim": AimConfig(
        num_frames=3, image_size=32, patch_size=8, width=64, depth=2, num_heads=2, num_time_adapters=2,
        temporal_pooling="attention",
    ),
    "frame_temporal": FrameTemporalConfig(num_frames=3, depth=1, embedding_dim=32),
}  # fmt: skip


@pytest.fixture
def bundle_dir(request, tmp_path):
    torch.manual_seed(0)
    video = build_video_encoder(CONFIGS[getattr(request, "param", "aim")]).eval()
    with torch.no_grad():
        for parameter in video.parameters():  # a new adapter is zero and would hide what it does
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_bundle(tmp_path / "bundle", video=video)
    return tmp_path / "bundle"


@pytest.fixture
def num_graphs(monkeypatch):
    """Tracing as in earnest, and the graphs run as they are: making kernels of them takes a minute."""
    graphs = []

    def keep(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    return graphs


@pytest.mark.parametrize(
    ("bundle_dir", "precision"),
    [("aim", "bf16"), ("frame_temporal", "fp16")],
    indirect=["bundle_dir"],
)
def test_what_was_measured_opens_and_one_graph_takes_every_batch(bundle_dir, num_graphs, precision):
    with pytest.raises(BundleMismatchError, match="tfcovr export --backend compiled"):
        open_backend(bundle_dir, "compiled")
    probe = synthetic_probe(read_card(bundle_dir).sampling, 6, with_queries=False)
    record = add_compiled(bundle_dir, probe, precision)
    assert record.drift is not None
    assert record.drift.num_clips == 6
    num_graphs.clear()
    backend = open_backend(bundle_dir, "compiled")
    assert (backend.kind, backend.precision) == (
        "compiled", {"bf16": "bfloat16", "fp16": "float16"}[precision],
    )  # fmt: skip
    reference = open_backend(bundle_dir, "torch")
    for num_clips in (1, 5, 2):
        frames_NTHWC = synthetic_clips(backend.card.sampling, num_clips, name="mine")
        found_ND, length_N = backend.embed_clips_with_length(frames_NTHWC)
        assert found_ND.dtype == np.float32
        assert length_N.shape == (num_clips,)
        assert cosines(reference.embed_clips(frames_NTHWC), found_ND).min() > 0.999
        assert not np.array_equal(reference.embed_clips(frames_NTHWC), found_ND)
    assert len(num_graphs) == 1
    assert choose_backend(bundle_dir, device="cpu") == "onnx"  # on a CPU it is asked for by name


def test_too_much_drift_adds_nothing_and_opens_nothing(bundle_dir, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    run = compiled_backend.CompiledEncoder.embed_tensor_with_length

    def damaged(self, frames_NTHWC):
        unit_ND, length_N = run(self, frames_NTHWC)
        unit_ND = torch.nn.functional.normalize(unit_ND + 0.02 * torch.ones_like(unit_ND), dim=1)
        return unit_ND, length_N

    probe = synthetic_probe(read_card(bundle_dir).sampling, 6, with_queries=False)
    monkeypatch.setattr(compiled_backend.CompiledEncoder, "embed_tensor_with_length", damaged)
    with pytest.raises(DriftError, match="nothing was added: min_cosine_clips is"):
        add_compiled(bundle_dir, probe, "bf16")
    assert read_card(bundle_dir).engines == ()
    monkeypatch.setattr(compiled_backend.CompiledEncoder, "embed_tensor_with_length", run)
    record = add_compiled(bundle_dir, probe, "fp32")
    assert record.drift is not None
    card = read_card(bundle_dir)
    far = replace(record, drift=replace(record.drift, min_cosine_clips=0.9))
    write_card(bundle_dir, replace(card, engines=(far,)))
    with pytest.raises(DriftError, match=r"min_cosine_clips is 0\.900000"):
        open_backend(bundle_dir, "compiled")
    other = replace(record, target=replace(record.target, version="0.1"))
    write_card(bundle_dir, replace(card, engines=(other,)))
    with pytest.raises(BundleMismatchError, match=r"torch 0\.1 on cpu"):
        open_backend(bundle_dir, "compiled")


@pytest.mark.long
def test_the_kernels_of_the_cpu_give_the_vectors_of_torch(tmp_path):
    torch.compiler.reset()
    save_bundle(tmp_path / "bundle", video=build_video_encoder(CONFIGS["aim"]).eval())
    probe = synthetic_probe(read_card(tmp_path / "bundle").sampling, 6, with_queries=False)
    record = add_compiled(tmp_path / "bundle", probe, "bf16")
    assert record.reduced == "most"
