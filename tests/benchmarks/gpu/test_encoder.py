import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.encoder import count_aim_flops, matmul_rate, measure_encode, measure_matmul
from encoders.video_encoder.config import PRESETS, AimConfig
from encoders.video_encoder.registry import build_video_encoder

CPU = torch.device("cpu")
TINY = AimConfig(num_frames=3, image_size=32, patch_size=8, width=48, depth=2, num_heads=3)


def test_the_full_encoder_needs_588_gflop_a_clip() -> None:
    config = PRESETS["aim_vit_b16"]
    assert isinstance(config, AimConfig)
    assert count_aim_flops(config).linear == pytest.approx(588e9, rel=0.002)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        dataclasses.replace(TINY, adapter_ratio=0.5, depth=3),
        dataclasses.replace(TINY, num_frames=7, image_size=64, patch_size=16, width=96),
    ],
)
def test_flops_are_those_that_torch_counts(config: AimConfig) -> None:
    with torch.device("meta"):
        encoder = build_video_encoder(config).eval()
        shape = (1, config.num_frames, config.image_size, config.image_size, 3)
        frames_NTHWC = torch.zeros(shape, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(frames_NTHWC)
    flops = count_aim_flops(config)
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    assert flops.attention == counts["aten.bmm"]
    assert flops.linear + flops.attention == counter.get_total_flops()


def test_a_rate_is_work_over_time() -> None:
    rate = matmul_rate(CPU, size=64, num_runs=3, warmup=1)
    assert 0 < rate.p25 <= rate.median <= rate.p75 < 1000
    assert rate.n == 3


def test_matmul_and_encode_run_on_a_cpu_too(monkeypatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny_for_test", TINY)
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)  # compiling takes a minute
    assert measure_matmul(CPU, size=32).metrics
    found = measure_encode(
        CPU, preset="tiny_for_test", batch_sizes=(1, 2), matmul_size=64, num_runs=2
    )
    rate = found.metrics["clips_per_s"].median
    assert found.ceiling is not None
    achieved = rate * count_aim_flops(TINY).linear / 1e12
    assert found.ceiling.fraction == pytest.approx(achieved / found.ceiling.value)


def test_a_preset_that_is_not_aim_has_no_flop_count() -> None:
    with pytest.raises(ValueError, match="frame_temporal_small"):
        measure_encode(CPU, preset="frame_temporal_small")
