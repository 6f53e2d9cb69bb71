"""Activation checkpointing of transformer blocks: each block runs a second time in the backward pass.

The module, its state dict and its outputs stay the same; stochastic depth repeats the same random draws.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.base import VideoEncoder


def checkpoint_blocks(encoder: VideoEncoder) -> None:
    """Change the encoder in place; ValueError for one without a stack of transformer blocks."""
    if not isinstance(encoder, AimEncoder):
        raise ValueError(
            f"recompute_activations is for AIM; a {encoder.config.kind!r} encoder stores few activations"
        )
    for block in encoder.transformer.resblocks:
        _checkpoint_block(block)


def _checkpoint_block(block: nn.Module) -> None:
    forward: Any = partial(_forward_twice, block.forward)
    block.forward = forward


def _forward_twice(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(x)
    output: Any = checkpoint(forward, x, use_reentrant=False)
    return output
