import pytest
import torch

from benchmarks.gpu.training import Stage2Size, describe_training, train_stage1, train_stage2
from encoders.video_encoder.config import PRESETS, AimConfig, FrameTemporalConfig, PoseImageConfig

CPU = torch.device("cpu")
TINY = {
    "aim": AimConfig(
        num_frames=3, image_size=16, patch_size=8, width=32, depth=1, num_heads=2, drop_path=0.0
    ),
    "frame_temporal": FrameTemporalConfig(
        num_frames=3,
        image=PoseImageConfig(image_size=16, conv_widths=(8, 8), feature_dim=16, pose_dim=4),
        embedding_dim=16,
        depth=1,
        dropout=0.0,
    ),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["aim", "frame_temporal"])
def test_stage_1_learns_in_bf16(monkeypatch, kind: str) -> None:
    monkeypatch.setitem(PRESETS, "tiny_for_test", TINY[kind])
    found = train_stage1(
        CPU,
        preset="tiny_for_test",
        num_clips=16,
        batch_size=4,
        num_epochs=12,
        learning_rate=5e-3,
        matmul_size=64,
    )
    assert found.metrics["num_steps"] == 48
    assert found.metrics["clips_per_s"].n == 11
    assert found.problems == []


def test_stage_2_learns_in_bf16() -> None:
    size = Stage2Size(
        num_queries=256,
        batch_size=32,
        num_epochs=4,
        video_dim=16,
        text_dim=16,
        projection_dim=32,
        hidden_dim=32,
        num_labels=8,
        learning_rate=5e-3,
    )
    found = train_stage2(CPU, size)
    assert found.metrics["num_steps"] == 32
    assert found.problems == []


def test_a_loss_that_stays_is_a_problem() -> None:
    found = describe_training(
        [1.4] * 16, [1.0, 2.0, 4.0], clips_per_epoch=8, config={}, excluded=[]
    )
    assert found.metrics["clips_per_s"].median == 3.0
    assert "must fall" in found.problems[0]
    found = describe_training(
        [float("nan")] * 16, [1.0, 2.0], clips_per_epoch=8, config={}, excluded=[]
    )
    assert found.problems
