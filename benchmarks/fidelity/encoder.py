"""Distance of the AIM encoder from the published equations, and of a fresh one from CLIP, in float64 on random weights.

The equations are restated here in loops over single tokens and share no code with the encoder.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.pretrained.aim_weights import load_weights
from encoders.video_encoder.pretrained.huggingface import read_clip_model

Weights = Mapping[str, Tensor]

_TINY = AimConfig(
    num_frames=3, image_size=16, patch_size=8, width=8, depth=2, num_heads=2, drop_path=0.0
)
AIM_SHAPES: tuple[AimConfig, ...] = (
    _TINY,
    replace(_TINY, num_frames=1, depth=1, num_heads=1, adapter_scale=0.25),
    replace(_TINY, num_frames=5, image_size=12, patch_size=4, width=12, num_heads=3),
    replace(_TINY, image_size=8, width=16, depth=3, num_heads=4, adapter_ratio=0.5),
    replace(_TINY, num_time_adapters=2),
    replace(_TINY, num_frames=4, temporal_pooling="attention"),
)
CLIP_SHAPES: tuple[AimConfig, ...] = (
    AimConfig(num_frames=4, image_size=32, patch_size=8, width=32, depth=3, num_heads=4),
    AimConfig(num_frames=12, image_size=28, patch_size=14, width=64, depth=2, num_heads=8),
    AimConfig(num_frames=2, image_size=48, patch_size=16, width=48, depth=4, num_heads=3),
)


def aim_max_abs_error(shapes: Sequence[AimConfig] = AIM_SHAPES) -> float:
    """Largest difference of any clip vector (before unit length) from the equations, no weight being zero."""
    errors = []
    for seed, config in enumerate(shapes):
        encoder = random_encoder(config, seed=seed)
        frames = random_frames(config, seed=seed)
        with torch.no_grad():
            features = encoder.features(frames)
            expected = [encode_by_loops(clip, encoder.state_dict(), config) for clip in frames]
        errors.append(float((features - torch.stack(expected)).abs().max()))
    return max(errors)


def clip_max_abs_error(shapes: Sequence[AimConfig] = CLIP_SHAPES) -> float:
    """Largest difference of a fresh encoder's clip vectors from transformers' CLIP per frame, averaged."""
    errors = []
    for seed, config in enumerate(shapes):
        clip = random_clip(config, seed=seed).double()
        encoder = AimEncoder(config).eval().double()
        load_weights(encoder, read_clip_model(clip))
        frames = random_frames(config, seed=seed)
        mean, std = (
            torch.tensor(v, dtype=torch.float64) for v in (config.pixel_mean, config.pixel_std)
        )
        pixels_BHWC = (frames.flatten(0, 1).double() / 255 - mean) / std
        with torch.no_grad():
            per_frame_BD = clip(pixel_values=pixels_BHWC.permute(0, 3, 1, 2)).pooler_output
            features = encoder.features(frames)
        expected = per_frame_BD.unflatten(0, (len(frames), config.num_frames)).mean(dim=1)
        errors.append(float((features - expected).abs().max()))
    return max(errors)


def random_frames(config: AimConfig, *, num_clips: int = 2, seed: int = 0) -> Tensor:
    """uint8 noise of the shape that the encoder takes."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_clips, config.num_frames, config.image_size, config.image_size, 3)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def random_encoder(config: AimConfig, *, seed: int = 0) -> AimEncoder:
    """An encoder in float64 none of whose weights is zero, as if it were trained."""
    torch.manual_seed(seed)
    encoder = AimEncoder(config).double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return encoder


def random_clip(config: AimConfig, *, seed: int = 0, **changes: Any) -> Any:
    """transformers' CLIP vision model of the encoder's shape; large weights, so that no layer is close to nothing."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(seed)
    shape = {
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "initializer_factor": 5.0,
        "initializer_range": 0.2,
    }
    clip = CLIPVisionModel(CLIPVisionConfig(**(shape | changes))).eval()
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return clip


def encode_by_loops(frames_THWC: Tensor, weights: Weights, config: AimConfig) -> Tensor:
    """One clip's vector (before unit length): tokens, blocks, class tokens, pooling."""
    patch, side = config.patch_size, config.image_size // config.patch_size
    mean, std = (
        torch.tensor(v, dtype=torch.float64) for v in (config.pixel_mean, config.pixel_std)
    )
    x = []
    for t, frame_HWC in enumerate(frames_THWC):
        pixels_CHW = ((frame_HWC.double() / 255 - mean) / std).permute(2, 0, 1)
        tokens = [weights["class_embedding"]]
        for row in range(0, side * patch, patch):
            for column in range(0, side * patch, patch):
                window = pixels_CHW[:, row : row + patch, column : column + patch]
                tokens.append((weights["conv1.weight"] * window).sum(dim=(1, 2, 3)))
        time = weights["temporal_embedding"][0, t]
        tokens = [
            token + weights["positional_embedding"][i] + time for i, token in enumerate(tokens)
        ]
        x.append([_layer_norm(token, weights, "ln_pre") for token in tokens])
    for i in range(config.depth):
        x = _block(x, weights, f"transformer.resblocks.{i}", config)
    frame_vectors = [_layer_norm(frame[0], weights, "ln_post") for frame in x]
    mean_vector = sum(frame_vectors[1:], frame_vectors[0]) / len(frame_vectors)
    if config.temporal_pooling == "mean":
        return mean_vector
    return mean_vector + _ask(frame_vectors, weights, config.num_heads)


