"""Weights from elsewhere: what fits is copied, what does not is named, and a time axis is stretched as frames lie in time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.fidelity.encoder import random_encoder
from encoders.video_encoder.aim import AimEncoder, is_learned
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.pretrained.aim_weights import (
    SourceWeights,
    config_of,
    interpolate_frames,
    load_weights,
    summarize_names,
)

AIM = AimConfig(num_frames=3, image_size=16, patch_size=8, width=8, depth=2, num_heads=2)


def aim_source(config=AIM, **changes):
    """`changes` replace tensors, or take them out (None)."""
    values = random_encoder(config).float().state_dict() | changes
    return SourceWeights(
        described="it",
        kind="aim",
        tensors={name: value for name, value in values.items() if value is not None},
    )


def clip_source(config=AIM):
    values = random_encoder(config).float().state_dict()
    tensors = {name: value for name, value in values.items() if not is_learned(name)}
    return SourceWeights(described="it", kind="clip", tensors=tensors)


@pytest.mark.parametrize(
    "config",
    [
        AIM,
        replace(AIM, num_frames=5, image_size=24, depth=3),
        replace(AIM, width=12, num_heads=3, adapter_ratio=5 / 12),
        replace(AIM, num_time_adapters=2, temporal_pooling="attention"),
    ],
)
def test_shapes_tell_all_of_a_config_but_the_heads(config):
    found = config_of(aim_source(config), num_heads=config.num_heads)
    built = AimEncoder(found).state_dict()
    assert {n: v.shape for n, v in built.items()} == {
        n: v.shape for n, v in AimEncoder(config).state_dict().items()
    }
    assert replace(found, adapter_ratio=config.adapter_ratio) == config


def test_heads_have_width_64_where_nobody_says():
    wide = replace(AIM, width=128, num_heads=2)
    assert config_of(aim_source(wide)).num_heads == 2
    with pytest.raises(ValueError, match="--num-heads"):
        config_of(aim_source())
    with pytest.raises(ValueError, match="declares 4"):
        config_of(replace(clip_source(), num_heads=4), num_heads=2)


def test_clip_becomes_twelve_frames_and_keeps_what_is_new():
    config = config_of(clip_source(), num_heads=2)
    assert (config.num_frames, config.temporal_pooling) == (12, "mean")
    encoder = AimEncoder(config)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    report = load_weights(encoder, clip_source())
    after = encoder.state_dict()
    for name, value in clip_source().tensors.items():
        assert torch.equal(after[name], value)
    assert set(report.new) == {name for name in after if is_learned(name)}
    assert all(torch.equal(after[name], before[name]) for name in report.new)
    assert not after["temporal_embedding"].any()


def test_frames_are_interpolated_as_they_lie_in_the_clip():
    """Frame i of T stands at (i + 1/2) / T of the clip; outside of the outermost frames their value holds on."""
    values = np.array([3.0, -1.0, 4.0, 1.0])
    found = interpolate_frames(torch.tensor(values)[None, :, None], 10, axis=1)
    at, to = (np.arange(4) + 0.5) / 4, (np.arange(10) + 0.5) / 10
    np.testing.assert_allclose(found[0, :, 0], np.interp(to, at, values), atol=1e-12)
    with_features = torch.randn(12, 5)
    resized = interpolate_frames(with_features, 7, axis=0)
    for column in range(5):
        alone = interpolate_frames(with_features[None, :, column], 7, axis=1)[0]
        torch.testing.assert_close(resized[:, column], alone)


def test_other_numbers_of_frames_stretch_all_that_counts_frames():
    source = aim_source(replace(AIM, temporal_pooling="attention"))
    encoder = AimEncoder(config_of(source, num_frames=8, num_heads=2))
    report = load_weights(encoder, source)
    assert report.resized == ("temporal_embedding", "temporal_pool.positions")
    assert report.new == ()
    torch.testing.assert_close(
        encoder.temporal_embedding.detach(),
        interpolate_frames(source.tensors["temporal_embedding"], 8, axis=1),
    )


def test_a_pool_may_be_new_but_is_not_dropped():
    encoder = AimEncoder(config_of(aim_source(), num_heads=2, temporal_pooling="attention"))
    assert {n.split(".")[0] for n in load_weights(encoder, aim_source()).new} == {"temporal_pool"}
    pooled = aim_source(replace(AIM, temporal_pooling="attention"))
    with pytest.raises(ValueError, match=r"no place for: temporal_pool\.key_value\.bias"):
        load_weights(AimEncoder(AIM), pooled)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"transformer.resblocks.1.mlp.c_fc.bias": torch.zeros(9)},
            r"wrong shape: transformer\.resblocks\.1\.mlp\.c_fc\.bias has shape \(9,\), this encoder's is \(32,\)",
        ),
        ({"ln_post.bias": None}, r"1 tensor missing: ln_post\.bias"),
        (
            {f"transformer.resblocks.{i}.S_Adapter.D_fc1.bias": None for i in range(2)},
            r"2 tensors missing: transformer\.resblocks\.0\.S_Adapter\.D_fc1\.bias, transformer",
        ),
        (
            {"transformer.resblocks.0.X_Adapter.weight": torch.zeros(1)},
            r"no place for: transformer\.resblocks\.0\.X_Adapter",
        ),
        ({"ln_pre.weight": torch.full((8,), torch.nan)}, r"NaN.*ln_pre\.weight"),
        ({"ln_pre.weight": torch.ones(8, dtype=torch.int64)}, r"no real numbers: ln_pre\.weight"),
        ({"temporal_embedding": torch.zeros(1, 3, 9)}, r"temporal_embedding has shape \(1, 3, 9\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_copied(changes, message):
    encoder = AimEncoder(AIM)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_weights(encoder, aim_source(**changes))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_other_depths_and_heads_are_refused():
    with pytest.raises(ValueError, match=r"no place for: transformer\.resblocks\.2\."):
        load_weights(AimEncoder(AIM), aim_source(replace(AIM, depth=3)))
    with pytest.raises(ValueError, match=r"missing: transformer\.resblocks\.1\."):
        load_weights(AimEncoder(AIM), aim_source(replace(AIM, depth=1)))
    with pytest.raises(ValueError, match="has 4 heads; this encoder has 2"):
        load_weights(AimEncoder(AIM), replace(aim_source(), num_heads=4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1.weight": None}, "no conv1.weight, so it holds no image transformer"),
        ({"conv1.weight": torch.zeros(8, 3)}, "4 axes are needed"),
        ({"positional_embedding": torch.zeros(7, 8)}, "7 rows"),
        ({"positional_embedding": torch.zeros(0, 8)}, "0 rows"),
    ],
)
def test_shapes_of_no_encoder_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config_of(aim_source(**changes), num_heads=2)


def test_names_are_folded_by_block():
    names = ["a.0.b", "a.1.b", "c.d", "a.11.b", "a.2.e.x.y", "a.2.e.z"]
    assert summarize_names(names) == "a.*.b (3), c.d, a.*.e.* (2)"
