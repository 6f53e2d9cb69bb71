"""Building by config, the card's round trip, and which weights decay."""

import json
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from encoders.video_encoder.config import PRESETS, video_config_from_dict, video_config_to_dict
from encoders.video_encoder.registry import build_video_encoder


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_the_card(name):
    config = PRESETS[name]
    assert video_config_from_dict(json.loads(json.dumps(video_config_to_dict(config)))) == config


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"aim_vit_b16", "aim_vit_l14"}))
def test_small_presets_build_what_they_say(name):
    config = PRESETS[name]
    encoder = build_video_encoder(config).eval()
    shape = (2, config.num_frames, config.image_size, config.image_size, 3)
    with torch.no_grad():
        vectors = encoder(torch.randint(256, shape, dtype=torch.uint8))
    assert vectors.shape == (2, config.embedding_dim)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    assert len(encoder.preprocessing.mean) == 3


def test_the_full_size_preset_has_the_parameters_of_clip_vit_b16_and_aims_adapters():
    with torch.device("meta"):
        encoder = build_video_encoder(PRESETS["aim_vit_b16"])
    encoder.freeze_pretrained()
    learned = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in encoder.parameters() if not p.requires_grad)
    clip_visual_with_projection = 86_192_640
    assert frozen == clip_visual_with_projection - 768 * 512
    adapter = 768 * 192 + 192 + 192 * 768 + 768
    assert learned == 12 * 3 * adapter + 12 * 768


def test_unknown_keys_and_kinds_are_refused():
    values = video_config_to_dict(PRESETS["aim_small"])
    with pytest.raises(ValueError, match="'detph'"):
        video_config_from_dict(values | {"detph": 3})
    with pytest.raises(ValueError, match=r"kind 'video_mamba'; it must be one of 'aim'"):
        video_config_from_dict(values | {"kind": "video_mamba"})
    with pytest.raises(ValueError, match="width"):
        video_config_from_dict({name: value for name, value in values.items() if name != "width"})


def test_options_that_came_later_are_in_the_card_only_where_they_are_used():
    """A card written before they existed describes the same encoder and so has the same encoder id."""
    config = PRESETS["aim_small"]
    values = video_config_to_dict(config)
    assert "temporal_pooling" not in values
    assert "num_time_adapters" not in values
    changed = replace(config, temporal_pooling="attention", num_time_adapters=2)
    values = json.loads(json.dumps(video_config_to_dict(changed)))
    assert (values["temporal_pooling"], values["num_time_adapters"]) == ("attention", 2)
    assert video_config_from_dict(values) == changed


class _HostWork(TorchFunctionMode):
    """Calls that make a tensor of numbers of the host, or that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.item):
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["aim_small", "frame_temporal_small"])
def test_an_encoder_needs_nothing_of_the_host_while_it_runs(name):
    """On a GPU each would be a copy that the host waits for, and none can be in a CUDA graph."""
    config = PRESETS[name]
    with torch.device("meta"):
        encoder = build_video_encoder(config).eval()
        shape = (2, config.num_frames, config.image_size, config.image_size, 3)
        frames_NTHWC = torch.empty(shape, dtype=torch.uint8)
    with torch.no_grad(), _HostWork() as host:
        vectors_ND = encoder(frames_NTHWC)
        assert (vectors_ND.device.type, host.seen) == ("meta", [])
        torch.tensor([0.5], device="meta")
        assert host.seen == ["tensor"]
