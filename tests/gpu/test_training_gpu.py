"""Both stages take steps on a GPU in bf16, on frames and vectors made in memory; no Ray, no av, no files but checkpoints."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from encoders.clips import Clip
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.video_encoder.config import AimConfig
from training.annotations.triplets.table import Triplet
from training.configs import LoopConfig, Stage1Config, Stage2Config
from training.stage1.task import Stage1Task, build_classifier
from training.stage2.composer import QueryComposer
from training.stage2.task import Stage2Task
from training.stage2.text_table import TextTable
from training.trainer.checkpoint import read_metrics
from training.trainer.loop import World, fit

LOOP = LoopConfig(
    num_epochs=6, batch_size=8, learning_rate=3e-3, weight_decay=0.0, precision="bf16", log_every=1
)
LABELS = ["a", "b"]


class MemoryClips:
    """Class b is the brighter one."""

    def __init__(self, config: AimConfig) -> None:
        rng = np.random.default_rng(0)
        self.clips = [Clip(clip_id=f"{n}", video_uri="m", label=LABELS[n % 2]) for n in range(32)]
        shape = (32, config.num_frames, config.image_size, config.image_size, 3)
        bright = 100 * (np.arange(32) % 2)[:, None, None, None, None]
        self.frames = (rng.integers(0, 100, shape) + bright).astype(np.uint8)

    def load(self, numbers, epoch):
        del epoch
        return {
            "frames": torch.from_numpy(self.frames[numbers]),
            "weights": torch.ones(len(numbers)),
        }


def stage1_losses(run_dir, device: str, precision: str) -> list[float]:
    aim = AimConfig(
        num_frames=2,
        image_size=32,
        patch_size=16,
        width=64,
        depth=2,
        num_heads=2,
        drop_path=0.0,  # a GPU draws other random numbers
    )
    config = Stage1Config(encoder=aim, loop=replace(LOOP, precision=precision))
    classes = {"label": LABELS}
    clips = MemoryClips(aim)
    module = build_classifier(config, classes).to(device)
    task = Stage1Task(module, {"train": clips, "val": clips}, classes, config, run_dir)
    fit(task, config.loop, run_dir, world=World(device=device))
    return [line["loss"] for line in read_metrics(run_dir) if "loss" in line]


def stage2_losses(run_dir, device: str, precision: str) -> list[float]:
    config = Stage2Config(
        loop=replace(LOOP, precision=precision),
        projection_dim=32,
        hidden_dim=32,
        dropout=0.0,
        mask_same_label=True,
    )
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(16, 8)).astype(np.float32)
    vectors = {f"{n:02d}": row / np.linalg.norm(row) for n, row in enumerate(rows)}
    triplets = [
        Triplet(
            query_id=f"{n}",
            query_clip_id=f"{n:02d}",
            edit_text=f"{n % 4}",
            target_clip_ids=(f"{(n + 1 + n % 4) % 16:02d}",),
            target_label=f"{n % 5}",
        )
        for n in range(16)
    ]
    texts = TextTable(
        number_by_text={f"{n}": n for n in range(4)},
        vectors_UD=torch.eye(4),
        tokens_UL=torch.zeros(4, 1, dtype=torch.int64),
        mask_UL=torch.ones(4, 1, dtype=torch.int64),
    )
    torch.manual_seed(0)
    fusion = build_fusion(
        FusionConfig(
            kind="combiner",
            video_dim=8,
            text_dim=4,
            projection_dim=32,
            hidden_dim=32,
            dropout=0.0,  # a GPU draws other random numbers
        )
    )
    module = QueryComposer(fusion, None, config).to(device)
    task = Stage2Task(module, {"train": triplets, "val": triplets}, vectors, texts, config)
    fit(task, config.loop, run_dir, world=World(device=device))
    return [line["loss"] for line in read_metrics(run_dir) if "loss" in line]


@pytest.mark.needs_gpu
@pytest.mark.parametrize("run_stage", [stage1_losses, stage2_losses])
def test_a_stage_learns_in_bf16_on_a_gpu(run_stage, tmp_path) -> None:
    losses = run_stage(tmp_path / "gpu", "cuda", "bf16")
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    reference = run_stage(tmp_path / "cpu", "cpu", "fp32")
    # The first step sees the same weights and examples; bf16 keeps 8 bits of them.
    assert losses[0] == pytest.approx(reference[0], rel=0.1)
