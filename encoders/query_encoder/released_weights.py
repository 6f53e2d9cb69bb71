"""Weights of a TF-CoVR stage 2 checkpoint under the names of our text encoder and fusion.

The checkpoint holds the Q-Former's text branch (`Qformer.bert.*`), the layer between (`text_proj.*`) and the fusion (`combiner.*`);
the clip vectors came from files, so it holds no video encoder.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import Fusion, build_fusion
from encoders.query_encoder.text_encoder import TextEncoder, open_text_encoder

_MARK = "combiner."
_TEXT = "Qformer.bert."
# What only image queries and word prediction pass through, and what is never read.
_UNUSED = re.compile(
    r"_query\.|crossattention|^Qformer\.cls\.|^query_tokens$|^vision_proj\.|position_ids$"
)
_FUSION_NAMES: dict[str, dict[str, str]] = {
    "combiner": {
        "text_projection_layer": "text_projection",
        "image_projection_layer": "video_projection",
        "combiner_layer": "combine",
        "output_layer": "out",
        "dynamic_scalar.0": "gate_hidden",
        "dynamic_scalar.3": "gate_out",
    },
    "cross_attention": {
        "text_to_image_attn": "text_to_video",
        "image_to_text_attn": "video_to_text",
        "text_proj": "text_projection",
        "image_proj": "video_projection",
        "output_layer": "out",
        "norm": "norm",
    },
}


def is_stage2(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint is of stage 2."""
    return any(name.startswith(_MARK) for name in tensors)


def build_released(
    tensors: Mapping[str, Tensor], *, text: str, described: str
) -> tuple[TextEncoder, Fusion]:
    """Text encoder and fusion with the weights of a checkpoint; ValueError names what is missing, left over or of another shape.

    `text` is the BLIP-2 whose tokenizer and Q-Former shape the checkpoint has.
    """
    from encoders.query_encoder.text_backbones import QFormerText

    used = {name: value for name, value in tensors.items() if not _UNUSED.search(name)}
    encoder = open_text_encoder(text, released_words=True)
    if not isinstance(encoder.model, QFormerText):
        raise ValueError(f"text is {text!r}; it must be the BLIP-2 whose Q-Former was trained")
    of_text = {
        _text_name(name.removeprefix(_TEXT)): value
        for name, value in used.items()
        if name.startswith(_TEXT)
    }
    of_fusion = _fusion_weights(used, described)
    left = sorted(n for n in used if not n.startswith((_TEXT, _MARK, "text_proj.")))
    if left:
        raise ValueError(f"{described} has {len(left)} tensors without a place, first: {left[:3]}")
    fusion = build_fusion(_fusion_config(of_fusion, described)).eval()
    _load(encoder.model, of_text, f"{described}, text encoder of the shape of {text}")
    _load(fusion, of_fusion, f"{described}, fusion")
    return encoder, fusion


def _text_name(name: str) -> str:
    """`encoder.layer.0.attention.self.query.weight` -> transformers' name of the same tensor."""
    if name.startswith("embeddings.LayerNorm."):
        return name.replace("embeddings.LayerNorm", "qformer.layernorm")
    if name.startswith("embeddings."):
        return name
    return "qformer." + name.replace(".attention.self.", ".attention.attention.")


def _fusion_weights(tensors: Mapping[str, Tensor], described: str) -> dict[str, Tensor]:
    kind = _kind(tensors)
    weights = {
        name.replace("text_proj.", "text_in.", 1): value
        for name, value in tensors.items()
        if name.startswith("text_proj.")
    }
    for name, value in tensors.items():
        if not name.startswith(_MARK):
            continue
        inner = name.removeprefix(_MARK)
        for theirs, ours in _FUSION_NAMES[kind].items():
            if inner.startswith(f"{theirs}."):
                weights[ours + inner.removeprefix(theirs)] = value
                break
        else:
            raise ValueError(f"{described}: {name} has no place in a fusion of kind {kind!r}")
    return weights


def _kind(tensors: Mapping[str, Tensor]) -> str:
    is_attention = any(name.startswith(f"{_MARK}text_to_image_attn.") for name in tensors)
    return "cross_attention" if is_attention else "combiner"


def _fusion_config(weights: Mapping[str, Tensor], described: str) -> FusionConfig:
    kind = "cross_attention" if "text_to_video.in_proj_weight" in weights else "combiner"
    needed = ["text_in.weight", "video_projection.weight", "out.weight"]
    missing = [name for name in needed if name not in weights or weights[name].ndim != 2]
    if missing:
        raise ValueError(f"{described}: the fusion lacks the matrices {missing}")
    projected, width = weights["video_projection.weight"].shape
    return FusionConfig(
        kind=kind,
        video_dim=width,
        text_dim=weights["text_in.weight"].shape[1],
        projection_dim=projected,
        hidden_dim=weights["out.weight"].shape[1],
        dropout=0.5 if kind == "combiner" else 0.1,
        keeps_length=True,
    )


def _load(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    own = module.state_dict()
    missing, left = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or left:
        raise ValueError(f"{what}: missing are {missing[:3]}, without a place {left[:3]}")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"{what}: {name} has shape {tuple(value.shape)}; it must be {tuple(own[name].shape)}"
            )
        if not value.is_floating_point() or not value.isfinite().all():
            raise ValueError(f"{what}: {name} has NaN, infinity or no real numbers")
    module.load_state_dict({name: value.float() for name, value in weights.items()})