def _block(
    x: list[list[Tensor]], weights: Weights, name: str, config: AimConfig
) -> list[list[Tensor]]:
    """x[t][l] is a vector. AIM's three steps, one token at a time."""
    num_frames, num_tokens = len(x), len(x[0])
    after_time: list[list[Tensor]] = [[] for _ in range(num_frames)]
    for token in range(num_tokens):
        normed = [_layer_norm(x[t][token], weights, f"{name}.ln_1") for t in range(num_frames)]
        if config.num_time_adapters == 2:
            normed = [n + _adapt(n, weights, f"{name}.T_Adapter_in") for n in normed]
        attended = _attend(normed, weights, f"{name}.attn", config.num_heads)
        for t in range(num_frames):
            after_time[t].append(x[t][token] + _adapt(attended[t], weights, f"{name}.T_Adapter"))
    result = []
    for frame in after_time:
        normed = [_layer_norm(token, weights, f"{name}.ln_1") for token in frame]
        attended = _attend(normed, weights, f"{name}.attn", config.num_heads)
        row = []
        for token, a in zip(frame, attended, strict=True):
            y = token + a + _adapt(a, weights, f"{name}.S_Adapter")
            n = _layer_norm(y, weights, f"{name}.ln_2")
            joint = config.adapter_scale * _adapt(n, weights, f"{name}.MLP_Adapter")
            row.append(y + _mlp(n, weights, f"{name}.mlp") + joint)
        result.append(row)
    return result


def _layer_norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    values = x.tolist()
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    scaled = (x - mean) / math.sqrt(variance + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def _softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    total = sum(math.exp(score - top) for score in scores)
    return [math.exp(score - top) / total for score in scores]


def _attend(
    sequence: Sequence[Tensor], weights: Weights, name: str, num_heads: int
) -> list[Tensor]:
    """Self-attention over a list of vectors, one query and one head at a time."""
    width = len(sequence[0])
    size = width // num_heads
    projected = [
        weights[f"{name}.in_proj_weight"] @ x + weights[f"{name}.in_proj_bias"] for x in sequence
    ]
    outputs = []
    for asking in projected:
        heads = []
        for head in range(num_heads):
            part = slice(head * size, (head + 1) * size)
            query = asking[:width][part]
            shares = _softmax(
                [
                    float(query @ other[width : 2 * width][part]) / math.sqrt(size)
                    for other in projected
                ]
            )
            mixed = [
                s * other[2 * width :][part] for s, other in zip(shares, projected, strict=True)
            ]
            heads.append(sum(mixed[1:], mixed[0]))
        outputs.append(_linear(torch.cat(heads), weights, f"{name}.out_proj"))
    return outputs


def _ask(frame_vectors: Sequence[Tensor], weights: Weights, num_heads: int) -> Tensor:
    """The ordered pooling: a learned question to each frame at its position, head by head."""
    width = len(frame_vectors[0])
    size = width // num_heads
    name = "temporal_pool"
    placed = [
        _linear(
            _layer_norm(x, weights, f"{name}.norm") + weights[f"{name}.positions"][t],
            weights,
            f"{name}.key_value",
        )
        for t, x in enumerate(frame_vectors)
    ]
    heads = []
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        question = weights[f"{name}.question"][part]
        shares = _softmax([float(question @ p[:width][part]) / math.sqrt(size) for p in placed])
        mixed = [s * p[width:][part] for s, p in zip(shares, placed, strict=True)]
        heads.append(sum(mixed[1:], mixed[0]))
    return _linear(torch.cat(heads), weights, f"{name}.out")


def _adapt(x: Tensor, weights: Weights, name: str) -> Tensor:
    hidden = _linear(x, weights, f"{name}.D_fc1").tolist()
    exact = [0.5 * h * (1 + math.erf(h / math.sqrt(2))) for h in hidden]
    return _linear(torch.tensor(exact, dtype=x.dtype), weights, f"{name}.D_fc2")


def _mlp(x: Tensor, weights: Weights, name: str) -> Tensor:
    hidden = _linear(x, weights, f"{name}.c_fc").tolist()
    quick = [h / (1 + math.exp(-1.702 * h)) for h in hidden]
    return _linear(torch.tensor(quick, dtype=x.dtype), weights, f"{name}.c_proj")
