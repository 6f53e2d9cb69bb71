"""AIM against a restatement in loops, against CLIP, and against what may and may not change its output."""

import math
from dataclasses import replace

import pytest
import torch

from encoders.aim import AimConfig, AimEncoder

TINY = AimConfig(
    num_frames=3, image_size=16, patch_size=8, width=8, depth=2, num_heads=2, drop_path=0.0
)


def random_frames(config, num_clips=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_clips, config.num_frames, config.image_size, config.image_size, 3)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def trained_encoder(config=TINY, seed=0, dtype=torch.float64):
    """An encoder none of whose weights is zero."""
    torch.manual_seed(seed)
    encoder = AimEncoder(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return encoder


def layer_norm(x, weights, name):
    mean = sum(x.tolist()) / len(x)
    variance = sum((value - mean) ** 2 for value in x.tolist()) / len(x)
    return (x - mean) / math.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[
        f"{name}.bias"
    ]


def linear(x, weights, name):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def attend(sequence, weights, name, num_heads):
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
            scores = [
                float(asking[:width][part] @ other[width : 2 * width][part]) / math.sqrt(size)
                for other in projected
            ]
            total = sum(math.exp(score) for score in scores)
            heads.append(
                sum(
                    math.exp(score) / total * other[2 * width :][part]
                    for score, other in zip(scores, projected, strict=True)
                )
            )
        outputs.append(linear(torch.cat(heads), weights, f"{name}.out_proj"))
    return outputs


def adapt(x, weights, name):
    hidden = linear(x, weights, f"{name}.D_fc1")
    exact = torch.tensor(
        [0.5 * h * (1 + math.erf(h / math.sqrt(2))) for h in hidden.tolist()], dtype=x.dtype
    )
    return linear(exact, weights, f"{name}.D_fc2")


def mlp(x, weights, name):
    hidden = linear(x, weights, f"{name}.c_fc")
    quick = torch.tensor([h / (1 + math.exp(-1.702 * h)) for h in hidden.tolist()], dtype=x.dtype)
    return linear(quick, weights, f"{name}.c_proj")


def block_by_loops(x, weights, name, num_heads):
    """x[t][l] is a vector. The three steps of the paper, one token at a time."""
    num_frames, num_tokens = len(x), len(x[0])
    after_time = [[None] * num_tokens for _ in range(num_frames)]
    for token in range(num_tokens):
        normed = [layer_norm(x[t][token], weights, f"{name}.ln_1") for t in range(num_frames)]
        attended = attend(normed, weights, f"{name}.attn", num_heads)
        for t in range(num_frames):
            after_time[t][token] = x[t][token] + adapt(attended[t], weights, f"{name}.T_Adapter")
    result = []
    for frame in after_time:
        normed = [layer_norm(token, weights, f"{name}.ln_1") for token in frame]
        attended = attend(normed, weights, f"{name}.attn", num_heads)
        row = []
        for token, a in zip(frame, attended, strict=True):
            y = token + a + adapt(a, weights, f"{name}.S_Adapter")
            n = layer_norm(y, weights, f"{name}.ln_2")
            row.append(
                y + mlp(n, weights, f"{name}.mlp") + 0.5 * adapt(n, weights, f"{name}.MLP_Adapter")
            )
        result.append(row)
    return result


def encoder_by_loops(frames_THWC, weights, config):
    patch, side = config.patch_size, config.image_size // config.patch_size
    mean = torch.tensor(config.pixel_mean, dtype=torch.float64)
    std = torch.tensor(config.pixel_std, dtype=torch.float64)
    x = []
    for t, frame_HWC in enumerate(frames_THWC):
        pixels_CHW = ((frame_HWC.double() / 255 - mean) / std).permute(2, 0, 1)
        tokens = [weights["class_embedding"]]
        for row in range(side):
            for column in range(side):
                window = pixels_CHW[
                    :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch
                ]
                tokens.append((weights["conv1.weight"] * window).sum(dim=(1, 2, 3)))
        tokens = [
            token + weights["positional_embedding"][i] + weights["temporal_embedding"][0, t]
            for i, token in enumerate(tokens)
        ]
        x.append([layer_norm(token, weights, "ln_pre") for token in tokens])
    for i in range(config.depth):
        x = block_by_loops(x, weights, f"transformer.resblocks.{i}", config.num_heads)
    return sum(layer_norm(frame[0], weights, "ln_post") for frame in x) / len(x)


def test_the_encoder_equals_its_restatement_in_loops():
    encoder, frames = trained_encoder(), random_frames(TINY)
    with torch.no_grad():
        found = encoder.features(frames)
        for clip, frames_THWC in zip(found, frames, strict=True):
            expected = encoder_by_loops(frames_THWC, encoder.state_dict(), TINY)
            torch.testing.assert_close(clip, expected, rtol=1e-9, atol=1e-9)
        unit = encoder(frames)
    torch.testing.assert_close(unit, (found / found.norm(dim=1, keepdim=True)).float())


def test_clips_of_a_batch_do_not_see_each_other():
    encoder, frames = trained_encoder(), random_frames(TINY, num_clips=3)
    with torch.no_grad():
        together = encoder.features(frames)
        alone = torch.cat([encoder.features(clip[None]) for clip in frames])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_a_new_encoder_is_blind_to_order_and_a_trained_one_is_not():
    frames = random_frames(TINY)
    torch.manual_seed(0)
    fresh, trained = AimEncoder(TINY).double().eval(), trained_encoder()
    with torch.no_grad():
        torch.testing.assert_close(fresh.features(frames), fresh.features(frames.flip(1)))
        assert (trained.features(frames) - trained.features(frames.flip(1))).abs().max() > 1e-2


def test_freezing_leaves_adapters_and_temporal_embedding():
    encoder = AimEncoder(TINY)
    encoder.freeze_pretrained()
    encoder.features(random_frames(TINY)).sum().backward()
    learned = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert all("_Adapter." in name or name == "temporal_embedding" for name in learned)
    assert len(learned) == TINY.depth * 3 * 4 + 1
    assert all((p.grad is not None) == (n in learned) for n, p in encoder.named_parameters())


def test_stochastic_depth_drops_the_adapter_branches_of_whole_clips():
    """With the dropped branches' weights made huge, each clip equals one of the 2^k combinations of kept branches."""
    config = replace(TINY, depth=2, drop_path=0.5)
    encoder = trained_encoder(config)
    frames = random_frames(config, num_clips=1).repeat(64, 1, 1, 1, 1)
    encoder.train()
    torch.manual_seed(0)
    with torch.no_grad():
        vectors = encoder.features(frames)
    distinct = {tuple(round(float(value), 6) for value in vector) for vector in vectors}
    assert len(distinct) == 4  # the first block drops nothing, the second two branches


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 3, 8, 8, 3), torch.uint8, "16, 16"),
        ((1, 3, 16, 16, 1), torch.uint8, "16, 16"),
        ((1, 4, 16, 16, 3), torch.uint8, "4 frames"),
        ((1, 3, 16, 16, 3), torch.float32, "uint8"),
    ],
)
def test_wrong_frames_are_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        AimEncoder(TINY).features(torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 20}, "multiple of patch_size"),
        ({"num_heads": 3}, "multiple of num_heads"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"depth": 0}, "at least 1"),
        ({"pixel_std": (0.0, 1.0, 1.0)}, "std above 0"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
