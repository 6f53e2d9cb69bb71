"""AdamW with and without weight decay, and a learning rate that depends on the step alone."""

import math

import torch
from torch import nn

from encoders.video_encoder.base import VideoEncoder
from training.configs import LoopConfig


def build_optimizer(module: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters. No weight decay for norms, biases and embeddings (class, position, time), unless all have it.

    A module may scale the learning rate of some parameters by `learning_rate_scales` (name prefix -> factor). The `no_weight_decay`
    of a video encoder in it, which follows the encoder's paper, replaces the default rule for the whole module.
    """
    encoders = (part for part in module.modules() if isinstance(part, VideoEncoder))
    no_weight_decay = next((encoder.no_weight_decay for encoder in encoders), None)
    scales: dict[str, float] = getattr(module, "learning_rate_scales", {})
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = next((s for prefix, s in scales.items() if name.startswith(prefix)), 1.0)
            is_decayed = config.decay == "all" or has_weight_decay(name, parameter, no_weight_decay)
            groups.setdefault((is_decayed, scale), []).append(parameter)
    # Fused: one pass over the weights instead of a dozen, which at the Combiner's 85 M weights takes most of a step's time.
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if is_decayed else 0.0,
                "scale": scale,
            }
            for (is_decayed, scale), parameters in sorted(groups.items(), key=lambda g: g[0])
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def has_weight_decay(
    name: str, parameter: nn.Parameter, no_weight_decay: tuple[str, ...] | None = None
) -> bool:
    """Whether a parameter gets weight decay: all but those whose name contains one of `no_weight_decay`.

    None = matrices and kernels decay; vectors (norms, biases) and anything called embedding or position do not.
    """
    if no_weight_decay is not None:
        return not any(part in name for part in no_weight_decay)
    last = name.rsplit(".", 2)[-2:]
    return parameter.ndim >= 2 and not any("embed" in part or "position" in part for part in last)


def epoch_factor(epoch: int, *, num_epochs: int) -> float:
    """Half a cosine that stands still during an epoch; `epoch` counts from 0."""
    return 0.5 * (1 + math.cos(math.pi * epoch / num_epochs))


def rate_factor(step: int, *, num_warmup_steps: int, num_steps: int) -> float:
    """Linear from 0 over the warm-up, then half a cosine to 0; `step` counts from 1."""
    if step <= num_warmup_steps:
        return step / num_warmup_steps
    done = (step - num_warmup_steps) / max(num_steps - num_warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of every group, times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]
