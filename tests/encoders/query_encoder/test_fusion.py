"""Fusion against the formulas, one query at a time, and what a zeroed input can and cannot do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from encoders.files import from_dict
from encoders.query_encoder.config import (
    FusionConfig,
    fusion_config_to_dict,
)
from encoders.query_encoder.fusion import FUSION_WIDTHS, build_fusion

TINY = FusionConfig(
    kind="combiner", video_dim=6, text_dim=5, projection_dim=7, hidden_dim=9, dropout=0.5
)


def inputs(seed=0, num_queries=4):
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(num_queries, 6, generator=generator, dtype=torch.float64)
    text = torch.randn(num_queries, 5, generator=generator, dtype=torch.float64)
    return video / video.norm(dim=1, keepdim=True), text


def built(config):
    torch.manual_seed(1)
    return build_fusion(config).double().eval()


def combiner_by_numpy(video, text, weights):
    def linear(name, x):
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    t = linear("text_in", text)
    t = t / np.sqrt((t * t).sum())
    joined = np.concatenate(
        [
            np.maximum(linear("text_projection", t), 0),
            np.maximum(linear("video_projection", video), 0),
        ]
    )
    residue = linear("out", np.maximum(linear("combine", joined), 0))
    gate = linear("gate_out", np.maximum(linear("gate_hidden", joined), 0))[0]
    share = 1 / (1 + math.exp(-gate))
    query = residue + share * t + (1 - share) * video
    return query / np.sqrt((query * query).sum())


def test_the_combiner_is_the_formula_of_the_paper():
    fusion = built(TINY)
    weights = {name: value.numpy() for name, value in fusion.state_dict().items()}
    video, text = inputs()
    with torch.no_grad():
        found = fusion(video, text).numpy()
    expected = [
        combiner_by_numpy(v, t, weights) for v, t in zip(video.numpy(), text.numpy(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_mean_is_the_mean_of_two_projections():
    fusion = built(replace(TINY, kind="mean"))
    weights = {name: value.numpy() for name, value in fusion.state_dict().items()}
    video, text = inputs()
    with torch.no_grad():
        found = fusion(video, text).numpy()
    for query, v, t in zip(found, video.numpy(), text.numpy(), strict=True):
        expected = (
            weights["video_projection.weight"] @ v
            + weights["video_projection.bias"]
            + weights["text_projection.weight"] @ t
            + weights["text_projection.bias"]
        )
        np.testing.assert_allclose(query, expected / np.linalg.norm(expected), atol=1e-12)


@pytest.mark.parametrize("kind", ["combiner", "mean"])
@pytest.mark.parametrize("used", ["video", "text"])
def test_a_zeroed_input_tells_nothing_and_the_other_everything(kind, used):
    fusion = built(replace(TINY, kind=kind, inputs=used))
    (video, text), (other_video, other_text) = inputs(0), inputs(1)
    with torch.no_grad():
        base = fusion(video, text)
        unseen = fusion(video, other_text) if used == "video" else fusion(other_video, text)
        seen = fusion(other_video, text) if used == "video" else fusion(video, other_text)
    torch.testing.assert_close(unseen, base)
    assert (seen - base).abs().max() > 1e-3


def test_the_widths_of_the_paper():
    fusion = build_fusion(
        FusionConfig(kind="combiner", video_dim=768, text_dim=768, **FUSION_WIDTHS["paper"])
    )
    shapes = {name: tuple(value.shape) for name, value in fusion.named_parameters()}
    assert shapes["text_projection.weight"] == (3072, 768)
    assert shapes["combine.weight"] == (6144, 6144)
    assert shapes["out.weight"] == (768, 6144)
    assert shapes["gate_out.weight"] == (1, 6144)


def test_the_card_round_trip_refuses_what_it_does_not_know():
    values = fusion_config_to_dict(TINY)
    assert from_dict(FusionConfig, values, "fusion") == TINY
    with pytest.raises(ValueError, match="'hiden_dim'"):
        from_dict(FusionConfig, values | {"hiden_dim": 3}, "fusion")
    with pytest.raises(ValueError, match="video_dim"):
        from_dict(FusionConfig, {"kind": "mean", "text_dim": 3}, "fusion")
    with pytest.raises(
        ValueError, match=r"fusion\.kind is 'product'; it must be one of 'combiner'"
    ):
        from_dict(FusionConfig, values | {"kind": "product"}, "fusion")
    with pytest.raises(ValueError, match="video_dim is 6 and text_dim 5; a sum needs them to be"):
        build_fusion(FusionConfig(kind="sum", video_dim=6, text_dim=5))


def test_cross_attention_is_the_released_formula():
    config = FusionConfig(kind="cross_attention", video_dim=8, text_dim=5, dropout=0.1)
    torch.manual_seed(0)
    fusion = build_fusion(config).double().eval()
    video, text = torch.randn(3, 8).double() * 9, torch.randn(3, 5).double()
    w = fusion.state_dict()

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def attend(name, x):
        """All attention goes to the one vector: values and output layer."""
        values = x @ w[f"{name}.in_proj_weight"][16:].T + w[f"{name}.in_proj_bias"][16:]
        return linear(f"{name}.out_proj", values)

    t = linear("text_in", text)
    t = t / t.norm(dim=-1, keepdim=True)
    mixed = (attend("text_to_video", video) + attend("video_to_text", t)) / 2
    x = mixed + linear("text_projection", t) + linear("video_projection", video)
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = linear("out", x * w["norm.weight"] + w["norm.bias"])
    expected = expected / expected.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(fusion(video, text), expected, atol=1e-12, rtol=1e-12)
    with pytest.raises(ValueError, match="num_heads is 3"):
        FusionConfig(kind="cross_attention", video_dim=8, text_dim=5, num_heads=3)
