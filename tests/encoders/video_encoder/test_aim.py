"""AIM against a restatement in loops, against CLIP, and against what may and may not change its output."""

from dataclasses import replace

import pytest
import torch

from benchmarks.fidelity.encoder import AIM_SHAPES, encode_by_loops, random_encoder, random_frames
from encoders.video_encoder.aim import AimEncoder, TemporalPool
from encoders.video_encoder.config import AimConfig

TINY = AimConfig(
    num_frames=3, image_size=16, patch_size=8, width=8, depth=2, num_heads=2, drop_path=0.0
)


@pytest.mark.parametrize("config", AIM_SHAPES, ids=range(len(AIM_SHAPES)))
def test_the_encoder_equals_its_restatement_in_loops(config):
    encoder, frames = random_encoder(config), random_frames(config)
    with torch.no_grad():
        found = encoder.features(frames)
        for clip, frames_THWC in zip(found, frames, strict=True):
            expected = encode_by_loops(frames_THWC, encoder.state_dict(), config)
            torch.testing.assert_close(clip, expected, rtol=1e-9, atol=1e-9)
        unit = encoder(frames)
    torch.testing.assert_close(unit, (found / found.norm(dim=1, keepdim=True)).float())


def test_clips_of_a_batch_do_not_see_each_other():
    encoder, frames = random_encoder(TINY), random_frames(TINY, num_clips=3)
    with torch.no_grad():
        together = encoder.features(frames)
        alone = torch.cat([encoder.features(clip[None]) for clip in frames])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_a_new_encoder_is_blind_to_order_and_a_trained_one_is_not():
    frames = random_frames(TINY)
    torch.manual_seed(0)
    fresh, trained = AimEncoder(TINY).double().eval(), random_encoder(TINY)
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
    encoder = random_encoder(config)
    frames = random_frames(config, num_clips=1).repeat(64, 1, 1, 1, 1)
    encoder.train()
    torch.manual_seed(0)
    with torch.no_grad():
        vectors = encoder.features(frames)
    distinct = {tuple(round(float(value), 6) for value in vector) for vector in vectors}
    assert len(distinct) == 4  # the first block drops nothing, the second two branches


def test_stochastic_depth_rises_linearly_from_the_first_block_to_the_last():
    encoder = AimEncoder(replace(TINY, depth=5, drop_path=0.2))
    rates = [block.drop_path for block in encoder.transformer.resblocks]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_every_adapter_starts_at_zero_and_every_learned_part_trains(pooling):
    """Two steps of a made-up loss: the zero layers block what lies before them in the first."""
    config = replace(TINY, num_time_adapters=2, temporal_pooling=pooling)
    torch.manual_seed(0)
    encoder = AimEncoder(config).double().eval()
    encoder.freeze_pretrained()
    zero = {name for name, value in encoder.named_parameters() if not value.any()}
    assert {name for name in zero if name.endswith("weight")} == {
        *(
            f"transformer.resblocks.{i}.{kind}.D_fc2.weight"
            for i in range(2)
            for kind in ("MLP_Adapter", "S_Adapter", "T_Adapter", "T_Adapter_in")
        ),
        *(["temporal_pool.out.weight"] if pooling == "attention" else []),
    }
    learned = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    frozen = {n: p.clone() for n, p in encoder.named_parameters() if not p.requires_grad}
    before = {name: value.detach().clone() for name, value in learned.items()}
    optimizer = torch.optim.SGD(learned.values(), lr=0.5)
    target = torch.randn(2, 8, dtype=torch.float64)
    for _ in range(3):
        optimizer.zero_grad()
        (encoder.features(random_frames(config)) - target).square().mean().backward()
        optimizer.step()
    assert [name for name, value in learned.items() if torch.equal(value, before[name])] == []
    assert all(torch.equal(frozen[n], p) for n, p in encoder.named_parameters() if n in frozen)


def test_attention_over_frames_starts_as_the_mean_and_then_sees_order():
    """Without adapters the frames do not see each other, so only the pooling can tell their order."""
    frames = random_frames(TINY)
    mean = AimEncoder(TINY).double().eval()
    ordered = AimEncoder(replace(TINY, temporal_pooling="attention")).double().eval()
    ordered.load_state_dict(mean.state_dict(), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(ordered.features(frames), mean.features(frames))
        for parameter in ordered.temporal_pool.parameters():
            parameter.add_(torch.randn_like(parameter))
        forward, backward = ordered.features(frames), ordered.features(frames.flip(1))
        torch.testing.assert_close(mean.features(frames), mean.features(frames.flip(1)))
        assert (forward - backward).abs().max() > 1e-2


@pytest.mark.parametrize("num_frames", [8, 32, 64])
def test_clips_may_have_8_to_64_frames(num_frames):
    config = replace(TINY, num_frames=num_frames, image_size=8)
    with torch.no_grad():
        assert AimEncoder(config).eval()(random_frames(config)).shape == (2, 8)


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
        ({"num_time_adapters": 3}, "num_time_adapters is 3"),
        ({"temporal_pooling": "max"}, "'max'"),
        ({"pixel_std": (0.0, 1.0, 1.0)}, "std above 0"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def trained_pool(num_frames=5, seed=0):
    torch.manual_seed(seed)
    pool = TemporalPool(num_frames, 8, 2).double()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.add_(torch.randn_like(parameter))
    return pool


def test_a_pool_can_learn_to_tell_a_clip_from_its_reverse():
    """The mean cannot: a clip and its reverse have the same one."""
    torch.manual_seed(0)
    frames = torch.randn(32, 6, 8)
    both = torch.cat([frames, frames.flip(1)])
    is_reversed = torch.arange(64) >= 32
    pool, head = TemporalPool(6, 8, 2), torch.nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*pool.parameters(), *head.parameters()], lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        logits = head(pool(both)).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, is_reversed.float())
        loss.backward()
        optimizer.step()
    assert ((logits > 0) == is_reversed).float().mean() > 0.9


def test_without_positions_order_makes_no_difference():
    pool = trained_pool()
    frames = torch.randn(3, 5, 8, dtype=torch.float64)
    assert (pool(frames) - pool(frames.flip(1))).abs().max() > 1e-3
    with torch.no_grad():
        pool.positions.zero_()
    torch.testing.assert_close(pool(frames), pool(frames.flip(1)))


def test_preprocessing_has_the_bits_of_a_product_and_a_sum_and_makes_no_tensor(monkeypatch):
    """A tensor made from numbers would be a copy to the device that the host waits for."""
    from encoders.video_encoder.base import normalize_pixels
    from encoders.video_encoder.config import Preprocessing

    preprocessing = Preprocessing(mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))
    frames = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 2, 8, 16, 3)
    scale = torch.tensor([1 / (255 * std) for std in preprocessing.std])
    shift = torch.tensor(
        [-m / s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True)]
    )
    expected = (frames.flatten(0, 1).float() * scale + shift).permute(0, 3, 1, 2)
    monkeypatch.setattr(torch, "tensor", None)
    assert torch.equal(normalize_pixels(frames, preprocessing, torch.float32), expected)
