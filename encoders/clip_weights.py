"""How do CLIP's image weights get into an AIM encoder? From a transformers CLIP vision model, or a name or folder of one."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoders.aim import AimEncoder

_TOP_NAMES = {
    "conv1.weight": "embeddings.patch_embedding.weight",
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",  # transformers spells it so
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_LAYER_NAMES = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def load_clip_weights(encoder: AimEncoder, clip: nn.Module | str | Path) -> None:
    """Copy CLIP's image transformer into the encoder; adapters and temporal embedding stay as they are.

    `clip` is a transformers CLIPVisionModel (or a CLIPModel), or a name or folder that one loads from.
    """
    model: Any = _open_clip(clip) if isinstance(clip, (str, Path)) else clip
    config = getattr(model.config, "vision_config", model.config)
    if config.hidden_act != "quick_gelu" or config.layer_norm_eps != 1e-5:
        raise ValueError(
            f"the CLIP model has hidden_act {config.hidden_act!r} and layer_norm_eps {config.layer_norm_eps}; "
            "AIM takes 'quick_gelu' and 1e-05"
        )
    if config.num_attention_heads != encoder.config.num_heads:
        raise ValueError(
            f"the CLIP model has {config.num_attention_heads} heads; this encoder has {encoder.config.num_heads}"
        )
    found = {
        name.removeprefix("vision_model."): value for name, value in model.state_dict().items()
    }
    weights = _renamed(found, depth=encoder.config.depth, clip_depth=config.num_hidden_layers)
    own = dict(encoder.named_parameters())
    for name, value in weights.items():
        if own[name].shape != value.shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)} in the CLIP model; this encoder has {tuple(own[name].shape)}"
            )
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


def _open_clip(name_or_folder: str | Path) -> nn.Module:
    from transformers import CLIPVisionModel

    return CLIPVisionModel.from_pretrained(str(name_or_folder))


def _renamed(found: dict[str, Tensor], *, depth: int, clip_depth: int) -> dict[str, Tensor]:
    if depth != clip_depth:
        raise ValueError(f"the CLIP model has {clip_depth} layers; this encoder has {depth}")
    weights = {own: found[theirs] for own, theirs in _TOP_NAMES.items()}
    for i in range(depth):
        own, theirs = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
        for part in ("weight", "bias"):
            weights[f"{own}.attn.in_proj_{part}"] = torch.cat(
                [found[f"{theirs}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
            )
            for own_name, their_name in _LAYER_NAMES.items():
                weights[f"{own}.{own_name}.{part}"] = found[f"{theirs}.{their_name}.{part}"]
    return weights
