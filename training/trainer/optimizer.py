"""How do weights move? AdamW in two groups, and a learning rate that is a function of the step alone."""

import math

import torch
from torch import nn

from encoders.video_encoder.base import VideoEncoder
from training.configs import LoopConfig


def build_optimizer(module: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """Trainable parameters only. No decay for norms, biases and embeddings (class, position, time).

    A module may scale the rate of some parameters: `learning_rate_scales`, prefix of the name -> factor. A video encoder in it
    may name what does not decay, as its paper does: then that decides, for the heads around it too.
    """
    encoders = (part for part in module.modules() if isinstance(part, VideoEncoder))
    undecayed = next((encoder.undecayed_names for encoder in encoders), None)
    scales: dict[str, float] = getattr(module, "learning_rate_scales", {})
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = next((s for prefix, s in scales.items() if name.startswith(prefix)), 1.0)
            with_decay = decays(name, parameter, undecayed)
            groups.setdefault((with_decay, scale), []).append(parameter)
    # One pass over the weights instead of a dozen: at the Combiner's 85 M, most of a step's time outside its products.
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if with_decay else 0.0,
                "scale": scale,
            }
            for (with_decay, scale), parameters in sorted(groups.items(), key=lambda g: g[0])
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def decays(name: str, parameter: nn.Parameter, undecayed: tuple[str, ...] | None = None) -> bool:
    """Whether a parameter gets weight decay: all but those with one of the given names.

    None = matrices and kernels decay; vectors (norms, biases) and anything called embedding or position do not.
    """
    if undecayed is not None:
        return not any(part in name for part in undecayed)
    last = name.rsplit(".", 2)[-2:]
    return parameter.ndim >= 2 and not any("embed" in part or "position" in part for part in last)


def rate_factor(step: int, *, num_warmup_steps: int, num_steps: int) -> float:
    """Linear from 0 over the warm-up, then half a cosine to 0; `step` counts from 1."""
    if step <= num_warmup_steps:
        return step / num_warmup_steps
    done = (step - num_warmup_steps) / max(num_steps - num_warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """For every group, times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]
