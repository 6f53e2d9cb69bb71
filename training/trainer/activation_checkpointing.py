"""Which activations are not kept for the gradients? Those inside transformer blocks: each block runs again on the way back.

The module, its state dict and its numbers stay the same; stochastic depth draws the same chances again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.base import VideoEncoder


def recompute_blocks(encoder: VideoEncoder) -> None:
    """In place; ValueError for an encoder without a stack of blocks to recompute."""
    if not isinstance(encoder, AimEncoder):
        raise ValueError(
            f"recompute_activations is for AIM; a {encoder.config.kind!r} encoder keeps little"
        )
    for block in encoder.transformer.resblocks:
        _recompute(block)


def _recompute(block: nn.Module) -> None:
    forward: Any = partial(_forward_twice, block.forward)
    block.forward = forward


def _forward_twice(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(x)
    found: Any = checkpoint(forward, x, use_reentrant=False)
    return found
