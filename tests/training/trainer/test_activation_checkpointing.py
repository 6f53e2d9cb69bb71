"""Recomputed blocks give the numbers of kept ones, dropped branches included, and keep less."""

import pytest
import torch

from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.config import AimConfig, FrameTemporalConfig
from encoders.video_encoder.frame_temporal import FrameTemporalEncoder
from training.trainer.activation_checkpointing import checkpoint_blocks

SHAPE = AimConfig(
    num_frames=3, image_size=32, patch_size=8, width=16, depth=3, num_heads=2, drop_path=0.5
)


def train_step(*, recompute):
    """Loss, gradients, and how many numbers the graph kept."""
    torch.manual_seed(0)
    encoder = AimEncoder(SHAPE)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    encoder.freeze_pretrained()
    if recompute:
        checkpoint_blocks(encoder)
    frames = torch.randint(0, 256, (4, 3, 32, 32, 3), dtype=torch.uint8)
    kept = 0

    def keep(tensor):
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = encoder.features(frames).square().sum()
    loss.backward()
    gradients = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    return encoder, loss, gradients, kept


def test_numbers_and_names_stay_and_memory_shrinks():
    plain, loss, gradients, kept = train_step(recompute=False)
    other, loss_again, gradients_again, kept_again = train_step(recompute=True)
    assert torch.equal(loss, loss_again)
    assert gradients.keys() == gradients_again.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_again[name], gradient)
    assert kept_again < kept / 3
    assert plain.state_dict().keys() == other.state_dict().keys()
    with torch.inference_mode():
        frames = torch.zeros(1, 3, 32, 32, 3, dtype=torch.uint8)
        torch.testing.assert_close(other.eval()(frames), plain.eval()(frames))


def test_an_encoder_without_blocks_to_recompute_is_refused():
    shape = FrameTemporalConfig(num_frames=4, embedding_dim=32, depth=1)
    with pytest.raises(ValueError, match="recompute_activations is for AIM"):
        checkpoint_blocks(FrameTemporalEncoder(shape))
