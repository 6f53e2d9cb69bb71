import math

import pytest
import torch
from torch import nn

from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.registry import build_video_encoder
from training.configs import LoopConfig
from training.trainer.optimizer import build_optimizer, rate_factor, set_learning_rate

CONFIG = LoopConfig(num_epochs=1, batch_size=1, learning_rate=0.5, weight_decay=0.1)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.learning_rate_scales = {"text.": 0.1}
        self.text = nn.Linear(3, 3)
        self.head = nn.Linear(3, 3)
        self.positions = nn.Parameter(torch.zeros(4, 3))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_every_trainable_parameter_is_in_one_group_with_its_decay_and_scale() -> None:
    model = Model()
    optimizer = build_optimizer(model, CONFIG)
    groups = {
        id(parameter): (group["weight_decay"], group["scale"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert groups == {
        id(model.text.weight): (0.1, 0.1),
        id(model.text.bias): (0.0, 0.1),
        id(model.head.weight): (0.1, 1.0),
        id(model.head.bias): (0.0, 1.0),
        id(model.positions): (0.0, 1.0),
    }
    set_learning_rate(optimizer, 2.0)
    assert {group["lr"] for group in optimizer.param_groups} == {2.0, 0.2}


def test_aim_decays_all_but_norms_and_the_class_and_position_embeddings() -> None:
    """As in AIM's recipes, whose settings name just these parts: biases, the head and the temporal embedding decay."""
    config = AimConfig(num_frames=2, image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
    classifier = nn.ModuleDict({"encoder": build_video_encoder(config), "head": nn.Linear(16, 3)})
    spared = {
        name
        for name, parameter in classifier.named_parameters()
        for group in build_optimizer(classifier, CONFIG).param_groups
        if group["weight_decay"] == 0 and any(p is parameter for p in group["params"])
    }
    norms = ["ln_pre", "ln_post", "transformer.resblocks.0.ln_1", "transformer.resblocks.0.ln_2"]
    assert spared == {
        "encoder.class_embedding",
        "encoder.positional_embedding",
        *(f"encoder.{norm}.{part}" for norm in norms for part in ("weight", "bias")),
    }


def test_the_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    rates = [rate_factor(s, num_warmup_steps=4, num_steps=24) for s in range(1, 25)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[13] == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
    assert rates[-1] == pytest.approx(0.0)
    assert rates[3:] == sorted(rates[3:], reverse=True)
