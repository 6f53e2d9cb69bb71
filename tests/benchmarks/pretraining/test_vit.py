"""Pretraining of AIM's image transformer: learns pose and teacher, goes on after a stop, and AIM starts from the folder as from CLIP."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import CLIPVisionModel

from benchmarks.dives.rendering.pose import MIRROR_SIGN, POSE_COLUMNS
from benchmarks.pretraining import frames as frames_module
from benchmarks.pretraining import teacher, vit
from benchmarks.pretraining.frames import PosedFrames, PosedPool, cached_pool
from encoders.video_encoder.base import normalize_pixels
from encoders.video_encoder.config import AIM_PRESETS, POSE_PREPROCESSING, PoseImageConfig
from encoders.video_encoder.pose_image import PoseImage
from training.recipes import RECIPES
from training.stage1.task import build_encoder

SMALL = replace(
    AIM_PRESETS["aim_small"], image_size=16, patch_size=8, width=16, depth=2, num_heads=2, num_frames=3
)  # fmt: skip
QUIET = Console(quiet=True)


def bright_frames():
    """Frames whose brightness is every pose number that a mirror keeps; the left half is darker."""
    level = np.random.default_rng(0).integers(0, 256, 128)
    frames = np.broadcast_to(level[:, None, None, None], (128, 16, 16, 3)).astype(np.uint8)
    frames[:, :, :8] //= 2
    pose = (level / 255 - 0.5)[:, None] * (MIRROR_SIGN > 0)
    assert pose.shape[1] == len(POSE_COLUMNS)
    return PosedFrames(torch.from_numpy(frames), torch.from_numpy(pose.astype(np.float32)))


@pytest.fixture
def image(monkeypatch):
    torch.manual_seed(1)
    image = PoseImage(PoseImageConfig(image_size=16, conv_widths=(4, 8, 8), feature_dim=6)).eval()
    monkeypatch.setattr(teacher, "load_pose_image", lambda _name: image)
    monkeypatch.setitem(AIM_PRESETS, "small", SMALL)
    return image


def config_of(tmp_path, **changes):
    values = {"name": "vit", "out": tmp_path, "preset": "small", "num_steps": 101, "batch_size": 32}
    values |= {"num_warmup_steps": 5, "colour_jitter": 0.0, "snapshot_every": 50}
    return vit.VitPretrainConfig(**{**values, **changes})


def pretraining(config):
    pools = (bright_frames(), bright_frames())
    return vit.Pretraining(config, pools)


def test_it_learns_and_aim_starts_from_it_as_from_clip(image, tmp_path, monkeypatch):
    monkeypatch.setattr(vit, "read_pools", lambda *_: (bright_frames(), bright_frames()))
    vit.pretrain(config_of(tmp_path), command="python -m x", console=QUIET)
    folder = tmp_path / "vit"
    info = json.loads((folder / "pretraining.json").read_text())
    first, last = info["losses_every_100_steps"][0], info["losses_every_100_steps"][-1]
    assert all(after < 0.8 * before for before, after in zip(first, last, strict=True)), (
        first,
        last,
    )
    assert [one["step"] for one in info["snapshots"]] == [50, 100, 101]
    assert info["held_out"]["num_frames"] == 128

    recipe = replace(RECIPES["aim_vit_b16_finegd"](), encoder=SMALL, pretrained_image=str(folder))
    aim = build_encoder(recipe).eval()
    frames = torch.randint(256, (2, 3, 16, 16, 3), dtype=torch.uint8)
    clip = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32).eval()
    pixels_BCHW = normalize_pixels(frames, aim.preprocessing, torch.float32)
    with torch.inference_mode():
        each_frame = clip(pixel_values=pixels_BCHW).pooler_output.unflatten(0, (2, 3))
        torch.testing.assert_close(aim.features(frames), each_frame.mean(dim=1), atol=1e-5, rtol=0)


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(image, tmp_path, monkeypatch):
    config = config_of(tmp_path / "whole", num_steps=12, snapshot_every=100)
    whole = pretraining(config)
    whole.run(QUIET)

    real = vit.Pretraining._train_step

    def stop_at_7(self, step):
        if step == 7:
            raise KeyboardInterrupt
        return real(self, step)

    parts = replace(config, out=tmp_path / "parts", save_every_s=0.0)
    monkeypatch.setattr(vit.Pretraining, "_train_step", stop_at_7)
    with pytest.raises(KeyboardInterrupt):
        pretraining(parts).run(QUIET)
    monkeypatch.setattr(vit.Pretraining, "_train_step", real)
    again = pretraining(parts)
    assert again.progress.step == 7
    again.run(QUIET)
    assert again.progress.losses == whole.progress.losses
    own, others = again.module.state_dict(), whole.module.state_dict()
    assert all(torch.equal(own[name], others[name]) for name in own)

    with pytest.raises(ValueError, match=r"checkpoint\.pt is of another pretraining"):
        pretraining(replace(parts, learning_rate=1.0))
    with pytest.raises(ValueError, match=r"num_steps is 40; .* is at step 12 of 12"):
        pretraining(replace(parts, num_steps=40))


def test_a_checkpoint_before_the_fall_goes_on_to_another_number_of_steps(image, tmp_path):
    config = config_of(tmp_path, num_steps=20, save_every_s=0.0)
    run = pretraining(config)
    assert [config.rate(step) for step in (0, 5, 15, 16, 18)] == pytest.approx([0.2, 1, 1, 1, 0.5])
    run.progress.step = 3
    run._save()
    assert pretraining(replace(config, num_steps=5)).progress.step == 3


def test_targets_are_the_teachers_of_the_frame_and_of_its_mirror(image):
    frames = bright_frames()
    targets = teacher.distillation_targets("any", frames, num_patches=2)
    assert targets.features_2BF.shape == (2, 128, 6)
    assert targets.maps_2BLM.shape == (2, 128, 4, 8)
    mirrored = PosedFrames(frames.frames_BHWC.flip(2), frames.pose_BP)
    swapped = teacher.distillation_targets("any", mirrored, num_patches=2)
    chosen = torch.arange(128)
    plain_BF, plain_BLM = targets.chosen(torch.zeros(128, dtype=torch.bool), chosen)
    other_BF, other_BLM = swapped.chosen(torch.ones(128, dtype=torch.bool), chosen)
    torch.testing.assert_close(plain_BF, other_BF, atol=0.02, rtol=0)
    torch.testing.assert_close(plain_BLM, other_BLM, atol=0.02, rtol=0)
    with torch.no_grad():
        pixels = normalize_pixels(frames.frames_BHWC[None], POSE_PREPROCESSING, torch.float32)
        expected_B = image.convs(pixels)[:, 0, 1, 1]  # patch 3, channel 0
    found_B = plain_BLM[:, 3, 0]
    assert np.corrcoef(expected_B.numpy(), found_B.numpy())[0, 1] > 0.99
    small = PosedFrames(frames.frames_BHWC[:, :8, :8], frames.pose_BP)
    with pytest.raises(ValueError, match="takes frames of 16 pixels, not of 8"):
        teacher.distillation_targets("any", small, num_patches=2)


def test_a_channel_that_is_nearly_always_0_does_not_rule_the_loss():
    values = torch.zeros(2, 1000, 1, 3, dtype=torch.float16)
    values[..., :2] = torch.randn(2, 1000, 1, 2).half()
    values[0, 5, 0, 2] = 0.01
    assert teacher._standardized(values)[..., 2].abs().max() < 1


def test_a_pool_is_rendered_once(tmp_path, monkeypatch):
    rendered = []

    def render(pool, _num_workers, _console):
        rendered.append(pool)
        return bright_frames()

    monkeypatch.setattr(frames_module, "render_pool", render)
    pool = PosedPool(num_clips=2, first_index=0, seed=0, render_size=32, image_size=16)
    for wanted in (pool, pool, replace(pool, seed=1)):
        frames = cached_pool(tmp_path / "pool.safetensors", wanted, 1, QUIET)
        assert torch.equal(frames.frames_BHWC, bright_frames().frames_BHWC)
    assert rendered == [pool, replace(pool, seed=1)]


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="preset is 'vit'; choose one of"):
        config_of(tmp_path, preset="vit")
    with pytest.raises(ValueError, match="snapshot_every is 0"):
        config_of(tmp_path, preset="aim_tiny", snapshot_every=0)
