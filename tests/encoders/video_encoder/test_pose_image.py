"""The image part: what it refuses, and that shipped weights are checked before they are used."""

import dataclasses
import hashlib
import json

import pytest
import safetensors.torch
import torch

from encoders.video_encoder import pose_image
from encoders.video_encoder.config import PoseImageConfig
from encoders.video_encoder.pose_image import PoseImage, load_pose_image

SMALL = PoseImageConfig(image_size=16, conv_widths=(4, 6), feature_dim=7, pose_dim=3)


def ship(folder, image):
    data = safetensors.torch.save(image.state_dict())
    (folder / "small.safetensors").write_bytes(data)
    info = {"config": dataclasses.asdict(image.config), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "small.json").write_text(json.dumps(info))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pose_image, "WEIGHTS_FOLDER", tmp_path)
    return tmp_path


def test_loads_what_was_shipped(folder):
    torch.manual_seed(0)
    image = PoseImage(SMALL).eval()
    ship(folder, image)
    frames = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    assert torch.equal(load_pose_image("small")(frames), image(frames))


def test_refuses_weights_that_the_json_does_not_describe(folder):
    ship(folder, PoseImage(SMALL))
    path = folder / "small.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="changed or is truncated"):
        load_pose_image("small")


def test_unknown_name_says_which_there_are(folder):
    ship(folder, PoseImage(SMALL))
    with pytest.raises(ValueError, match=r"no pretrained image part 'large'.*\['small'\]"):
        load_pose_image("large")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 18}, "image_size is 18"),
        ({"conv_widths": ()}, "conv_widths"),
        ({"feature_dim": 0}, "feature_dim is 0"),
    ],
)
def test_config_names_the_wrong_value(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)
