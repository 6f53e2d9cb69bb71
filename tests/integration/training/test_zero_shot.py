"""Zero-shot rows from real videos: a random CLIP, and a bundle of stage 1."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from encoders.bundle.folder import save_bundle
from encoders.clips import read_clips
from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.config import AimConfig
from tests.support.published_models import write_clip
from training.annotations.triplets.table import read_triplets
from training.evaluation.zero_shot import ZeroShotConfig, main, measure_zero_shot


@pytest.fixture
def clip_folder(tmp_path):
    return write_clip(tmp_path / "clip")


def test_a_clip_like_model_has_three_rows(archive, clip_folder, tmp_path, capsys) -> None:
    arguments = [
        "--model",
        str(clip_folder),
        "--run-dir",
        str(tmp_path / "run"),
        "--num-frames",
        "4",
    ]
    files = ["--clips", str(archive / "clips.parquet")]
    assert main([*arguments, *files, "--triplets", str(archive / "triplets.parquet")]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [row["name"] for row in metrics["rows"]] == ["video_only", "text_only", "mean"]
    assert metrics["dead_clips"] == {}
    asked = [t for t in read_triplets(archive / "triplets.parquet") if t.split == "test"]
    assert metrics["num_queries"] == len(asked)
    num_clips = sum(c.split == "test" for c in read_clips(archive / "clips.parquet"))
    assert metrics["gallery_size"] == num_clips
    assert "5.92" in capsys.readouterr().out


def test_a_bundle_knows_no_text(archive, tmp_path) -> None:
    torch.manual_seed(0)
    shape = AimConfig(num_frames=4, image_size=32, patch_size=16, width=32, depth=1, num_heads=2)
    save_bundle(tmp_path / "bundle", video=AimEncoder(shape))
    config = ZeroShotConfig(
        model=str(tmp_path / "bundle"),
        clips=archive / "clips.parquet",
        triplets=archive / "triplets.parquet",
        run_dir=tmp_path / "run",
    )
    metrics = measure_zero_shot(config)
    assert [row["name"] for row in metrics["rows"]] == ["video_only"]
    table = pq.ParquetFile(tmp_path / "run" / "vectors.parquet").read()
    lengths = np.linalg.norm(np.stack(table["embedding"].to_numpy()), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
