"""Rates and shares are those of the definition, and a record holds every variant."""

import json

import pytest
import torch

from benchmarks.gpu.encoder import count_aim_flops
from benchmarks.harness.record import Samples
from benchmarks.throughput import encode
from benchmarks.throughput.encode import (
    EncodeConfig,
    EncodeFigures,
    count_gflop,
    main,
    measure_encoder,
)
from encoders.video_encoder.config import AimConfig

TINY = AimConfig(num_frames=3, image_size=16, patch_size=8, width=12, depth=1, num_heads=2)


def samples(median):
    return Samples(median=median, p25=median, p75=median, n=3, warmup=1)


def test_a_share_is_of_the_matrix_rate_in_the_same_dtype():
    figures = EncodeFigures(
        gflop_per_clip=500.0,
        clips_per_s={
            ("eager", 1): samples(0.2),
            ("eager", 4): samples(0.4),
            ("compiled_bf16", 1): samples(0.8),
        },
        min_cosine={},
        tflop_per_s={"float32": 0.25, "bfloat16": 1.0},
    )
    assert figures.best("eager") == 4
    assert figures.share("eager", 4) == pytest.approx(
        0.8
    )  # 0.4 clips/s x 0.5 TFLOP of 0.25 TFLOP/s
    assert figures.share("compiled_bf16", 1) == pytest.approx(0.4)


def test_flops_are_those_of_the_formula():
    flops = count_aim_flops(TINY)
    assert count_gflop(TINY) == pytest.approx((flops.linear + flops.attention) / 1e9)


def test_every_cell_has_its_rounds(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)  # compiling takes a minute
    monkeypatch.setitem(encode.PRESETS, "tiny", TINY)
    config = EncodeConfig(
        presets=("tiny",),
        batch_sizes=(1, 2),
        variants=("eager", "compiled_bf16"),
        num_rounds=2,
        matrix_size=32,
    )
    figures = measure_encoder("tiny", config)
    assert set(figures.clips_per_s) == {
        (variant, size) for variant in ("eager", "compiled_bf16") for size in (1, 2)
    }
    assert {(one.n, one.warmup) for one in figures.clips_per_s.values()} == {(2, 1)}
    assert figures.min_cosine["eager"] == pytest.approx(1, abs=1e-6)
    assert 0.99 < figures.min_cosine["compiled_bf16"] < 0.9999999
    assert set(figures.tflop_per_s) == {"float32", "bfloat16"}


def test_the_command_writes_one_record_per_encoder(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(encode.PRESETS, "tiny", TINY)
    monkeypatch.setenv("OUT", str(tmp_path))
    flags = ["--presets", "tiny", "--variants", "eager", "--batch-sizes", "1", "2"]
    assert main([*flags, "--num-rounds", "1", "--matrix-size", "32"]) == 0
    (path,) = tmp_path.glob("encode_tiny_*.json")
    record = json.loads(path.read_text())
    best = record["metrics"]["eager_best_batch"]
    median = record["metrics"][f"eager_clips_per_s_batch_{best}"]["median"]
    assert record["metrics"]["eager_clips_per_s"] == median
    assert record["ceiling"]["fraction"] == record["metrics"]["eager_share"]
    assert record["config"]["threads"] == torch.get_num_threads()
    assert f"at batch {best}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"presets": ("vit",)}, "presets has"),
        ({"batch_sizes": (0,)}, "batch_sizes"),
        ({"num_rounds": 0}, "num_rounds is 0"),
    ],
)
def test_settings_that_measure_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        EncodeConfig(**change)
