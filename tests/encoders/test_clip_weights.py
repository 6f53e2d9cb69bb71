"""A new AIM encoder with CLIP's weights is CLIP, frame by frame."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from encoders.aim import AimConfig, AimEncoder
from encoders.clip_weights import load_clip_weights
from encoders.preprocessing import CLIP_MEAN, CLIP_STD

AIM = AimConfig(num_frames=4, image_size=32, patch_size=8, width=32, depth=3, num_heads=4)


def tiny_clip(**changes):
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
        "initializer_factor": 5.0,
        "initializer_range": 0.2,
    }
    clip = CLIPVisionModel(CLIPVisionConfig(**(shape | changes))).eval()
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return clip


@pytest.mark.parametrize("from_folder", [False, True])
def test_a_new_encoder_equals_clip_per_frame_averaged(tmp_path, from_folder):
    clip = tiny_clip()
    encoder = AimEncoder(AIM).eval()
    if from_folder:
        clip.save_pretrained(tmp_path)
    load_clip_weights(encoder, tmp_path if from_folder else clip)
    frames = torch.randint(256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    pixels = (frames.flatten(0, 1).float() / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    with torch.no_grad():
        per_frame = clip(pixel_values=pixels.permute(0, 3, 1, 2)).pooler_output
        found = encoder.features(frames)
    expected = per_frame.unflatten(0, (2, 4)).mean(dim=1)
    assert expected.abs().max() > 0.5
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 2}, "2 layers"),
        ({"num_attention_heads": 2}, "2 heads"),
        ({"image_size": 64}, "positional_embedding"),
        ({"hidden_act": "gelu"}, "quick_gelu"),
    ],
)
def test_a_clip_of_another_shape_is_refused_and_nothing_is_copied(changes, message):
    encoder = AimEncoder(AIM)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_clip_weights(encoder, tiny_clip(**changes))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
