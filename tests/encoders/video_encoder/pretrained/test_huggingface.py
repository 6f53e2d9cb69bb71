"""What transformers has of CLIP comes over whole; a CLIP that computes something else is refused."""

import json

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

from benchmarks.fidelity.encoder import random_clip, random_frames
from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.config import CLIP_MEAN, CLIP_STD, AimConfig
from encoders.video_encoder.pretrained.aim_weights import load_weights
from encoders.video_encoder.pretrained.huggingface import read_clip_model

AIM = AimConfig(num_frames=4, image_size=32, patch_size=8, width=32, depth=3, num_heads=4)


def whole_clip(vision):
    """A CLIPModel with a text tower, as the folders of the published models hold."""
    text = CLIPTextConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision.config))
    whole.vision_model.load_state_dict(vision.state_dict())
    return whole


@pytest.mark.parametrize("is_whole_clip", [False, True])
def test_a_folder_gives_clip_per_frame_averaged(tmp_path, is_whole_clip):
    clip = random_clip(AIM)
    (whole_clip(clip) if is_whole_clip else clip).save_pretrained(tmp_path)
    encoder = AimEncoder(AIM).eval()
    load_weights(encoder, read_clip_model(tmp_path))
    frames = random_frames(AIM)
    pixels = (frames.flatten(0, 1).float() / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    with torch.no_grad():
        per_frame = clip(pixel_values=pixels.permute(0, 3, 1, 2)).pooler_output
        found = encoder.features(frames)
    expected = per_frame.unflatten(0, (2, 4)).mean(dim=1)
    assert expected.abs().max() > 0.5
    assert (found - expected).abs().max() < 1e-5


def test_the_rest_of_a_whole_clip_is_said_to_be_ignored():
    ignored = read_clip_model(whole_clip(random_clip(AIM))).ignored
    towerless = {name for name in ignored if not name.startswith("text_model.")}
    assert towerless == {"logit_scale", "text_projection.weight", "visual_projection.weight"}
    assert "text_model.encoder.layers.0.mlp.fc1.weight" in ignored


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hidden_act": "gelu"}, "quick_gelu"), ({"layer_norm_eps": 1e-6}, "1e-06")],
)
def test_a_clip_that_computes_something_else_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        read_clip_model(random_clip(AIM, **changes))


def test_a_folder_without_some_weights_is_refused_and_not_made_up(tmp_path):
    import safetensors.torch

    random_clip(AIM).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    lost = next(name for name in weights if name.endswith("layers.1.layer_norm1.bias"))
    del weights[lost]
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 tensors.*layers\.1\.layer_norm1\.bias"):
        read_clip_model(tmp_path)


def test_a_folder_that_does_not_fit_its_settings_or_is_another_model_is_refused(tmp_path):
    random_clip(AIM).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"hidden_size": 64}))
    with pytest.raises(ValueError, match=r"does not fit its own config\.json"):
        read_clip_model(tmp_path)
    path.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="'bert'"):
        read_clip_model(tmp_path)
