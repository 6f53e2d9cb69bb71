"""The two comparisons give figures far below their bound, and large ones for an encoder that is wrong."""

import pytest
import torch

from benchmarks.fidelity.encoder import AIM_SHAPES, aim_max_abs_error, clip_max_abs_error
from encoders.video_encoder import aim
from encoders.video_encoder.pretrained import huggingface


def test_both_errors_are_those_of_float64():
    assert aim_max_abs_error() < 1e-10
    assert clip_max_abs_error() < 1e-10


@pytest.mark.parametrize("part", ["T_Adapter", "S_Adapter", "MLP_Adapter", "T_Adapter_in"])
def test_an_adapter_that_is_left_out_is_noticed(part, monkeypatch):
    real = aim.Block.forward

    def without(block, x_BLD):
        adapter = getattr(block, part)
        if isinstance(adapter, aim.Adapter):
            with torch.no_grad():
                adapter.D_fc2.weight.zero_()
        return real(block, x_BLD)

    config = next(c for c in AIM_SHAPES if c.num_time_adapters == 2)
    expected = aim_max_abs_error([config])
    monkeypatch.setattr(
        "benchmarks.fidelity.encoder.encode_by_loops",
        _with_weights_before(monkeypatch, without),
    )
    assert aim_max_abs_error([config]) > 1e-3 > expected


def _with_weights_before(monkeypatch, broken_forward):
    """The restatement sees the weights as they were; the encoder runs with one part taken out."""
    from benchmarks.fidelity import encoder as encoder_module

    loops, make = encoder_module.encode_by_loops, encoder_module.random_encoder
    kept = {}

    def remember(config, *, seed):
        encoder = make(config, seed=seed)
        kept.update({name: value.clone() for name, value in encoder.state_dict().items()})
        return encoder

    monkeypatch.setattr(encoder_module, "random_encoder", remember)
    monkeypatch.setattr(aim.Block, "forward", broken_forward)
    return lambda frames, _, config: loops(frames, kept, config)


def test_swapped_query_and_key_weights_are_noticed(monkeypatch):
    real = huggingface._renamed

    def swapped(found, *, depth):
        weights, used = real(found, depth=depth)
        name = "transformer.resblocks.0.attn.in_proj_weight"
        query, key, value = weights[name].chunk(3)
        weights[name] = torch.cat([value, key, query])
        return weights, used

    monkeypatch.setattr(huggingface, "_renamed", swapped)
    assert clip_max_abs_error() > 1e-3
