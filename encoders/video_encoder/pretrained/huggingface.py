"""CLIP image weights of transformers for an AIM encoder, and the pixel statistics that a published model names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoders.files import read_json
from encoders.query_encoder.text_encoder import no_progress_bar
from encoders.video_encoder.config import Preprocessing
from encoders.video_encoder.pretrained.aim_weights import SourceWeights

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
_PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")  # fmt: skip


def read_clip_model(clip: nn.Module | str | Path) -> SourceWeights:
    """CLIP's image transformer; `clip` is a transformers CLIPVisionModel or CLIPModel, or a name or folder of either.

    ValueError for a model that computes something else than OpenAI's CLIP (another GELU, another layer-norm epsilon).
    """
    model: Any = _open_clip(clip) if isinstance(clip, (str, Path)) else clip
    described = f"CLIP vision model {clip}" if isinstance(clip, (str, Path)) else "the CLIP model"
    config = getattr(model.config, "vision_config", model.config)
    if config.hidden_act != "quick_gelu" or config.layer_norm_eps != 1e-5:
        raise ValueError(
            f"{described} has hidden_act {config.hidden_act!r} and layer_norm_eps {config.layer_norm_eps}; "
            "AIM takes 'quick_gelu' and 1e-05"
        )
    state = {
        name.removeprefix("vision_model."): value for name, value in model.state_dict().items()
    }
    tensors, used = _renamed(state, depth=config.num_hidden_layers)
    return SourceWeights(
        described=described,
        kind="clip",
        tensors=tensors,
        num_heads=config.num_attention_heads,
        ignored=tuple(sorted(set(state) - used)),
    )


def _open_clip(name_or_folder: str | Path) -> nn.Module:
    """The vision model with all of its weights; transformers alone would make missing ones up."""
    from transformers import AutoConfig, CLIPVisionModel

    kind = AutoConfig.from_pretrained(str(name_or_folder)).model_type
    if kind not in ("clip", "clip_vision_model"):
        raise ValueError(
            f"{name_or_folder} is a {kind!r} model; a CLIP vision model is needed (--frozen takes others as they are)"
        )
    try:
        with no_progress_bar():
            loaded: Any = CLIPVisionModel.from_pretrained(
                str(name_or_folder),
                output_loading_info=True,
                weights_only=True,
                dtype=torch.float32,
            )
    except RuntimeError as error:
        raise ValueError(f"{name_or_folder} does not fit its own config.json: {error}") from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"{name_or_folder} lacks {len(missing)} tensors of a CLIP vision model, first: {missing[:3]}"
        )
    return model


def _renamed(state: dict[str, Tensor], *, depth: int) -> tuple[dict[str, Tensor], set[str]]:
    """Tensors under the encoder's names, and the names that they came from."""
    weights = {own: state[theirs] for own, theirs in _TOP_NAMES.items()}
    used = set(_TOP_NAMES.values())
    for i in range(depth):
        own, theirs = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
        for part in ("weight", "bias"):
            split = [f"{theirs}.self_attn.{letter}_proj.{part}" for letter in "qkv"]
            weights[f"{own}.attn.in_proj_{part}"] = torch.cat([state[name] for name in split])
            used.update(split)
            for own_name, their_name in _LAYER_NAMES.items():
                weights[f"{own}.{own_name}.{part}"] = state[f"{theirs}.{their_name}.{part}"]
                used.add(f"{theirs}.{their_name}.{part}")
    return weights, used


def read_preprocessing(name_or_folder: str) -> Preprocessing:
    """Mean and deviation of pixels, by name or folder; ValueError where no file says them."""
    for values in _processors(name_or_folder):
        if {"image_mean", "image_std"} <= values.keys():
            return Preprocessing(mean=values["image_mean"], std=values["image_std"])
    files = ", ".join(_PROCESSORS)
    raise ValueError(
        f"{name_or_folder}: none of {files} with image_mean and image_std; without them the pixels are a guess"
    )


def read_crop_size(name_or_folder: str) -> int | None:
    """Side of the square that the model is shown, by name or folder; None where no file says it."""
    for values in _processors(name_or_folder):
        size = values.get("crop_size")
        if isinstance(size, dict) and size.get("height") == size.get("width"):
            size = size.get("height")
        if isinstance(size, int):
            return size
    return None


def _processors(name_or_folder: str) -> Iterator[dict[str, Any]]:
    """What the files beside the weights say of pixels."""
    from transformers.utils.hub import cached_file

    for name in _PROCESSORS:
        path = cached_file(
            name_or_folder,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None:
            values = read_json(path)
            yield values.get("image_processor", values.get("video_processor", values))
