"""Counted work against the Combiner's own sizes, and figures that follow from each other; the rates themselves are no test."""

import numpy as np
import pytest
import torch

from benchmarks.throughput.training import (
    PAPER_TRIPLETS,
    SpeedSize,
    _count_flop,
    _stage2_config,
    _stage2_task,
    measure_stage2,
)
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion

SMALL = SpeedSize(
    stage2_steps=3, batch_size=16, video_dim=24, text_dim=12, projection_dim=20, hidden_dim=28,
    warmup=1,
)  # fmt: skip


def test_the_paper_s_combiner_has_85_million_weights():
    size = SpeedSize(stage2_steps=1)
    with torch.device("meta"):
        shape = {"projection_dim": size.projection_dim, "hidden_dim": size.hidden_dim}
        fusion = build_fusion(
            FusionConfig(kind="combiner", video_dim=size.video_dim, text_dim=size.text_dim, **shape)
        )
    assert sum(p.numel() for p in fusion.parameters()) == pytest.approx(85.5e6, rel=0.01)


def test_work_is_counted_forward_and_back():
    task, _ = _stage2_task(SMALL, _stage2_config(SMALL), "cpu")
    n, v, d, p, h = 16, 24, 12, 20, 28
    inputs = (
        n * v * d + n * v * p
    )  # text in, and the clip's projection: their inputs have no gradient
    inner = n * v * p + 2 * n * 2 * p * h + n * h * v + n * h
    loss = 2 * n * n * v  # forward, and the queries' gradient; targets have none
    expected = 2 * (2 * inputs + 3 * inner + loss)
    assert _count_flop(task, SMALL) == pytest.approx(expected, rel=1e-9)


def test_an_epoch_is_180_thousand_triplets():
    found = measure_stage2(SMALL)
    rates = found["stage2_triplets_per_s"]
    assert rates.n == 2
    assert found["stage2_epoch_s"] == pytest.approx(PAPER_TRIPLETS / rates.median)
    assert np.isfinite(found["stage2_matmul_share"])
    share = rates.median / 16 * found["stage2_flop_per_step"] / found["matmul_flop_per_s"]
    assert found["stage2_matmul_share"] == pytest.approx(share)
