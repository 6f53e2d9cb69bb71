"""The benchmark of overlapping runs what a process with a GPU runs; its rates themselves are no test."""

import pytest

from benchmarks.throughput.overlap import Config, measure
from encoders.video_encoder.config import PRESETS, AimConfig

TINY = AimConfig(num_frames=3, image_size=16, patch_size=8, width=12, depth=1, num_heads=2)


@pytest.mark.long
def test_every_half_and_the_whole_have_a_rate(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    found = measure(Config(preset="tiny", num_videos=2, height=48, batch_size=2, num_rounds=1))
    assert min(found.values()) > 0
    assert found["whole_clips_per_s"] > 0


def test_settings_that_measure_nothing_are_refused():
    with pytest.raises(ValueError, match="num_rounds 0; each must be at least 1"):
        Config(num_rounds=0)
