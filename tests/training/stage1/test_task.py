from dataclasses import replace

import pytest
import torch

from encoders.video_encoder.config import AimConfig
from training.losses import LOSSES, Loss
from training.recipes import demo_actions
from training.stage1.task import build_classifier

ENCODER = AimConfig(num_frames=2, image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
CLASSES = {"label": ["103b", "105b", "107b"], "twists": ["0", "1"]}


def test_a_loss_is_added_by_name_alone(monkeypatch) -> None:
    """From outside: a function and its name; the label's head and every attribute's head use it."""

    def focal(logits_NK, labels_N, weights_N, config):
        share_N = logits_NK.softmax(1).gather(1, labels_N[:, None])[:, 0]
        loss_N = -((1 - share_N) ** config.loss_options["gamma"]) * share_N.log()
        return (loss_N * weights_N).sum() / weights_N.sum()

    monkeypatch.setitem(LOSSES, "focal", Loss(stage=1, compute=focal))
    config = replace(
        demo_actions(),
        encoder=ENCODER,
        pretrained_image=None,
        attributes=("twists",),
        loss="focal",
        loss_options={"gamma": 2.0},
    )
    torch.manual_seed(0)
    module = build_classifier(config, CLASSES).eval()
    batch = {
        "frames": torch.randint(0, 256, (4, 2, 16, 16, 3), dtype=torch.uint8),
        "label": torch.tensor([0, 2, 1, 0]),
        "twists": torch.tensor([1, 0, 0, 1]),
        "weights": torch.tensor([1.0, 1.0, 0.0, 1.0]),
    }
    values = module(batch)
    features_ND = module.features(batch)
    expected = focal(module.head(features_ND), batch["label"], batch["weights"], config)
    expected += config.attribute_weight * focal(
        module.attribute_heads["twists"](features_ND), batch["twists"], batch["weights"], config
    )
    assert values["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    values["loss"].backward()
    assert module.head.weight.grad is not None
