"""Pretraining of AIM's image transformer: learns poses, and AIM starts from the folder as from CLIP."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import CLIPVisionModel

from benchmarks.dives.rendering.pose import MIRROR_SIGN, POSE_COLUMNS
from benchmarks.pretraining import pose_image, vit
from benchmarks.pretraining.frames import PosedFrames
from encoders.video_encoder.config import AIM_PRESETS, PoseImageConfig
from training.recipes import RECIPES
from training.stage1.task import build_encoder

SMALL = replace(
    AIM_PRESETS["aim_small"], image_size=16, patch_size=8, width=16, depth=2, num_heads=2, num_frames=3
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    def bright_frames(_pool, _num_workers, _console):
        """Frames whose brightness is every pose number that a mirror keeps."""
        level = np.random.default_rng(0).integers(0, 256, 128)
        frames = np.broadcast_to(level[:, None, None, None], (128, 16, 16, 3)).astype(np.uint8)
        pose = (level / 255 - 0.5)[:, None] * (MIRROR_SIGN > 0)
        assert pose.shape[1] == len(POSE_COLUMNS)
        return PosedFrames(torch.from_numpy(frames), torch.from_numpy(pose.astype(np.float32)))

    monkeypatch.setattr(pose_image, "render_pool", bright_frames)
    monkeypatch.setitem(AIM_PRESETS, "small", SMALL)
    config = pose_image.PretrainConfig(
        name="vit",
        out=tmp_path,
        image=PoseImageConfig(image_size=16, conv_widths=(8,)),
        num_steps=101,
        batch_size=32,
        num_warmup_steps=5,
        colour_jitter=0.0,
        num_threads=1,
    )
    vit.pretrain("small", config, command="python -m x", console=Console(quiet=True))
    return tmp_path / "vit"


def test_it_learns_and_aim_starts_from_it_as_from_clip(folder):
    info = json.loads((folder / "pretraining.json").read_text())
    assert info["losses_every_100_steps"][-1] < info["losses_every_100_steps"][0] / 2

    recipe = replace(RECIPES["aim_vit_b16_finegd"](), encoder=SMALL, pretrained_image=str(folder))
    aim = build_encoder(recipe).eval()
    frames = torch.randint(256, (2, 3, 16, 16, 3), dtype=torch.uint8)
    module = vit.PosedTransformer(SMALL)
    module.vision = CLIPVisionModel.from_pretrained(folder)
    module.pose = torch.nn.Identity()
    with torch.inference_mode():
        each_frame = module.eval()(frames.flatten(0, 1)).unflatten(0, (2, 3))
        torch.testing.assert_close(aim.features(frames), each_frame.mean(dim=1), atol=1e-5, rtol=0)
