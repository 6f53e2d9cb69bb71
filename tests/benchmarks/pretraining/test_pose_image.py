"""Pretraining of the image part: deterministic, learns, writes what the package can load, knows its streams."""

import json

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.dives.rendering.pose import MIRROR_ORDER, MIRROR_SIGN, POSE_COLUMNS
from benchmarks.pretraining import frames as frames_module
from benchmarks.pretraining import pose_image as pretraining
from encoders.video_encoder import pose_image as pose_image_module
from encoders.video_encoder.config import POSE_PREPROCESSING, PoseImageConfig
from encoders.video_encoder.pose_image import load_pose_image

SMALL = PoseImageConfig(image_size=16, conv_widths=(8, 8), feature_dim=16)
QUIET = Console(quiet=True)


def config_of(tmp_path, **changes):
    values = {
        "name": "t",
        "out": tmp_path,
        "image": SMALL,
        "num_steps": 40,
        "batch_size": 32,
        "num_warmup_steps": 5,
        "num_threads": 1,
    }
    return pretraining.PretrainConfig(**{**values, **changes})


def bright_frames(num_frames=256):
    """Frames whose brightness is every pose number: easy to learn."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 256, num_frames)
    frames = np.broadcast_to(level[:, None, None, None], (num_frames, 16, 16, 3))
    pose = np.broadcast_to((level / 255 - 0.5)[:, None], (num_frames, len(POSE_COLUMNS)))
    pose = pose * (MIRROR_SIGN > 0)  # what changes sign in a mirror cannot be read from brightness
    return frames_module.PosedFrames(
        torch.from_numpy(frames.astype(np.uint8)), torch.from_numpy(pose.astype(np.float32))
    )


def test_learns_and_repeats_itself(tmp_path):
    config, frames = config_of(tmp_path, colour_jitter=0.0), bright_frames()
    torch.set_num_threads(1)
    image, losses = pretraining.train_image(config, frames, QUIET)
    again, losses_again = pretraining.train_image(config, frames, QUIET)
    assert losses == losses_again
    assert all(
        torch.equal(a, b)
        for a, b in zip(image.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert losses[-1] < losses[0] / 2


def test_a_run_writes_weights_that_load(tmp_path, monkeypatch):
    def fake_pool(pool, num_workers, console):
        return bright_frames(64)

    monkeypatch.setattr(pretraining, "render_pool", fake_pool)
    monkeypatch.setattr(pose_image_module, "WEIGHTS_FOLDER", tmp_path)
    config = config_of(tmp_path, num_steps=2)
    info = pretraining.pretrain(config, command="python -m x --name t", console=QUIET)
    image = load_pose_image("t")
    assert image.config == SMALL
    written = json.loads((tmp_path / "t.json").read_text())
    assert written["command"] == "python -m x --name t"
    assert written["pretraining"]["seed"] == 0
    assert written["held_out"] == info["held_out"]


def test_measure_is_one_for_the_truth_and_zero_for_its_mean():
    rng = np.random.default_rng(0)
    pose = torch.from_numpy(rng.normal(size=(40, len(POSE_COLUMNS))).astype(np.float32))
    frames = frames_module.PosedFrames(torch.arange(40)[:, None, None, None], pose)

    def poses_of(poses):
        return lambda part_BHWC: poses[part_BHWC[:, 0, 0, 0]]

    perfect = pretraining.measure(poses_of(pose), frames)
    assert set(perfect.values()) == {1.0}
    blind = pretraining.measure(poses_of(pose.mean(dim=0).expand(40, -1)), frames)
    assert blind["r2_joints"] == pytest.approx(0, abs=1e-3)


def test_rendered_clips_are_of_the_pretrain_stream_and_of_both_difficulties(monkeypatch):
    asked = []
    real = frames_module.render_clip

    def spy(label, **arguments):
        asked.append(arguments)
        return real(label, **{**arguments, "size": 32})

    monkeypatch.setattr(frames_module, "render_clip", spy)
    for index in (4, 5):
        frames, pose = frames_module.render_posed_clip(("103b", 7, index, 32, 16))
        assert frames.shape == (len(pose), 16, 16, 3)
        assert frames.dtype == np.uint8
        assert pose.shape[1] == len(POSE_COLUMNS)
    assert {a["split"] for a in asked} == {"pretrain"}
    assert {a["difficulty"] for a in asked} == {"open", "full"}
    assert {a["seed"] for a in asked} == {7}


def test_mirrored_poses_go_with_mirrored_frames(tmp_path):
    """A bright left half says x = -1; after mirroring, half of the batch must say +1 with a bright right half."""
    frames = torch.zeros(8, 16, 16, 3, dtype=torch.uint8)
    frames[:, :, :8] = 255
    pose = torch.ones(8, len(POSE_COLUMNS))
    pose[:, POSE_COLUMNS.index("chest_axis_x")] = -1
    config = config_of(tmp_path, colour_jitter=0.0, num_steps=1)
    pool = frames_module.PosedFrames(frames, pose)
    (batch,) = pretraining.pixel_batches(config, pool, POSE_PREPROCESSING)
    is_left_bright = batch.frames_BHWC[:, 0, 0, 0] > 0
    found = batch.pose_BP[:, POSE_COLUMNS.index("chest_axis_x")]
    assert torch.equal(found, torch.where(is_left_bright, -1.0, 1.0))
    assert 0 < is_left_bright.sum() < len(found)
    assert MIRROR_ORDER[POSE_COLUMNS.index("left_hand_x")] == POSE_COLUMNS.index("right_hand_x")


def test_pose_dim_must_be_the_renderers(tmp_path):
    with pytest.raises(ValueError, match="pose_dim is 3"):
        config_of(tmp_path, image=PoseImageConfig(image_size=16, conv_widths=(8,), pose_dim=3))


def test_counts_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="num_steps is 0"):
        config_of(tmp_path, num_steps=0)
    with pytest.raises(ValueError, match="learning_rate is nan"):
        config_of(tmp_path, learning_rate=float("nan"))
