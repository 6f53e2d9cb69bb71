"""Copies pretrained weights into an AIM encoder by name and shape, all or nothing, with a report of what was new.

T frames, L tokens, D width.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.video_encoder.aim import AimEncoder, is_learned
from encoders.video_encoder.config import AimConfig

_HEAD_WIDTH = 64  # of all CLIP image transformers
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
# Tensor -> the axis that counts frames.
_FRAME_AXIS = {"temporal_embedding": 1, "temporal_pool.positions": 0}
_NAMED_AT_MOST = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceWeights:
    """Weights as a file or model has them, under the encoder's names."""

    described: str
    """Description of the source, for error messages."""
    kind: Literal["clip", "aim"]
    """`clip` has only the frozen part; `aim` has the adapters and the temporal embedding too."""
    tensors: Mapping[str, Tensor]
    num_heads: int | None = None
    """None = not declared; a state dict does not tell it."""
    head: Mapping[str, Tensor] | None = None
    """`weight` [classes, D] and `bias` of a classification head."""
    labels: tuple[str, ...] | None = None
    """Class names of the head, where the source has them."""
    ignored: tuple[str, ...] = ()
    """Tensors that have no place in an AIM encoder."""
    config: AimConfig | None = None
    """Config of the encoder, where the source describes it completely."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """What became of each tensor of the encoder."""

    matched: tuple[str, ...]
    new: tuple[str, ...]
    """Tensors that are not in the source and keep their initial values."""
    resized: tuple[str, ...] = field(default=())
    """Interpolated to another number of frames; they are among `matched` too."""


def config_of(
    source: SourceWeights,
    *,
    num_frames: int | None = None,
    num_heads: int | None = None,
    temporal_pooling: Literal["mean", "attention"] | None = None,
    adapter_scale: float | None = None,
) -> AimConfig:
    """The encoder that the source's shapes describe; ValueError where they describe none.

    `num_frames` None = as in the source, 12 (the paper's) where it has no frames; `num_heads` None = as declared by the source,
    heads of width 64 where it says nothing; `temporal_pooling` and `adapter_scale` None = as in the source, 0.5 where it says nothing.
    """
    declared_heads = _declared_heads(source)
    if declared_heads is not None and num_heads not in (None, declared_heads):
        raise ValueError(f"num_heads is {num_heads}; {source.described} declares {declared_heads}")
    if source.config is not None and adapter_scale not in (None, source.config.adapter_scale):
        raise ValueError(
            f"adapter_scale is {adapter_scale}; {source.described} declares {source.config.adapter_scale}"
        )
    config = source.config or _config_of_shapes(source, num_heads)
    return replace(
        config,
        adapter_scale=config.adapter_scale if adapter_scale is None else adapter_scale,
        num_frames=config.num_frames if num_frames is None else num_frames,
        temporal_pooling=temporal_pooling or config.temporal_pooling,
    )


def load_weights(encoder: AimEncoder, source: SourceWeights) -> LoadReport:
    """Copy the source into the encoder, or raise ValueError that names what does not fit and copy nothing.

    Per-frame tensors of another number of frames are interpolated linearly.
    """
    _check_heads(encoder.config, source)
    own = encoder.state_dict()
    weights, resized = dict(source.tensors), []
    for name, axis in _FRAME_AXIS.items():
        if name in weights and name in own and weights[name].ndim == own[name].ndim:
            num_frames = own[name].shape[axis]
            if weights[name].shape[axis] != num_frames:
                weights[name] = interpolate_frames(weights[name], num_frames, axis=axis)
                resized.append(name)
    _check_names(own, weights, source)
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
    return LoadReport(
        matched=tuple(sorted(weights)),
        new=tuple(sorted(set(own) - set(weights))),
        resized=tuple(resized),
    )


def interpolate_frames(tensor: Tensor, num_frames: int, *, axis: int) -> Tensor:
    """Linear in time, a frame standing in the middle of its share of the clip."""
    last = tensor.movedim(axis, -1)
    shape = last.shape[:-1]
    flat = last.reshape(1, -1, last.shape[-1])
    wide = flat.to(torch.float64)
    resized = F.interpolate(wide, size=num_frames, mode="linear", align_corners=False)
    return resized.to(tensor.dtype).reshape(*shape, num_frames).movedim(-1, axis)


def summarize_names(names: Iterable[str]) -> str:
    """Blocks and what is in one of their layers folded into one entry: "ln_pre.bias, transformer.resblocks.*.attn.* (48)"."""
    counts = Counter(re.sub(r"\.\d+\.(\w+)(\..+)?$", _fold, name) for name in names)
    return ", ".join(n if count == 1 else f"{n} ({count})" for n, count in counts.items())


def _fold(match: re.Match[str]) -> str:
    return f".*.{match[1]}" + (".*" if match[2] else "")


def _config_of_shapes(source: SourceWeights, num_heads: int | None) -> AimConfig:
    kernel_WCPP = _get(source, "conv1.weight", ndim=4)
    positions_LD = _get(source, "positional_embedding", ndim=2)
    width, _, patch_size, _ = kernel_WCPP.shape
    side = math.isqrt(max(len(positions_LD) - 1, 0))
    if side < 1 or side**2 + 1 != len(positions_LD):
        raise ValueError(
            f"{source.described}: positional_embedding has {len(positions_LD)} rows; "
            "a square of patches and one class token are needed"
        )
    blocks = {int(match[1]) for name in source.tensors if (match := _BLOCK.match(name))}
    if not blocks:
        raise ValueError(f"{source.described}: there is no tensor of transformer.resblocks")
    if num_heads is None and source.num_heads is None and width % _HEAD_WIDTH:
        raise ValueError(
            f"{source.described}: width is {width}, no multiple of {_HEAD_WIDTH} as in CLIP; "
            "say the number of heads with --num-heads"
        )
    first = f"transformer.resblocks.{min(blocks)}"
    adapter = source.tensors.get(f"{first}.T_Adapter.D_fc1.weight")
    hidden = int(width * 0.25) if adapter is None else adapter.shape[0]
    frames = source.tensors.get("temporal_embedding")
    has_pool = any(name.startswith("temporal_pool.") for name in source.tensors)
    return AimConfig(
        num_frames=12 if frames is None or frames.ndim != 3 else frames.shape[1],
        image_size=side * patch_size,
        patch_size=patch_size,
        width=width,
        depth=max(blocks) + 1,
        num_heads=num_heads or source.num_heads or width // _HEAD_WIDTH,
        adapter_ratio=_ratio(hidden, width),
        num_time_adapters=2 if f"{first}.T_Adapter_in.D_fc1.weight" in source.tensors else 1,
        temporal_pooling="attention" if has_pool else "mean",
    )


def _ratio(hidden: int, width: int) -> float:
    """A ratio from which `int(width * ratio)` gives the width of the adapters again."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def _get(source: SourceWeights, name: str, *, ndim: int) -> Tensor:
    tensor = source.tensors.get(name)
    if tensor is None:
        raise ValueError(
            f"{source.described}: there is no {name}, so it holds no image transformer of CLIP or AIM"
        )
    if tensor.ndim != ndim:
        raise ValueError(
            f"{source.described}: {name} has shape {tuple(tensor.shape)}; {ndim} axes are needed"
        )
    return tensor


def _declared_heads(source: SourceWeights) -> int | None:
    return source.config.num_heads if source.config else source.num_heads


def _check_heads(config: AimConfig, source: SourceWeights) -> None:
    declared_heads = _declared_heads(source)
    if declared_heads not in (None, config.num_heads):
        raise ValueError(
            f"{source.described} has {declared_heads} heads; this encoder has {config.num_heads}"
        )


def _check_names(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: SourceWeights
) -> None:
    needed = {name for name in own if not is_learned(name)}
    if source.kind == "aim":
        has_pool = any(name.startswith("temporal_pool.") for name in weights)
        needed = {name for name in own if has_pool or not name.startswith("temporal_pool.")}
    wrong = [
        f"{name} has shape {tuple(weights[name].shape)}, this encoder's is {tuple(own[name].shape)}"
        for name in weights
        if name in own and weights[name].shape != own[name].shape
    ]
    broken = [
        name
        for name, value in weights.items()
        if not value.is_floating_point() or not value.isfinite().all()
    ]
    problems = {
        "of a wrong shape": wrong,
        "missing": sorted(needed - set(weights)),
        "that this encoder has no place for": sorted(set(weights) - set(own)),
        "with NaN, infinity or no real numbers": broken,
    }
    messages = [
        f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {what}: {_some(names)}"
        for what, names in problems.items()
        if names
    ]
    if messages:
        raise ValueError(
            f"{source.described} does not fit, nothing was copied: {'; '.join(messages)}"
        )


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
