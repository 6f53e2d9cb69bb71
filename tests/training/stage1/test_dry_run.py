"""The counted arithmetic against a count by hand, and projections that follow from it."""

from dataclasses import replace

import pytest
import torch

from encoders.video_encoder.config import AimConfig
from training.configs import GpuEstimate, LoopConfig, Stage1Config
from training.recipes import RECIPES
from training.stage1.dry_run import describe, dry_run

SHAPE = AimConfig(num_frames=2, image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
CONFIG = Stage1Config(
    encoder=SHAPE,
    loop=LoopConfig(num_epochs=1, batch_size=8, learning_rate=1e-3, weight_decay=0.0),
    pretrained_image="some/clip",
)


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the measured rate is projected")
def test_an_epoch_follows_from_the_counted_work():
    estimate = GpuEstimate(num_gpus=(1, 4), tflop_per_s=2.0, share=0.5)
    result = dry_run(CONFIG, num_clips=1000, num_classes=3, num_workers=2, estimate=estimate)
    assert (result.clips_per_step, result.clips_per_part, result.clips_measured) == (4, 4, 2)
    assert result.epoch_s[1] == pytest.approx(1000 * result.flop_per_clip / 1e12)
    assert result.epoch_s[4] == pytest.approx(result.epoch_s[1] / 4)
    assert result.step_s > 0
    assert result.peak_gib > 0
    # Forward: 2 frames of 5 tokens, width 16, adapters 4 wide; attention runs twice. Backward is less than twice that.
    tokens, width = 2 * 5, 16
    patches = 2 * 2 * 4 * width * 3 * 64
    attention = 2 * (2 * tokens * width * 4 * width)
    mlp, adapters = 2 * tokens * width * 8 * width, 3 * 2 * tokens * width * 8
    forward = patches + attention + mlp + adapters + 2 * width * 3
    assert forward < result.flop_per_clip < 3.2 * forward
    text = describe(result)
    assert "assumed, not measured" in text
    assert "4 GPUs" in text
    assert result.num_trainable < 0.6 * result.num_parameters


def test_parts_make_the_measured_batch_smaller():
    config = replace(CONFIG, loop=replace(CONFIG.loop, num_accumulation_steps=4))
    result = dry_run(config, num_clips=10, num_classes=3, num_workers=0, estimate=GpuEstimate())
    assert (result.clips_per_step, result.clips_per_part) == (8, 2)


def test_kept_frame_vectors_have_no_dry_run():
    recipe = RECIPES["demo_actions_tiny"]()
    with pytest.raises(ValueError, match="frame vectors"):
        dry_run(recipe, num_clips=1, num_classes=2, num_workers=1, estimate=GpuEstimate())
